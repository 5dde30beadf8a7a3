// Schedules against PyTorch's schedulers (tests/golden/make_schedules.py), and what each promises besides.

#include <autograd/autograd.h>
#include <optim/schedule.h>
#include <tests/support.h>

#include <doctest/doctest.h>

#include <functional>
#include <map>

using namespace unroll;
using namespace unroll::testing;

namespace {

const Schedule decay = [](Index t) { return 1 / (1 + 0.01 * static_cast<double>(t)); };

enum class Trend { falls, rises, neither };

/// A schedule and what is known of it without asking it.
struct Row {
  Schedule schedule;
  double first, last;  ///< at steps 0 and 2^40
  double low, high;    ///< reached, within rounding, in the first 5000 steps
  double steepest;     ///< the most it changes in a step, except from t - 1 to t for t in `jumps`
  std::vector<Index> jumps = {};
  Trend trend = Trend::falls;  ///< from step `since` on
  Index since = 0;
};

constexpr double pi = 3.14159265358979323846;

// 2^40 is 576 steps into a cycle of 800, 16 into one of 333 and 3776 into one of 4000; the last restarts before it are
// at 100 (2^33 - 1) and 25 (3^22 - 1). PyTorch's peaks of one cycle are at 1199.3 and 599.15.
const std::map<std::string, Row> rows = {
    {"lambda", {decay, 1, 1 / (1 + 0.01 * 0x1p40), 1 / (1 + 0.01 * 4999), 1, 0.01}},
    {"constant",
     {schedule::sequence({{100, schedule::constant(0.3)}}, schedule::constant()),
      0.3,
      1,
      0.3,
      1,
      0,
      {100},
      Trend::rises}},
    {"step",
     {schedule::step(300, 0.7),
      1,
      0,
      std::pow(0.7, 16),
      1,
      0,
      {300, 600, 900, 1200, 1500, 1800, 2100, 2400, 2700, 3000, 3300, 3600, 3900, 4200, 4500, 4800}}},
    {"step_default", {schedule::step(1000), 1, 0, 1e-4, 1, 0, {1000, 2000, 3000, 4000}}},
    {"multi_step", {schedule::multi_step({250, 250, 1000, 3000}, 0.3), 1, 0.0081, 0.0081, 1, 0, {250, 1000, 3000}}},
    {"exponential", {schedule::exponential(0.999), 1, 0, std::pow(0.999, 4999), 1, 0.001}},
    {"linear", {schedule::linear({.steps = 500}), 1. / 3, 1, 1. / 3, 1, 2. / 1500, {}, Trend::rises}},
    {"linear_down", {schedule::linear({.from = 1, .to = 0, .steps = 3000}), 1, 0, 0, 1, 1. / 3000}},
    {"polynomial", {schedule::polynomial(3000), 1, 0, 0, 1, 1. / 3000}},
    {"polynomial_2", {schedule::polynomial(3000, 2), 1, 0, 0, 1, 2. / 3000}},
    {"polynomial_half", {schedule::polynomial(4000, 0.5), 1, 0, 0, 1, std::sqrt(1. / 4000)}},
    {"cosine", {schedule::cosine(4000), 1, 0, 0, 1, pi / 8000}},
    {"cosine_to", {schedule::cosine(4000, 0.1), 1, 0.1, 0.1, 1, 0.9 * pi / 8000}},
    {"restarts",
     {schedule::cosine_restarts({.period = 333}),
      1,
      (1 + std::cos(pi * 16 / 333)) / 2,
      (1 - std::cos(pi / 333)) / 2,
      1,
      pi / 666,
      {333, 666, 999, 1332, 1665, 1998, 2331, 2664, 2997, 3330, 3663, 3996, 4329, 4662, 4995},
      Trend::neither}},
    {"restarts_2",
     {schedule::cosine_restarts({.period = 100, .multiplier = 2, .to = 0.05}),
      1,
      0.05 + 0.95 * (1 + std::cos(pi * (0x1p40 - 100 * (0x1p33 - 1)) / (100 * 0x1p33))) / 2,
      0.05 + 0.95 * (1 - std::cos(pi / 1600)) / 2,
      1,
      0.95 * pi / 200,
      {100, 300, 700, 1500, 3100},
      Trend::falls,
      3100}},
    {"restarts_3",
     {schedule::cosine_restarts({.period = 50, .multiplier = 3}),
      1,
      (1 + std::cos(pi * (0x1p40 - 25 * (31381059609. - 1)) / (50 * 31381059609.))) / 2,
      (1 - std::cos(pi / 1350)) / 2,
      1,
      pi / 100,
      {50, 200, 650, 2000},
      Trend::falls,
      2000}},
    {"one_cycle",
     {schedule::one_cycle({.steps = 4001}),
      0.04,
      4e-6,
      4e-6,
      1 - 0.48 * (1 - std::cos(pi * 0.3 / 1199.3)),
      pi / 2 / 1199,
      {},
      Trend::falls,
      1200}},
    {"one_cycle_linear",
     {schedule::one_cycle({.steps = 4001,
                           .pct_start = 0.15,
                           .div_factor = 10,
                           .final_div_factor = 50,
                           .anneal = schedule::Anneal::linear}),
      0.1,
      0.002,
      0.002,
      0.1 + 0.9 * 599 / 599.15,
      0.9 / 599,
      {},
      Trend::falls,
      600}},
    {"one_cycle_down",
     {schedule::one_cycle({.steps = 4001, .pct_start = 0}), (1 + std::cos(pi / 4001)) / 2, 4e-6, 4e-6,
      (1 + std::cos(pi / 4001)) / 2, pi / 2 / 4000}},
    {"triangular",
     {schedule::cyclic({.base = 0.1, .up = 300, .down = 500}),
      0.1,
      0.1 + 0.9 * 224 / 500,
      0.1,
      1,
      0.9 / 300,
      {},
      Trend::neither}},
    {"triangular_default",
     {schedule::cyclic({}), 0.25, 0.25 + 0.75 * 224 / 2000, 0.25, 1, 0.75 / 2000, {}, Trend::neither}},
    {"triangular2",
     {schedule::cyclic({.base = 0.1, .up = 300, .cycle = schedule::Cycle::triangular2}),
      0.1,
      0.1,
      0.1,
      1,
      0.9 / 300,
      {},
      Trend::neither}},
    {"exp_range",
     {schedule::cyclic({.base = 0.1, .up = 250, .cycle = schedule::Cycle::exp_range, .gamma = 0.999}),
      0.1,
      0.1,
      0.1,
      0.1 + 0.9 * std::pow(0.999, 250),
      0.9 / 250,
      {},
      Trend::neither}},
    {"sequence",
     {schedule::sequence(
          {{100, schedule::linear({.from = 0.1, .to = 1, .steps = 100})}, {600, schedule::exponential(0.998)}},
          schedule::cosine(4000, 0.2)),
      0.1,
      0.2,
      0.1,
      1,
      0.009,
      {700},
      Trend::falls,
      700}},
    {"warm_up",
     {schedule::warm_up(250, schedule::step(350, 0.5), 0.01),
      0.01,
      0,
      std::pow(0.5, 13),
      1,
      0.99 / 250,
      {600, 950, 1300, 1650, 2000, 2350, 2700, 3050, 3400, 3750, 4100, 4450, 4800},
      Trend::falls,
      250}},
    {"inverse_sqrt",
     {schedule::inverse_sqrt(400), 1. / 400, 20 * 0x1p-20, 1. / 400, 1, 1. / 400, {}, Trend::falls, 399}},
};

}  // namespace

