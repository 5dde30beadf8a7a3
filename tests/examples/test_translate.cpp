#include <examples/translate/tokens.h>
#include <tests/examples/program.h>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include <map>

using namespace unroll::tests;
using namespace unroll::examples::translate;
using unroll::Generator;

namespace {

using Arguments = std::vector<std::string>;

Outcome translate(const Arguments& arguments) { return Program(UNROLL_EXAMPLES_DIR "/translate", arguments).wait(); }

Arguments quick(const std::string& out, const Arguments& more) {
  Arguments all = {"--out",   out,  "--hidden", "24",   "--embedding", "12",
                   "--batch", "32", "--rate",   "0.01", "--test",      "30"};
  all.insert(all.end(), more.begin(), more.end());
  return all;
}

/// The number that words say, read by a rule of its own: 0 to 999, then its unit.
std::int64_t value_of(const std::string& text) {
  std::int64_t all = 0, group = 0;
  for (const std::string& word : tokens_of(text)) {
    const auto small = std::ranges::find(small_numbers, word);
    const auto ten = std::ranges::find(tens, word);
    if (small != small_numbers.end())
      group += small - small_numbers.begin();
    else if (ten != tens.end())
      group += 10 * (ten - tens.begin());
    else if (word == "hundred")
      group *= 100;
    else if (word == "thousand" || word == "million") {
      all += group * (word == "thousand" ? 1000 : 1000000);
      group = 0;
    } else if (word != "and" && word != "-") {
      return -1;
    }
  }
  return all + group;
}

}  // namespace

TEST_CASE("numbers and dates are said as people say them") {
  CHECK(in_words(0, true) == "zero");
  CHECK(in_words(307012, true) == "three hundred and seven thousand and twelve");
  CHECK(in_words(307012, false) == "three hundred seven thousand twelve");
  CHECK(in_words(40'000'021, true) == "forty million and twenty-one");
  CHECK(in_words(999'999'999, false).starts_with("nine hundred ninety-nine million nine"));
  CHECK(day_in_words(31) == "thirty-first");
  CHECK(day_in_words(30) == "thirtieth");
  CHECK(day_in_words(20) == "twentieth");
  for (const auto& [day, text] : std::map<unsigned, std::string>{{1, "1st"},
                                                                 {2, "2nd"},
                                                                 {3, "3rd"},
                                                                 {4, "4th"},
                                                                 {11, "11th"},
                                                                 {12, "12th"},
                                                                 {20, "20th"},
                                                                 {22, "22nd"},
                                                                 {30, "30th"}})
    CHECK(day_with_ending(day) == text);
  CHECK(year_in_words(1987) == "nineteen eighty-seven");
  CHECK(year_in_words(1805) == "eighteen oh five");
  CHECK(year_in_words(1900) == "nineteen hundred");
  CHECK(year_in_words(2000) == "two thousand");
  CHECK(year_in_words(2009) == "two thousand and nine");
  CHECK(year_in_words(2012) == "twenty twelve");

  const Words words;
  Generator rng(4);
  for (int i = 0; i < 2000; ++i) {
    const Phrase number = draw_number(rng), date = draw_date(rng);
    CHECK(value_of(number.text) == std::stoll(number.answer));
    CHECK_NOTHROW(words.encode(number.text));
    CHECK_NOTHROW(words.encode(date.text));
    CHECK(static_cast<unroll::Index>(date.answer.size()) + 1 <= answers::longest);
    const unsigned month = static_cast<unsigned>(std::stoi(date.answer.substr(5, 2)));
    CHECK(date.text.find(std::string(months[month - 1]).substr(0, 3)) != std::string::npos);
    const std::string year = date.answer.substr(0, 4), in_letters = year_in_words(std::stoi(year));
    CHECK((date.text.find(year) != std::string::npos || date.text.find(in_letters) != std::string::npos));
    const std::string day = std::to_string(std::stoi(date.answer.substr(8)));
    CHECK((date.text.find(day) != std::string::npos ||
           date.text.find(day_in_words(static_cast<unsigned>(std::stoi(day)))) != std::string::npos));
  }
}

