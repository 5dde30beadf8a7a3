#include <examples/forecast/baselines.h>
#include <tests/examples/program.h>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

using namespace unroll::tests;
using namespace unroll::examples::forecast;
using unroll::Generator;

namespace {

using Arguments = std::vector<std::string>;

Outcome forecast(const Arguments& arguments) { return Program(UNROLL_EXAMPLES_DIR "/forecast", arguments).wait(); }

/// Two columns with seasons of 6 steps, and the time of each line.
std::string waves(int lines) {
  std::string text = "\xef\xbb\xbftime,\"a, of b\",c\r\n";
  for (int t = 0; t < lines; ++t)
    text += fmt::format("day {},{},{:.3f}\r\n", t, t % 6 * (t % 6) + t % 5, 1000 + 10 * std::sin(t * M_PI / 3));
  return text;
}

Series counting(unroll::Index length) {
  Series series{{"t"}, {{}}};
  for (int t = 0; series.length() < length; ++t) series.columns[0].push_back(t);
  return series;
}

}  // namespace

TEST_CASE("the series are what they claim to be") {
  const Generator rng(3);
  const Series seasons = make_seasons(2400, rng), mackey_glass = make_mackey_glass(600, rng),
               walk = make_random_walk(4000, rng);
  CHECK(make_seasons(50, rng).columns[0] == std::vector(seasons.columns[0].begin(), seasons.columns[0].begin() + 50));

  // Day by day the mean grows, and the peak is above the trough.
  auto mean_at = [&](int hour, int first_day) {
    double sum = 0;
    for (int day = first_day; day < first_day + 50; ++day)
      sum += seasons.columns[0][static_cast<std::size_t>(24 * day + hour)];
    return sum / 50;
  };
  CHECK(mean_at(6, 0) - mean_at(18, 0) > 25);
  CHECK(mean_at(6, 50) - mean_at(18, 50) > 1.1 * (mean_at(6, 0) - mean_at(18, 0)));

  const auto& x = mackey_glass.columns[0];
  for (std::size_t t = 18; t + 1 < x.size(); ++t) {
    const double slope = 0.2 * x[t - 17] / (1 + std::pow(x[t - 17], 10)) - 0.1 * x[t];
    CHECK((x[t + 1] - x[t - 1]) / 2 == doctest::Approx(slope).epsilon(0.01).scale(0.3));
  }

  // Steps of mean 0 and variance 1 that know nothing of each other.
  double mean = 0, square = 0, product = 0;
  for (std::size_t t = 2; t < 4000; ++t) {
    const double step = walk.columns[0][t] - walk.columns[0][t - 1],
                 before = walk.columns[0][t - 1] - walk.columns[0][t - 2];
    mean += step / 4000;
    square += step * step / 4000;
    product += step * before / 4000;
  }
  CHECK(std::abs(mean) < 0.06);
  CHECK(square == doctest::Approx(1).epsilon(0.1));
  CHECK(std::abs(product) < 0.06);
}

TEST_CASE("no target of one part is in another, and nothing known is from the future") {
  const Samples samples(counting(100), 10, 4);
  const auto last_target = [&](Samples::Range range) { return range.end - 1 + samples.horizon; };
  CHECK(samples.train.begin - samples.window + 1 == 0);
  CHECK(last_target(samples.train) == 59);
  CHECK(samples.validation.begin + 1 == 60);
  CHECK(last_target(samples.validation) == 79);
  CHECK(samples.test.begin + 1 == 80);
  CHECK(last_target(samples.test) == 99);
  for (unroll::Index t : {samples.train.begin, samples.test.end - 1}) {
    CHECK(samples.value(t, 0, samples.known(t, 0, 0)) == doctest::Approx(t - 9));
    CHECK(samples.value(t, 0, samples.known(t, 9, 0)) == doctest::Approx(t));
    CHECK(samples.value(t, 0, samples.wanted(t, 0, 0)) == doctest::Approx(t + 1));
    CHECK(samples.value(t, 0, samples.wanted(t, 3, 0)) == doctest::Approx(t + 4));
  }
  // What comes later changes nothing of what is known, its unit included.
  Series other = counting(100);
  for (std::size_t t = 85; t < 100; ++t) other.columns[0][t] = -1e6;
  const Samples changed(other, 10, 4);
  CHECK(changed.known({0 + 9, 85}) == samples.known({0 + 9, 85}));
  CHECK(changed.mean_step(0) == samples.mean_step(0));
}