TEST_CASE("4000 steps are PyTorch's") {
  const auto golden = read_safetensors(UNROLL_SOURCE_DIR "/tests/golden/schedules.safetensors").tensors;
  const std::vector<double> steps = golden.at("steps").to_vector();
  REQUIRE(steps.back() == 4000);
  CHECK(golden.size() == rows.size() + 1);
  for (const auto& entry : rows) {
    const auto& name = entry.first;
    CAPTURE(name);
    const std::vector<double> expected = golden.at(name).to_vector();
    double worst = 0;
    for (std::size_t i = 0; i < steps.size(); ++i)
      worst = std::max(worst, std::abs(entry.second.schedule(static_cast<Index>(steps[i])) - expected[i]));
    CHECK(worst < 1e-12);
  }
}

TEST_CASE("bounds, ends, steepness and direction") {
  for (const auto& entry : rows) {
    const auto& name = entry.first;
    const Row& row = entry.second;
    CAPTURE(name);
    double low = 2, high = -1, before = row.schedule(0);
    for (Index t = 0; t < 5000; ++t) {
      const double now = row.schedule(t);
      CAPTURE(t);
      low = std::min(low, now);
      high = std::max(high, now);
      if (std::ranges::find(row.jumps, t) == row.jumps.end())
        CHECK(std::abs(now - before) <= row.steepest * (1 + 1e-9) + 1e-15);
      else
        CHECK(now != before);
      if (t > row.since && row.trend != Trend::neither)
        CHECK((row.trend == Trend::falls ? now <= before : now >= before));
      before = now;
    }
    CHECK(low == doctest::Approx(row.low).epsilon(1e-12));
    CHECK(high == doctest::Approx(row.high).epsilon(1e-12));
    CHECK(row.schedule(0) == doctest::Approx(row.first).epsilon(1e-12));
    CHECK(row.schedule(Index{1} << 40) == doctest::Approx(row.last).epsilon(1e-9));
  }
}

