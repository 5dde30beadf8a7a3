#include <autograd/autograd.h>
#include <examples/recognise/decode.h>
#include <examples/recognise/speech.h>
#include <tests/examples/program.h>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include <map>
#include <set>

using namespace unroll::tests;
namespace recognise = unroll::examples::recognise;
using recognise::Labels;
using unroll::Generator;
using unroll::Index;

namespace {

using Arguments = std::vector<std::string>;

Outcome run(const Arguments& arguments) { return Program(UNROLL_EXAMPLES_DIR "/recognise", arguments).wait(); }

Arguments quick(const std::string& out, const Arguments& more) {
  Arguments all = {"--out", out, "--hidden", "16", "--batch", "8", "--test", "20", "--rate", "0.02"};
  all.insert(all.end(), more.begin(), more.end());
  return all;
}

/// The mean of what `f` gives for every label of this name, before one whose name begins as given.
template <class F>
double mean_over(const std::vector<recognise::Utterance>& utterances, const std::string& name, const std::string& next,
                 F&& f) {
  double sum = 0, count = 0;
  for (const auto& utterance : utterances)
    for (std::size_t k = 0; k + 1 < utterance.labels.size(); ++k)
      if (recognise::label_name(utterance.labels[k]) == name &&
          recognise::label_name(utterance.labels[k + 1]).starts_with(next)) {
        sum += f(utterance, k);
        ++count;
      }
  REQUIRE(count > 50);
  return sum / count;
}

/// The energy of an utterance in a band `after` frames after the middle of label k.
double energy(const recognise::Utterance& utterance, std::size_t k, Index after, std::size_t band) {
  return utterance.frames[static_cast<std::size_t>(utterance.when[k] + after) * recognise::bands + band];
}

/// Log probabilities of T frames.
recognise::Posteriors draw_posteriors(Index frames, Index classes, Generator& rng) {
  recognise::Posteriors p{{}, classes};
  for (Index t = 0; t < frames; ++t) {
    std::vector<double> weights;
    double sum = 0;
    for (Index c = 0; c < classes; ++c) sum += weights.emplace_back(rng.uniform(0.05, 1));
    for (double weight : weights) p.values.push_back(std::log(weight / sum));
  }
  return p;
}

/// The probability of all that can be read, by way of every path.
std::map<Labels, double> all_readings(const recognise::Posteriors& p) {
  std::map<Labels, double> readings;
  std::vector<std::int32_t> path(static_cast<std::size_t>(p.length()));
  for (;;) {
    double log_p = 0;
    Labels labels;
    for (std::size_t t = 0; t < path.size(); ++t) {
      log_p += p.at(static_cast<Index>(t), path[t]);
      if (path[t] != 0 && (t == 0 || path[t] != path[t - 1])) labels.push_back(path[t]);
    }
    readings[labels] += std::exp(log_p);
    std::size_t t = 0;
    while (t < path.size() && ++path[t] == p.classes) path[t++] = 0;
    if (t == path.size()) return readings;
  }
}

Index edits(const Labels& a, const Labels& b, std::size_t i = 0, std::size_t j = 0) {
  if (i == a.size()) return std::ssize(b) - static_cast<Index>(j);
  if (j == b.size()) return std::ssize(a) - static_cast<Index>(i);
  return std::min(
      {edits(a, b, i + 1, j + 1) + (a[i] == b[j] ? 0 : 1), edits(a, b, i + 1, j) + 1, edits(a, b, i, j + 1) + 1});
}

Labels draw_labels(Index longest, Index classes, Generator& rng) {
  Labels labels(static_cast<std::size_t>(rng.below(longest + 1)));
  for (auto& label : labels) label = 1 + static_cast<std::int32_t>(rng.below(classes - 1));
  return labels;
}

}  // namespace

