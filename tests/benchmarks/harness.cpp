#include <tests/benchmarks/harness.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <thread>

namespace unroll::benchmarks {

namespace {

using Clock = std::chrono::steady_clock;

double milliseconds(const std::function<void()>& run, long times) {
  const auto start = Clock::now();
  for (long i = 0; i < times; ++i) run();
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

/// A contender that is being measured.
struct Turn {
  Contender contender;
  double no_warm_up_ms;
  long iterations = 1;
  double one_ms = 0;
  std::vector<double> samples = {};

  void take_sample() {
    contender.prepare();
    samples.push_back(time_of_one());
    settle();
  }
  /// Finds how many runs make a sample.
  void calibrate(double sample_ms) {
    contender.prepare();
    one_ms = time_of_one();
    while (one_ms * static_cast<double>(iterations) < sample_ms / 4) {
      iterations = std::min(iterations * 8, static_cast<long>(sample_ms / std::max(one_ms, 1e-6)) + 1);
      one_ms = time_of_one();
    }
    iterations = std::max(1L, std::lround(std::ceil(sample_ms / one_ms)));
    settle();
  }
  /// The first run after another's turn starts threads and fills caches, which no longer matters when it takes long.
  double time_of_one() const {
    if (one_ms < no_warm_up_ms) contender.run();
    return milliseconds(contender.run, iterations) / static_cast<double>(iterations);
  }
  void settle() const { std::this_thread::sleep_for(std::chrono::duration<double, std::milli>(contender.settle_ms)); }
  double cost_ms() const { return one_ms * static_cast<double>(iterations + 1) + contender.settle_ms; }
};

double quantile(std::vector<double> samples, double q) {
  std::ranges::sort(samples);
  const double at = q * static_cast<double>(samples.size() - 1);
  const auto below = static_cast<std::size_t>(at), above = std::min(below + 1, samples.size() - 1);
  return samples[below] + (at - static_cast<double>(below)) * (samples[above] - samples[below]);
}

Timing summary(const std::vector<double>& samples, const std::vector<double>& first) {
  std::vector<double> ratios(samples.size());
  std::ranges::transform(samples, first, ratios.begin(), std::divides<>());
  return {quantile(samples, 0.5), quantile(samples, 0), quantile(samples, 0.1), quantile(samples, 0.9),
          quantile(ratios, 0.5)};
}

double relative_difference(const Tensor& a, const Tensor& b) {
  if (a.size() != b.size()) return INFINITY;
  const std::vector<double> x = a.to_vector(), y = b.to_vector();
  double difference = 0, size = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    if (!std::isfinite(x[i]) || !std::isfinite(y[i])) return INFINITY;
    difference = std::max(difference, std::abs(x[i] - y[i]));
    size = std::max({size, std::abs(x[i]), std::abs(y[i])});
  }
  return difference == 0 ? 0 : difference / size;
}

}  // namespace

void check_agreement(const Case& c, const Contenders& contenders) {
  Values expected;
  for (const Contender& contender : contenders) {
    if (!contender.result) continue;
    contender.prepare();
    const Values values = contender.result();
    if (expected.empty()) expected = values;
    for (const auto& [name, value] : values)
      if (const double off = relative_difference(expected.at(name), value); off > 1e-3)
        fail("{} of {}, batch {}, steps {}, input {}, hidden {}, layers {}: {}'s {} is off by {:.2g}", c.topic, c.cell,
             c.sizes.batch, c.sizes.steps, c.sizes.input, c.sizes.hidden, c.sizes.layers, contender.name, name, off);
  }
}

std::vector<std::pair<std::string, Timing>> measure(const Contenders& contenders, const Effort& effort) {
  std::vector<Turn> turns;
  std::map<std::string, double> fastest_ms;
  for (const Contender& contender : contenders) {
    Turn& turn = turns.emplace_back(Turn{contender, 5 * effort.sample_ms});
    turn.calibrate(effort.sample_ms);
    double& fastest = fastest_ms.try_emplace(contender.name, turn.one_ms).first->second;
    fastest = std::min(fastest, turn.one_ms);
  }
  std::erase_if(turns, [&](const Turn& turn) { return turn.one_ms > 1.5 * fastest_ms.at(turn.contender.name); });

  double round_ms = 0;
  for (const Turn& turn : turns) round_ms += turn.cost_ms();
  const int rounds = std::clamp(static_cast<int>(effort.seconds * 1000 / round_ms), effort.fewest, effort.most);
  for (int round = 0; round < rounds; ++round)
    for (std::size_t i = 0; i < turns.size(); ++i) turns[round % 2 == 0 ? i : turns.size() - 1 - i].take_sample();

  std::vector<std::pair<std::string, Timing>> timings;
  for (const Turn& turn : turns) {
    const std::string& name = turn.contender.name;
    const Timing timing = summary(turn.samples, turns.front().samples);
    auto same = std::ranges::find(timings, name, &std::pair<std::string, Timing>::first);
    if (same == timings.end())
      timings.emplace_back(name, timing);
    else if (timing.median < same->second.median)
      same->second = timing;
  }
  return timings;
}

}  // namespace unroll::benchmarks