TEST_CASE("no memory: asked in any order, and as a copy, a schedule gives the same bits") {
  for (const auto& entry : rows) {
    const auto& name = entry.first;
    const Schedule& schedule = entry.second.schedule;
    CAPTURE(name);
    std::vector<double> forward;
    for (Index t = 0; t < 1000; ++t) forward.push_back(schedule(t));
    const Schedule copy = schedule;
    bool same = true;
    for (Index t = 999; t >= 0; --t) same = same && copy(t) == forward[static_cast<std::size_t>(t)];
    for (Index t = 0; t < 1000; ++t)
      same = same && schedule(t * 7919 % 1000) == forward[static_cast<std::size_t>(t * 7919 % 1000)];
    CHECK(same);
  }
}

TEST_CASE("the last steps that there are") {
  for (const auto& entry : rows) {
    const auto& name = entry.first;
    CAPTURE(name);
    for (Index t : {(Index{1} << 53) + 1, std::numeric_limits<Index>::max()}) CHECK(entry.second.schedule(t) <= 1);
  }
  CHECK(schedule::cosine_restarts({.period = 1, .multiplier = Index{1} << 53})(std::numeric_limits<Index>::max()) <= 1);
  CHECK(schedule::cyclic({.up = Index{1} << 53, .down = Index{1} << 53})(Index{1} << 53) == 1);
}

TEST_CASE("the shortest schedules") {
  CHECK(schedule::linear({.from = 0.5, .to = 0.25, .steps = 1})(0) == 0.5);
  CHECK(schedule::linear({.from = 0.5, .to = 0.25, .steps = 1})(1) == 0.25);
  CHECK(schedule::cosine(1)(0) == 1);
  CHECK(schedule::cosine(1)(1) == 0);
  CHECK(schedule::warm_up(1, schedule::constant())(0) == 0);
  CHECK(schedule::warm_up(1, schedule::constant())(1) == 1);
  CHECK(schedule::cosine_restarts({.period = 1})(17) == 1);
  CHECK(schedule::multi_step({})(17) == 1);
  CHECK(schedule::sequence({}, schedule::constant(0.5))(17) == 0.5);
  CHECK(schedule::inverse_sqrt(1)(0) == 1);
  CHECK(schedule::inverse_sqrt(1)(3) == 0.5);
  CHECK(schedule::cyclic({.base = 0.5, .up = 1})(0) == 0.5);
  CHECK(schedule::cyclic({.base = 0.5, .up = 1})(1) == 1);
  // The peak is at step pct_start steps - 1: before the first, at it, and at the last.
  CHECK(schedule::one_cycle({.steps = 1})(0) == doctest::Approx(4e-6));
  CHECK(schedule::one_cycle({.steps = 2, .pct_start = 0.5})(0) == 1);
  CHECK(schedule::one_cycle({.steps = 3, .pct_start = 1})(0) == doctest::Approx(0.04));
  CHECK(schedule::one_cycle({.steps = 3, .pct_start = 1})(2) == 1);
  CHECK(schedule::one_cycle({.steps = 3, .pct_start = 1})(3) == 1);
}

TEST_CASE("a schedule is made from anything that is called with a step") {
  const double gamma = 0.5;
  const std::function<double(Index)> function = [=](Index t) { return std::pow(gamma, t); };
  double (*pointer)(Index) = [](Index t) { return t == 2 ? 0.25 : 1.; };
  auto third = [](const Schedule& schedule) { return schedule(2); };
  CHECK(third(function) == 0.25);
  CHECK(third(pointer) == 0.25);
  CHECK(third([=](Index t) { return std::pow(gamma, t); }) == 0.25);
  CHECK(third([](int t) { return t; }) == 2);
  static_assert(!std::is_convertible_v<std::string, Schedule>);
  static_assert(!std::is_convertible_v<double (*)(std::string), Schedule>);
  CHECK_ERROR(Schedule{std::function<double(Index)>{}}, "Schedule", "empty");
  CHECK_ERROR(Schedule(static_cast<double (*)(Index)>(nullptr)), "Schedule", "empty");
}