TEST_CASE("utterances have the labels that they say, one after another") {
  const auto utterances = recognise::draw_utterances(1000, Generator(1));
  std::set<std::int32_t> used;
  std::set<Index> lengths;
  Index again = 0;
  for (const auto& utterance : utterances) {
    REQUIRE(utterance.when.size() == utterance.labels.size());
    REQUIRE(utterance.labels.size() >= 4);
    REQUIRE(utterance.labels.size() <= 16);
    CHECK(std::ranges::is_sorted(utterance.when, std::less_equal<>()));
    CHECK(utterance.when.back() < utterance.length());
    CHECK(std::ranges::all_of(utterance.frames, [](double x) { return std::isfinite(x); }));
    // There is room for the blanks that CTC needs.
    CHECK(utterance.length() > 2 * std::ssize(utterance.labels));
    used.insert(utterance.labels.begin(), utterance.labels.end());
    lengths.insert(utterance.length());
    again += std::ranges::adjacent_find(utterance.labels) != utterance.labels.end();
  }
  CHECK(*used.begin() == 1);
  CHECK(static_cast<std::int32_t>(used.size()) == recognise::label_count() - 1);
  CHECK(lengths.size() > 50);
  CHECK(again > 20);
  CHECK(recognise::draw_utterances(2, Generator(1))[1].frames == utterances[1].frames);
  CHECK(recognise::draw_utterances(2, Generator(2))[1].frames != utterances[1].frames);
}

TEST_CASE("labels sound like what they are") {
  const auto utterances = recognise::draw_utterances(2000, Generator(3));
  const auto in_band = [&](const std::string& name, Index after, std::size_t band, const std::string& next = "") {
    return mean_over(utterances, name, next, [&](const auto& u, std::size_t k) { return energy(u, k, after, band); });
  };
  const auto band_at = [](double hertz) {
    std::size_t band = 0;
    while (recognise::band_centre(static_cast<Index>(band)) < hertz) ++band;
    return band;
  };
  const std::size_t low = band_at(800), middle = band_at(1300), high = band_at(2290), hiss = band_at(4200);
  CHECK(in_band("i", 0, high) > in_band("i", 0, low) + 1);
  CHECK(in_band("u", 0, low) > in_band("u", 0, high) + 1);
  CHECK(in_band("s", 0, hiss) > in_band("s", 0, low) + 1);
  CHECK(in_band("t", 0, hiss) < in_band("s", 0, hiss) - 1);  // its silence
  // The same way in opposite directions.
  CHECK(in_band("ai", 2, high) > in_band("ai", -2, high) + 1);
  CHECK(in_band("ya", 2, high) < in_band("ya", -2, high) - 1);
  // One and the same burst is a p before i, and a k before a.
  CHECK(in_band("p", 1, middle, "i") > in_band("p", 1, middle, "a") + 0.5);
  CHECK(in_band("k", 1, middle, "i") < in_band("k", 1, middle, "a") - 0.5);
  // From the middle of a vowel to that of what follows, a long one takes longer, by half its four frames more.
  for (const std::string name : {"a", "i", "u"}) {
    const auto to_next = [](const auto& u, std::size_t k) { return static_cast<double>(u.when[k + 1] - u.when[k]); };
    CHECK(mean_over(utterances, name + name, "", to_next) > mean_over(utterances, name, "", to_next) + 1);
  }
}

