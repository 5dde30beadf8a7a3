#include <examples/why_lstm/recall.h>
#include <tests/examples/program.h>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <sstream>

using namespace unroll::tests;

namespace {

Outcome why_lstm(const std::vector<std::string>& arguments) {
  return Program(UNROLL_EXAMPLES_DIR "/why_lstm", arguments).wait();
}

/// Small enough for a second, large enough to learn.
std::vector<std::string> quick(const std::string& out) {
  return {"--out", out, "--hidden", "64", "--length", "12", "--steps", "240", "--rate", "0.01"};
}

double largest_in_column(const std::string& csv, std::size_t column) {
  std::istringstream lines(content_of(csv));
  double largest = 0;
  std::string line, cell;
  std::getline(lines, line);  // the names
  while (std::getline(lines, line)) {
    std::istringstream cells(line);
    for (std::size_t i = 0; i <= column; ++i) std::getline(cells, cell, ',');
    if (!cell.empty()) largest = std::max(largest, std::stod(cell));
  }
  return largest;
}

}  // namespace

TEST_CASE("the target is the first number, and nothing else tells it") {
  unroll::Generator rng(1);
  const unroll::examples::Recall data(30, 400, rng);
  REQUIRE(data.x.shape() == unroll::Shape({30, 400, 2}));
  REQUIRE(data.first.shape() == unroll::Shape({400, 1}));
  double square = 0, with_second = 0;
  for (unroll::Index n = 0; n < 400; ++n) {
    const double first = data.first.at({n, 0});
    CHECK(first == data.x.at({0, n, 0}));
    for (unroll::Index t = 0; t < 30; ++t) {
      CHECK(data.x.at({t, n, 1}) == (t == 0 ? 1 : 0));
      CHECK(std::abs(data.x.at({t, n, 0})) <= 1);
    }
    square += first * first / 400;
    with_second += first * data.x.at({1, n, 0}) / 400;
  }
  CHECK(square == doctest::Approx(1.0 / 3).epsilon(0.15));
  CHECK(std::abs(with_second) < 0.07);  // four standard deviations
  CHECK(unroll::examples::Recall(30, 400, rng).first.to_vector() != data.first.to_vector());
}

TEST_CASE("gradients vanish in the RNN, are carried in the LSTM, and explode with large weights") {
  Folder folder;
  const Outcome outcome = why_lstm(quick(folder / "out"));
  REQUIRE_MESSAGE(outcome.code == 0, outcome.err);
  const auto result = nlohmann::json::parse(outcome.last_line());
  CHECK(result["lengths"] == nlohmann::json({10, 20, 50, 100, 200, 500}));
  const auto at = [&](const char* when, const char* name, std::size_t i) {
    return result[when][name][i].get<double>();
  };
  // With PyTorch's weights |W_hh h| is 1 / sqrt(3) of |h| or so: 0.577^100 is 1e-24.
  CHECK(at("reach_start", "RNN h", 3) < 1e-15);
  CHECK(at("reach_start", "GRU h", 3) < 1e-10);
  CHECK(at("reach_start", "LSTM c", 3) > 1e-15);
  CHECK(at("reach_start", "RNN (W_hh x 4) h", 1) > 1);
  CHECK(at("reach_trained", "LSTM c", 0) > 10 * at("reach_start", "LSTM c", 0));
  CHECK(at("error", "no memory", 0) == doctest::Approx(1 / std::sqrt(3.0)).epsilon(0.05));
  CHECK(at("error", "LSTM", 0) < 0.2);
  CHECK(at("error", "GRU", 0) < 0.2);
  CHECK(result["clipped_steps"] == 500);
  CHECK(result["clipped_loss"] < 0.25);
  // When a chaotic descent leaves the numbers depends on their last bits; that it goes astray does not.
  CHECK(largest_in_column(folder / "out/clipping.csv", 1) > 10);
  CHECK(largest_in_column(folder / "out/clipping.csv", 2) < 1);

  for (const std::string name : {"gradient_start", "gradient_trained", "reach", "clipping"}) {
    const std::string csv = content_of(folder / "out/" + name + ".csv");
    const auto rows = name == "reach" ? 6 : name == "clipping" ? 500 : 12;
    CHECK_MESSAGE(std::ranges::count(csv, '\n') == rows + 1, name);
    CHECK_MESSAGE(csv.find("nan") == csv.npos, name);
  }
  CHECK(content_of(folder / "out/gradient_start.csv")
            .starts_with("step t,RNN h,GRU h,LSTM h,LSTM c,RNN (W_hh x 4) h\n1,"));
}

TEST_CASE("the same bits on any number of threads, and the run before is kept") {
  Folder folder;
  const auto run = [&](const std::string& threads) {
    return why_lstm(
        {"--out", folder / "out", "--hidden", "16", "--length", "12", "--steps", "20", "--threads", threads});
  };
  const Outcome one = run("1"), two = run("2");
  REQUIRE_MESSAGE(one.code == 0, one.err);
  CHECK(two.out == one.out);
  CHECK(two.err.find("earlier-1") != std::string::npos);
  CHECK(content_of(folder / "out/earlier-1/reach.csv") == content_of(folder / "out/reach.csv"));
}

TEST_CASE("a larger forget bias carries the gradient further from the start") {
  Folder folder;
  std::vector<double> reached;
  for (const char* bias : {"0", "1", "3"}) {
    const Outcome outcome =
        why_lstm({"--out", folder / "out", "--hidden", "8", "--length", "12", "--steps", "1", "--forget-bias", bias});
    REQUIRE_MESSAGE(outcome.code == 0, outcome.err);
    reached.push_back(nlohmann::json::parse(outcome.last_line())["reach_start"]["LSTM c"][3]);
  }
  CHECK(reached[0] * 1e6 < reached[1]);
  CHECK(reached[1] * 1e3 < reached[2]);
}

TEST_CASE("a signal stops it") {
  Folder folder;
  Program run(UNROLL_EXAMPLES_DIR "/why_lstm", {"--out", folder / "out", "--steps", "100000000", "--hidden", "4"});
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  run.signal(SIGINT);
  const Outcome outcome = run.wait();
  CHECK(outcome.code == 130);
  CHECK(outcome.err.find("stopped") != std::string::npos);
  CHECK(outcome.out == "");
}

TEST_CASE("bad input is one clear line") {
  Folder folder;
  check_refused(why_lstm({"--length", "1"}), "--length");
  check_refused(why_lstm({"--hidden", "0"}), "--hidden");
  check_refused(why_lstm({"--scale", "nan"}), "--scale");
  check_refused(why_lstm({"--forget-bias", "lots"}), "lots");
  check_refused(why_lstm({"--resume"}), "--resume");
  check_refused(why_lstm({"--out", folder.write("file", "x")}), "cannot be made");
}