TEST_CASE("a factor that is no factor is reported with its step") {
  const double infinite = std::numeric_limits<double>::infinity(), nan = std::nan("");
  for (double bad : {-0.5, infinite, -infinite, nan}) {
    const Schedule schedule = [=](Index t) { return t == 1234 ? bad : 1; };
    CHECK(schedule(1233) == 1);
    CHECK_ERROR(schedule(1234), "Schedule", "step 1234", fmt::format("{}", bad), "at least 0");
  }
  CHECK_ERROR(schedule::exponential(2)(5000), "step 5000", "inf");
  for (const auto& entry : rows) CHECK_ERROR(entry.second.schedule(-1), "Schedule", "-1");
}

TEST_CASE("arguments out of range are refused") {
  using namespace unroll::schedule;
  for (Index bad : {Index{0}, Index{-1}, (Index{1} << 53) + 1}) {
    CHECK_ERROR(step(bad), "schedule::step", "every");
    CHECK_ERROR(linear({.steps = bad}), "schedule::linear", "steps");
    CHECK_ERROR(polynomial(bad), "schedule::polynomial", "steps");
    CHECK_ERROR(cosine(bad), "schedule::cosine", "steps");
    CHECK_ERROR(cosine_restarts({.period = bad}), "schedule::cosine_restarts", "period");
    CHECK_ERROR(cosine_restarts({.period = 1, .multiplier = bad}), "schedule::cosine_restarts", "multiplier");
    CHECK_ERROR(sequence({{bad, constant()}}, constant()), "schedule::sequence", "steps");
    CHECK_ERROR(warm_up(bad, constant()), "schedule::warm_up", "steps");
    CHECK_ERROR(one_cycle({.steps = bad}), "schedule::one_cycle", "steps");
    CHECK_ERROR(cyclic({.up = bad}), "schedule::cyclic", "up");
    if (bad != 0) CHECK_ERROR(cyclic({.down = bad}), "schedule::cyclic", "down");
    CHECK_ERROR(inverse_sqrt(bad), "schedule::inverse_sqrt", "steps");
  }
  const double infinite = std::numeric_limits<double>::infinity(), nan = std::nan("");
  for (double bad : {-0.1, infinite, nan}) {
    CHECK_ERROR(constant(bad), "schedule::constant", "factor");
    CHECK_ERROR(step(1, bad), "schedule::step", "gamma");
    CHECK_ERROR(multi_step({1}, bad), "schedule::multi_step", "gamma");
    CHECK_ERROR(exponential(bad), "schedule::exponential", "gamma");
    CHECK_ERROR(linear({.from = bad, .steps = 1}), "schedule::linear", "from");
    CHECK_ERROR(linear({.to = bad, .steps = 1}), "schedule::linear", "to");
    CHECK_ERROR(cosine(1, bad), "schedule::cosine", "to");
    CHECK_ERROR(cosine_restarts({.period = 1, .to = bad}), "schedule::cosine_restarts", "to");
    CHECK_ERROR(warm_up(1, constant(), bad), "schedule::warm_up", "from");
    CHECK_ERROR(cyclic({.gamma = bad}), "schedule::cyclic", "gamma");
  }
  for (double bad : {0., -0.1, infinite, nan}) {
    CHECK_ERROR(polynomial(1, bad), "schedule::polynomial", "power");
    CHECK_ERROR(one_cycle({.steps = 1, .div_factor = bad}), "schedule::one_cycle", "div_factor");
    CHECK_ERROR(one_cycle({.steps = 1, .final_div_factor = bad}), "schedule::one_cycle", "final_div_factor");
  }
  for (double bad : {-0.1, 1.1, nan}) {
    CHECK_ERROR(one_cycle({.steps = 1, .pct_start = bad}), "schedule::one_cycle", "pct_start");
    CHECK_ERROR(cyclic({.base = bad}), "schedule::cyclic", "base");
  }
  CHECK_ERROR(multi_step({5, 3}), "schedule::multi_step", "5, 3");
  CHECK_ERROR(multi_step({-1, 3}), "schedule::multi_step", "-1, 3");
}