TEST_CASE("a batch is its utterances, normalised, and nothing past their ends") {
  const auto utterances = recognise::draw_utterances(40, Generator(4));
  const recognise::Normalisation normalisation(utterances);
  const recognise::Batch batch(utterances, normalisation);
  Index frames = 0;
  std::vector<double> sum(recognise::bands), squares(recognise::bands);
  for (Index n = 0; n < 40; ++n) {
    const auto& utterance = utterances[static_cast<std::size_t>(n)];
    REQUIRE(batch.lengths[static_cast<std::size_t>(n)] == utterance.length());
    CHECK(batch.frame_counts[static_cast<std::size_t>(n)] == utterance.length());
    frames += utterance.length();
    for (Index t = 0; t < batch.frames.shape()[0]; ++t)
      for (Index b = 0; b < recognise::bands; ++b) {
        const double x = batch.frames.at({t, n, b});
        if (t >= utterance.length()) REQUIRE(x == 0);
        sum[static_cast<std::size_t>(b)] += x;
        squares[static_cast<std::size_t>(b)] += x * x;
      }
  }
  for (std::size_t b = 0; b < recognise::bands; ++b) {
    CHECK(sum[b] / static_cast<double>(frames) == doctest::Approx(0).scale(1).epsilon(1e-4));
    CHECK(squares[b] / static_cast<double>(frames) == doctest::Approx(1).epsilon(1e-4));
  }
  Labels all;
  for (const auto& utterance : utterances) all.insert(all.end(), utterance.labels.begin(), utterance.labels.end());
  CHECK(batch.labels == all);
  CHECK(batch.label_counts[3] == std::ssize(utterances[3].labels));
  // Others are treated by what those were.
  const double x = utterances[0].frames[0];
  CHECK(recognise::Batch({&utterances[0], 1}, normalisation).frames.at({0, 0, 0}) ==
        doctest::Approx(normalisation(x, 0)).epsilon(1e-5));
}

TEST_CASE("the search finds what all paths together say") {
  Generator rng(5);
  int different = 0;
  for (int i = 0; i < 30; ++i) {
    const auto p = draw_posteriors(1 + rng.below(6), 2 + rng.below(3), rng);
    const auto readings = all_readings(p);
    const auto found = recognise::prefix_beam_search(p, 100000);
    double before = 0;
    std::map<Labels, double> by_search;
    for (const auto& [labels, log_p] : found) {
      CHECK(log_p <= before);
      before = log_p;
      if (std::isfinite(log_p)) by_search[labels] = std::exp(log_p);
    }
    REQUIRE(by_search.size() == readings.size());
    for (const auto& [labels, probability] : readings)
      REQUIRE(by_search[labels] == doctest::Approx(probability).epsilon(1e-9));
    different += found.front().labels != recognise::best_path(p);
    CHECK(recognise::prefix_beam_search(p, 2).size() <= 2);
    CHECK(recognise::prefix_beam_search(p, 2).front().log_probability <= found.front().log_probability + 1e-9);

    // And CTC means the same by the probability of labels.
    unroll::Tape tape;
    const unroll::Var log_p = tape.constant(unroll::Tensor({p.length(), 1, p.classes}, p.values, unroll::float64));
    const std::vector<std::int32_t> frames = {static_cast<std::int32_t>(p.length())},
                                    count = {static_cast<std::int32_t>(found.front().labels.size())};
    const unroll::Var loss = ctc(log_p, found.front().labels, frames, count, {.reduction = unroll::Reduction::sum});
    CHECK(-loss.item() == doctest::Approx(found.front().log_probability).epsilon(1e-9));
  }
  CHECK(different > 3);
}

TEST_CASE("the best path is read without repetitions, then without blanks") {
  const std::vector<std::int32_t> path = {0, 2, 2, 0, 2, 1, 1, 2, 0};
  recognise::Posteriors p{std::vector<double>(path.size() * 3, -5.0), 3};
  for (std::size_t t = 0; t < path.size(); ++t) p.values[t * 3 + static_cast<std::size_t>(path[t])] = -0.01;
  CHECK(recognise::best_path(p) == Labels{2, 2, 1, 2});
  CHECK(recognise::prefix_beam_search(p, 4).front().labels == Labels{2, 2, 1, 2});
}

