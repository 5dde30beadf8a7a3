// For what its header keeps to itself.
#include <examples/long_memory/tasks.cpp>

#include <tests/examples/program.h>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <sstream>

using namespace unroll::tests;

namespace {

Outcome long_memory(const std::vector<std::string>& arguments) {
  return Program(UNROLL_EXAMPLES_DIR "/long_memory", arguments).wait();
}

std::vector<std::string> quick(const std::string& out, const std::vector<std::string>& more) {
  std::vector<std::string> all = {"--out", out, "--hidden", "32", "--rate", "0.02"};
  all.insert(all.end(), more.begin(), more.end());
  return all;
}

}  // namespace

TEST_CASE("the adding problem asks for the sum of the two marked numbers") {
  unroll::Generator rng(1);
  const unroll::examples::Episodes e = unroll::examples::adding_task().draw(11, 2000, rng);
  double square = 0, close = 0;
  for (unroll::Index n = 0; n < 2000; ++n) {
    double sum = 0, first_half = 0, second_half = 0;
    for (unroll::Index t = 0; t < 11; ++t) {
      sum += e.numbers.at({t, n, 0}) * e.numbers.at({t, n, 1});
      (t < 5 ? first_half : second_half) += e.numbers.at({t, n, 1});
    }
    REQUIRE(first_half == 1);
    REQUIRE(second_half == 1);
    REQUIRE(e.sums.at({0, n, 0}) == doctest::Approx(sum));
    square += (sum - 1) * (sum - 1) / 2000;
    close += std::abs(sum - 1) < unroll::examples::close_enough ? 1.0 / 2000 : 0;
  }
  CHECK(square == doctest::Approx(unroll::examples::adding_task().loss_without_memory(11)).epsilon(0.1));
  CHECK(close == doctest::Approx(unroll::examples::adding_task().success_without_memory).epsilon(0.15));
}

TEST_CASE("copy memory asks for the first ten symbols, at the end") {
  unroll::Generator rng(1);
  const unroll::examples::Episodes e = unroll::examples::copy_task().draw(7, 5, rng);
  REQUIRE(e.tokens.size() == 27 * 5);
  REQUIRE(e.classes.size() == 27 * 5);
  CHECK(e.answers == 27);
  for (std::size_t t = 0; t < 27; ++t)
    for (std::size_t n = 0; n < 5; ++n) {
      CHECK((t < 10 ? e.tokens[t * 5 + n] < 8 : e.tokens[t * 5 + n] == (t == 16 ? 9 : 8)));
      CHECK(e.classes[t * 5 + n] == (t < 17 ? 8 : e.tokens[(t - 17) * 5 + n]));
    }
  CHECK(unroll::examples::copy_task().loss_without_memory(80) == doctest::Approx(0.2079).epsilon(0.001));
}

TEST_CASE("sentences end in the language of the first country, others may lie between") {
  unroll::Generator rng(1);
  int distracted = 0;
  for (int i = 0; i < 200; ++i) {
    const unroll::examples::Sentence s = unroll::examples::draw_sentence(30, rng);
    REQUIRE(s.words.size() == 6 + 30 + 2);
    CHECK(s.words[4] == unroll::examples::homes[s.home].first);
    CHECK(s.words.back() == "speak");
    for (std::size_t t = 6; t < s.words.size(); ++t)
      distracted += std::ranges::find(unroll::examples::homes, s.words[t], [](const auto& home) {
                      return std::string(home.first);
                    }) != std::end(unroll::examples::homes);
  }
  CHECK(distracted > 50);
  CHECK(distracted < 300);
  unroll::Generator same(2), again(2);
  const unroll::examples::Episodes e = unroll::examples::sentence_task().draw(30, 3, same);
  for (std::size_t n = 0; n < 3; ++n) {
    const unroll::examples::Sentence s = unroll::examples::draw_sentence(30, again);
    CHECK(e.classes[n] == s.home);
    for (std::size_t t = 0; t < 38; ++t)
      CHECK(unroll::examples::vocabulary()[static_cast<std::size_t>(e.tokens[t * 3 + n])] == s.words[t]);
  }
}

TEST_CASE("every model learns over a short gap, with the same bits on any number of threads") {
  Folder folder;
  const auto run = [&](const std::string& threads) {
    return long_memory(
        quick(folder / "out", {"--task", "sentence", "--gaps", "1,2", "--steps", "1000", "--threads", threads}));
  };
  const Outcome outcome = run("1");
  REQUIRE_MESSAGE(outcome.code == 0, outcome.err);
  const auto result = nlohmann::json::parse(outcome.last_line());
  for (const char* cell : {"rnn", "gru", "lstm"}) {
    CHECK(result["sentence"][cell][1]["gap"] == 2);
    CHECK(result["sentence"][cell][1]["success"] > 0.8);
    CHECK(result["sentence"][cell][1]["loss"] < 1.5);
  }
  const std::string csv = content_of(folder / "out/sentence.csv");
  CHECK(csv.starts_with("gap,rnn,gru,lstm,no_memory\n1,"));
  CHECK(std::ranges::count(csv, '\n') == 3);
  const Outcome again = run("2");
  CHECK(again.out == outcome.out);
  CHECK(content_of(folder / "out/earlier-1/sentence.csv") == csv);
}

TEST_CASE("the other tasks learn too") {
  Folder folder;
  for (const std::string task : {"adding", "copy"}) {
    const Outcome outcome =
        long_memory(quick(folder / task, {"--task", task, "--gaps", "2", "--steps", task == "copy" ? "60" : "150"}));
    REQUIRE_MESSAGE(outcome.code == 0, outcome.err);
    const auto result = nlohmann::json::parse(outcome.last_line());
    CHECK(result[task]["lstm"][0]["loss"] < (task == "copy" ? 1.2 : 0.1));
    CHECK(result.size() == 1);
  }
}

TEST_CASE("a signal stops it") {
  Folder folder;
  Program run(UNROLL_EXAMPLES_DIR "/long_memory", quick(folder / "out", {"--steps", "100000000"}));
  REQUIRE(wait_until([&] { return fs::exists(folder / "out"); }));
  run.signal(SIGINT);
  const Outcome outcome = run.wait();
  CHECK(outcome.code == 130);
  CHECK(outcome.err.find("stopped") != std::string::npos);
}

TEST_CASE("bad input is one clear line") {
  Folder folder;
  check_refused(long_memory({"--task", "chess"}), "chess");
  check_refused(long_memory({"--gaps", "0"}), "--gaps");
  check_refused(long_memory({"--gaps", "5,many"}), "many");
  check_refused(long_memory({"--task", "adding", "--gaps", "1"}), "--gaps 1: the task adding needs 2 steps at least");
  check_refused(long_memory({"--resume"}), "--resume");
  check_refused(long_memory({"--out", folder.write("file", "x")}), "cannot be made");
}