TEST_CASE("each baseline is right where it should be") {
  SUBCASE("a straight line: only the linear one") {
    const Samples samples(counting(200), 10, 4);
    const auto methods = baselines(samples);
    CHECK(errors_of(methods[0].second, samples, samples.test, 0).mase == doctest::Approx(2.5));
    CHECK(errors_of(methods[2].second, samples, samples.test, 0).mase < 1e-9);
  }
  SUBCASE("a season: the seasonal one, further ahead than it is long") {
    Series series = counting(200);
    for (double& value : series.columns[0]) value = std::fmod(value * value, 7);
    for (const unroll::Index window : {7, 15}) {
      const Samples samples(series, window, 9);
      const auto [name, forecasts] = baselines(samples)[1];
      CHECK(name == fmt::format("seasonal ({})", window / 7 * 7));
      const Errors errors = errors_of(forecasts, samples, samples.test, 0);
      CHECK(errors.mase < 1e-9);
      CHECK(errors.pinball < 1e-9);
    }
  }
  SUBCASE("a random walk: the band of the naive one holds four fifths") {
    const Samples samples(make_random_walk(4000, Generator(1)), 10, 3);
    const Errors errors = errors_of(baselines(samples)[0].second, samples, samples.test, 0);
    CHECK(errors.coverage == doctest::Approx(0.8).epsilon(0.08));
    CHECK(errors.by_origin.size() == static_cast<std::size_t>(samples.test.size()));
    CHECK(standard_error({1, 1, 3, 3, 5, 5}, {0, 0, 0, 0, 0, 0}, 2) == doctest::Approx(2 / std::sqrt(3)));
  }
}

TEST_CASE("a quick run learns, ends with its table, and is the same on any number of threads") {
  Folder folder;
  const Arguments quick = {"--length", "600", "--window", "24", "--horizon", "6", "--hidden", "16", "--steps", "200"};
  std::vector<nlohmann::json> results;
  for (const std::string threads : {"1", "2"}) {
    Arguments all = quick;
    all.insert(all.end(), {"--out", folder / threads, "--threads", threads});
    const Outcome outcome = forecast(all);
    REQUIRE_MESSAGE(outcome.code == 0, outcome.err);
    results.push_back(nlohmann::json::parse(outcome.last_line()));
  }
  CHECK(results[0] == results[1]);
  for (const char* file : {"errors.csv", "loss_seasons.csv", "forecast_mackey_glass.csv", "forecast_random_walk.csv"}) {
    CAPTURE(file);
    CHECK(!content_of(folder / "1/" + file).empty());
    CHECK((content_of(folder / "1/" + file) == content_of(folder / "2/" + file)));
  }
  CHECK(results[0]["seasons"]["LSTM"]["to_naive"] < 0.6);
  CHECK(results[0]["mackey_glass"]["LSTM"]["to_naive"] < 0.6);
  CHECK(results[0]["random_walk"]["LSTM"]["to_naive"] > 0.85);
}

TEST_CASE("columns of a file are forecast together") {
  Folder folder;
  const Outcome outcome = forecast({"--data", folder.write("waves.csv", waves(300)), "--out", folder / "out",
                                    "--window", "12", "--horizon", "3", "--hidden", "8", "--steps", "150"});
  REQUIRE_MESSAGE(outcome.code == 0, outcome.err);
  const auto result = nlohmann::json::parse(outcome.last_line());
  CHECK(result["a__of_b"]["LSTM"]["to_naive"] < 0.7);
  CHECK(result["c"]["LSTM"]["to_naive"] < 0.5);
  CHECK(outcome.out.find("a, of b") != std::string::npos);
  CHECK(fs::exists(folder / "out/forecast_a__of_b.csv"));
  // An earlier run is kept.
  CHECK(forecast({"--data", folder / "waves.csv", "--columns", "c", "--out", folder / "out", "--steps", "2", "--window",
                  "12", "--horizon", "3"})
            .code == 0);
  CHECK(fs::exists(folder / "out/earlier-1/errors.csv"));
}

TEST_CASE("bad input is one clear line") {
  Folder folder;
  auto with = [&](const std::string& content, const Arguments& more = {}) {
    Arguments all = {"--out", folder / "out", "--steps", "2", "--data", folder.write("data.csv", content)};
    all.insert(all.end(), more.begin(), more.end());
    return forecast(all);
  };
  check_refused(forecast({"--data", folder / "gone.csv"}), "No such file");
  check_refused(with(""), "is empty");
  check_refused(with("a,b\n"), "no line of values");
  check_refused(with("a;b\n1;2\n"), "is it CSV");
  check_refused(with("a,b\n1,2\n3\n"), "line 3: 1 cells");
  check_refused(with("a,b\n1,2\n\n3,nan\n"), "line 4, column \"b\": \"nan\" is not a finite number");
  check_refused(with("a,b\n1,2\n3,\n"), "\"\" is not a finite number");
  check_refused(with("a,b\n1,2\n", {"--columns", "a,z"}), "column \"z\" is not there; the columns are a, b");
  check_refused(with("a,a\n1,2\n"), "twice");
  check_refused(with(std::string("\xff\xfe\x61\0\x2c\0", 6)), "UTF-16");
  check_refused(with(waves(50)), "50 values are too few");
  check_refused(with(waves(300), {"--columns", "time"}), "\"day 0\" is not a finite number");
  std::string flat = "a\n";
  for (int t = 0; t < 300; ++t) flat += "5\n";
  check_refused(with(flat), "no change that could be learned");
  check_refused(forecast({"--columns", "a"}), "--data");
  check_refused(forecast({"--horizon", "0"}), "--horizon");
  check_refused(forecast({"--length", "100"}), "100 values are too few");
  CHECK_FALSE(fs::exists(folder / "out"));
}