TEST_CASE("an alignment has the fewest differences") {
  CHECK(recognise::align({1, 2, 3}, {1, 3}) == recognise::Alignment{{1, 1}, {2, 0}, {3, 3}});
  CHECK(recognise::align({1}, {2, 1}) == recognise::Alignment{{0, 2}, {1, 1}});
  CHECK(recognise::align({}, {}).empty());
  Generator rng(6);
  for (int i = 0; i < 200; ++i) {
    const Labels said = draw_labels(6, 4, rng), heard = draw_labels(6, 4, rng);
    const auto alignment = recognise::align(said, heard);
    CHECK(recognise::errors(alignment) == edits(said, heard));
    Labels left, right;
    for (const auto& [a, b] : alignment) {
      if (a != 0) left.push_back(a);
      if (b != 0) right.push_back(b);
    }
    CHECK(left == said);
    CHECK(right == heard);
  }
}

TEST_CASE("a quick run learns, and is the same on other threads and in two parts") {
  Folder folder;
  const Outcome whole = run(quick(folder / "whole", {"--steps", "100", "--threads", "1"}));
  REQUIRE_MESSAGE(whole.code == 0, whole.err);
  const auto result = nlohmann::json::parse(whole.last_line());
  const Arguments models = {"frame", "window", "lstm", "bidirectional_lstm"};
  REQUIRE(result.size() == models.size());
  for (const std::string& model : models) {
    CHECK(result[model]["best_path"] <= 1.0);
    CHECK(result[model]["beam"] > 0.0);
    std::istringstream rows(content_of(folder / ("whole/" + model + "/metrics.csv")));
    std::vector<double> losses;
    for (std::string row; std::getline(rows, row);)
      if (row[0] != 's') losses.push_back(std::stod(row.substr(row.find(',', row.find(',') + 1) + 1)));
    REQUIRE(losses.size() == 2);
    CHECK(losses[1] < losses[0] - 0.1);
  }
  const std::string picture = content_of(folder / "whole/posteriors_lstm.csv");
  CHECK(std::ranges::count(picture, '\n') == 1 + recognise::label_count());
  CHECK(std::ranges::count(content_of(folder / "whole/sound.csv"), '\n') == 1 + recognise::bands);

  REQUIRE(run(quick(folder / "parts", {"--steps", "30", "--threads", "2"})).code == 0);
  const Outcome resumed = run({"--resume", "--out", folder / "parts", "--steps", "100", "--test", "20"});
  REQUIRE_MESSAGE(resumed.code == 0, resumed.err);
  CHECK(resumed.out == whole.out);
  for (const char* file : {"lstm/best.safetensors", "bidirectional_lstm/metrics.csv", "posteriors_window.csv"})
    CHECK((content_of(folder / "whole/" + file) == content_of(folder / "parts/" + file)));
  check_refused(run({"--resume", "--out", folder / "parts", "--hidden", "17"}), "does not fit");

  REQUIRE(run(quick(folder / "parts", {"--steps", "1"})).code == 0);
  CHECK(fs::exists(folder / "parts/earlier-1/lstm/best.safetensors"));
  CHECK(content_of(folder / "parts/earlier-1/posteriors_lstm.csv") == picture);
}

TEST_CASE("a signal stops it") {
  Folder folder;
  Program program(UNROLL_EXAMPLES_DIR "/recognise", quick(folder / "out", {"--steps", "100000000"}));
  REQUIRE(wait_until([&] { return fs::exists(folder / "out/frame/checkpoint.safetensors"); }));
  program.signal(SIGINT);
  const Outcome outcome = program.wait();
  CHECK(outcome.code == 130);
  CHECK(outcome.err.find("stopped after step") != std::string::npos);
}

TEST_CASE("bad input is one clear line") {
  Folder folder;
  check_refused(run({"--hidden", "0"}), "--hidden");
  check_refused(run({"--context", "-1"}), "--context");
  check_refused(run({"--beam", "many"}), "many");
  check_refused(run({"--epochs", "1"}), "--epochs");
  check_refused(run({"--resume", "--out", folder / "gone"}), "no run to resume");
  check_refused(run({"--out", folder.write("file", "x")}), "cannot be made");
}
