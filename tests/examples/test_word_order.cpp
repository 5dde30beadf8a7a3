#include <examples/common/words.h>
#include <examples/word_order/headlines.h>
#include <tests/examples/program.h>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include <algorithm>

using namespace unroll;
using namespace unroll::examples;
using unroll::tests::content_of;
using unroll::tests::Folder;
using unroll::tests::Outcome;
using unroll::tests::Program;

namespace {

using Words = std::vector<std::string>;

Outcome word_order(const Words& arguments) { return Program(UNROLL_EXAMPLES_DIR "/word_order", arguments).wait(); }

/// The market's and the animal's noun, in the order of the text.
Words nouns_in(const std::string& text) {
  static const std::set<std::string> nouns = {
      "market", "stock", "bank", "bond", "dollar", "fund", "share", "currency", "index", "trader", "broker", "investor",
      "bear",   "bull",  "hawk", "dove", "whale",  "wolf", "fox",   "tiger",    "lion",  "shark",  "eagle",  "stag"};
  Words found;
  for (const std::string& word : split_words(text))
    if (nouns.contains(word)) found.push_back(word);
  return found;
}

}  // namespace

TEST_CASE("the two headlines of a pair have the same words, and neither place nor noun alone decides") {
  const HeadlineParts parts = write_headlines(2000, 300, Generator(1));
  REQUIRE(parts.training.size() == 2000);
  REQUIRE(parts.test.size() == 300);
  const Words markets = {"market", "stock",    "bank",  "bond",   "dollar", "fund",
                         "share",  "currency", "index", "trader", "broker", "investor"};
  auto is_market = [&](const std::string& noun) { return std::ranges::find(markets, noun) != markets.end(); };
  std::set<std::set<std::string>> learned;
  std::set<std::string> texts;
  int market_first = 0;
  for (const auto* part : {&parts.training, &parts.test}) {
    for (const Headlines& pair : *part) {
      CAPTURE(pair[0]);
      for (const std::string& text : pair) CHECK(texts.insert(text).second);  // none twice, none in both parts
      Words a = split_words(pair[0]), b = split_words(pair[1]);
      CHECK(a != b);
      std::ranges::sort(a);
      std::ranges::sort(b);
      CHECK(a == b);
      const Words nouns = nouns_in(pair[0]);
      REQUIRE(nouns.size() == 2);
      CHECK(is_market(nouns[0]) != is_market(nouns[1]));
      CHECK(nouns_in(pair[1]) == Words{nouns[1], nouns[0]});
      // What does something is the subject.
      if (pair[0].find(nouns[0] + " falls into") != std::string::npos) CHECK(is_market(nouns[0]));
      if (pair[0].find("falls " + nouns[1]) != std::string::npos) CHECK(is_market(nouns[1]));
      market_first += is_market(nouns[0]) ? 1 : 0;
      const std::set<std::string> both(nouns.begin(), nouns.end());
      if (part == &parts.training)
        learned.insert(both);
      else
        CHECK_FALSE(learned.contains(both));
    }
  }
  CHECK(market_first > 900);
  CHECK(market_first < 1400);
  CHECK(write_headlines(50, 50, Generator(1)).training[49] == parts.training[49]);
  CHECK(write_headlines(50, 50, Generator(2)).training[49] != parts.training[49]);
}

TEST_CASE("every cell learns what a bag of words cannot, with the same bits on any number of threads") {
  Folder folder;
  for (const std::string cell : {"rnn", "lstm", "gru"}) {
    CAPTURE(cell);
    const Outcome outcome = word_order({"--out", folder / cell, "--cell", cell, "--steps", "300", "--rate", "0.01"});
    REQUIRE_MESSAGE(outcome.code == 0, outcome.err);
    const auto result = nlohmann::json::parse(outcome.last_line());
    CHECK(result["steps"] == 300);
    CHECK(result["bag_accuracy"] == 0.5);
    CHECK(result["recurrent_accuracy"].get<double>() > 0.9);
    CHECK(result["recurrent_train_nats"].get<double>() < 0.2);  // from ln 2 = 0.69
    CHECK(outcome.out.find("wildlife") != std::string::npos);
    const std::string metrics = content_of(folder / cell + "/metrics.csv");
    CHECK(
        metrics.starts_with("step,bag_accuracy," + cell + "_accuracy,bag_train_nats," + cell + "_train_nats\n20,0.5,"));
    CHECK(std::ranges::count(metrics, '\n') == 16);
  }
  for (const std::string threads : {"1", "2"})
    REQUIRE(word_order({"--out", folder / threads, "--steps", "40", "--threads", threads}).code == 0);
  CHECK(content_of(folder / "1/metrics.csv") == content_of(folder / "2/metrics.csv"));
  const Outcome again = word_order({"--out", folder / "1", "--steps", "1"});
  CHECK(again.code == 0);
  CHECK(content_of(folder / "1/earlier-1/metrics.csv") == content_of(folder / "2/metrics.csv"));
}

TEST_CASE("bad input is one clear line") {
  Folder folder;
  const std::string out = folder / "out";
  check_refused(word_order({"--out", out, "--cell", "transformer"}), "transformer");
  check_refused(word_order({"--out", out, "--hidden", "0"}), "--hidden");
  check_refused(word_order({"--out", out, "--rate", "nan"}), "--rate");
  check_refused(word_order({"--out", out, "--resume"}), "--resume");
  CHECK_FALSE(unroll::tests::fs::exists(out));
  check_refused(word_order({"--out", folder.write("file", "") + "/inside", "--steps", "1"}), "cannot be made");
}