TEST_CASE("no answer is in two parts") {
  std::map<std::string, Part> parts;
  for (const Part part : {Part::train, Part::validation, Part::test})
    for (const Phrase& phrase : draw_phrases(part, 1000, Generator(7)))
      CHECK(parts.emplace(phrase.answer, part).second);
  std::map<Part, int> counts;
  Generator rng(8);
  for (int i = 0; i < 5000; ++i) ++counts[part_of(draw_date(rng).answer)];
  CHECK(counts[Part::validation] == doctest::Approx(500).epsilon(0.15));
  CHECK(counts[Part::test] == doctest::Approx(500).epsilon(0.15));
}

TEST_CASE("a batch is what its phrases are") {
  CHECK(tokens_of("March 23rd,1987") == std::vector<std::string>{"march", "2", "3", "rd", ",", "1", "9", "8", "7"});
  const Words words;
  const Batch batch({{"seven", "7"}, {"twenty-one", "21"}}, words);
  CHECK(batch.lengths == std::vector<unroll::Index>{1, 3});
  CHECK(batch.steps == 3);
  CHECK(batch.inputs[0] == words.encode("Seven")[0]);
  CHECK(batch.inputs[3] == words.encode("-")[0]);
  CHECK(batch.targets == Ids{7, 2, answers::end, 1, Batch::padding, answers::end});
  CHECK(text_of({1, 10, 0}) == "1-0");
}

TEST_CASE("a quick run learns, can be resumed, and translates") {
  Folder folder;
  const Outcome whole = translate(quick(folder / "whole", {"--steps", "150", "--threads", "1"}));
  REQUIRE_MESSAGE(whole.code == 0, whole.err);
  const auto result = nlohmann::json::parse(whole.last_line());
  CHECK(result["validation_nats"] < 1.2);  // from ln 12 = 2.48
  CHECK(result["dates"].contains("beam"));
  const std::string map = content_of(folder / "whole/attention_dates.csv");
  CHECK(map.starts_with("what it writes,"));
  CHECK(std::ranges::count(map, '\n') > 2);

  REQUIRE(translate(quick(folder / "parts", {"--steps", "70", "--threads", "2"})).code == 0);
  const Outcome resumed = translate({"--resume", "--out", folder / "parts", "--steps", "150", "--test", "30"});
  REQUIRE_MESSAGE(resumed.code == 0, resumed.err);
  for (const char* file : {"best.safetensors", "metrics.csv", "attention_dates.csv"})
    CHECK((content_of(folder / "whole/" + file) == content_of(folder / "parts/" + file)));

  const Outcome one = translate({"--out", folder / "whole", "--translate", "Seven hundred and two", "--beam", "2"});
  REQUIRE_MESSAGE(one.code == 0, one.err);
  CHECK(std::ranges::count(one.out, '\n') == 2);
  CHECK(one.out.find(" %\n") != std::string::npos);

  check_refused(translate({"--out", folder / "whole", "--translate", "seven zillion"}),
                "\"zillion\" occurs in no phrase");
  check_refused(translate({"--out", folder / "whole", "--translate", "\xc3\xbc"}), "occurs in no phrase");
  check_refused(translate({"--out", folder / "whole", "--translate", " "}), "nothing to translate");
  check_refused(translate({"--out", folder / "whole", "--translate", "one", "--hidden", "7"}), "does not fit");
  check_refused(translate({"--out", folder / "gone", "--translate", "one"}), "No such file");
  check_refused(translate({"--out", folder.write("text", "one"), "--translate", "one"}), "not a safetensors file");
  check_refused(translate({"--resume", "--out", folder / "parts", "--attention", "none"}), "does not fit");
}

TEST_CASE("without attention there is no picture of it; and bad options are one clear line") {
  Folder folder;
  const Outcome outcome = translate(quick(folder / "out", {"--steps", "3", "--attention", "none"}));
  REQUIRE_MESSAGE(outcome.code == 0, outcome.err);
  CHECK_FALSE(fs::exists(folder / "out/attention_dates.csv"));
  CHECK(translate({"--out", folder / "out", "--translate", "one"}).code == 0);
  check_refused(translate({"--attention", "hard"}), "hard");
  check_refused(translate({"--beam", "0"}), "--beam");
}
