#include <optim/schedule.h>

#include <algorithm>
#include <cmath>
#include <numbers>

namespace unroll {

double Schedule::operator()(Index step) const {
  if (step < 0) fail("Schedule: there is no step {}; the first is 0", step);
  const double factor = function_(step);
  if (!(std::isfinite(factor) && factor >= 0))
    fail("Schedule: the factor at step {} is {}; it must be finite and at least 0", step, factor);
  return factor;
}

namespace schedule {

namespace {

/// Larger counts are not exact in double.
void need_steps(const char* function, const char* name, Index steps) {
  if (!(steps >= 1 && steps <= Index{1} << 53))
    fail("schedule::{}: {} is {}; it must be at least 1, and at most 2^53", function, name, steps);
}

void need_factor(const char* function, const char* name, double factor) {
  if (!(std::isfinite(factor) && factor >= 0))
    fail("schedule::{}: {} is {}; it must be finite and at least 0", function, name, factor);
}

void need_positive(const char* function, const char* name, double number) {
  if (!(std::isfinite(number) && number > 0))
    fail("schedule::{}: {} is {}; it must be finite and above 0", function, name, number);
}

void need_part(const char* function, const char* name, double part) {
  if (!(part >= 0 && part <= 1)) fail("schedule::{}: {} is {}; it must be in [0, 1]", function, name, part);
}

double ratio(Index a, Index b) { return static_cast<double>(a) / static_cast<double>(b); }

/// From 0 to 1 in so many steps.
double progress(Index t, Index steps) { return ratio(std::min(t, steps), steps); }

double cosine_between(double from, double to, double progress) {
  return to + (from - to) / 2 * (1 + std::cos(std::numbers::pi * progress));
}

double line_between(double from, double to, double progress) { return std::lerp(from, to, progress); }

}  // namespace

Schedule constant(double factor) {
  need_factor("constant", "factor", factor);
  return [=](Index) { return factor; };
}

Schedule step(Index every, double gamma) {
  need_steps("step", "every", every);
  need_factor("step", "gamma", gamma);
  return [=](Index t) { return std::pow(gamma, t / every); };
}

Schedule multi_step(std::vector<Index> milestones, double gamma) {
  if (!std::ranges::is_sorted(milestones) || (!milestones.empty() && milestones[0] < 0))
    fail("schedule::multi_step: the milestones are {}; they must be in order, from 0 on", fmt::join(milestones, ", "));
  need_factor("multi_step", "gamma", gamma);
  return [milestones = std::move(milestones), gamma](Index t) {
    return std::pow(gamma, std::ranges::upper_bound(milestones, t) - milestones.begin());
  };
}

Schedule exponential(double gamma) {
  need_factor("exponential", "gamma", gamma);
  return [=](Index t) { return std::pow(gamma, t); };
}

Schedule linear(LinearOptions o) {
  need_steps("linear", "steps", o.steps);
  need_factor("linear", "from", o.from);
  need_factor("linear", "to", o.to);
  return [=](Index t) { return line_between(o.from, o.to, progress(t, o.steps)); };
}

Schedule polynomial(Index steps, double power) {
  need_steps("polynomial", "steps", steps);
  need_positive("polynomial", "power", power);
  return [=](Index t) { return std::pow(1 - progress(t, steps), power); };
}

Schedule cosine(Index steps, double to) {
  need_steps("cosine", "steps", steps);
  need_factor("cosine", "to", to);
  return [=](Index t) { return cosine_between(1, to, progress(t, steps)); };
}

Schedule cosine_restarts(CosineRestartsOptions o) {
  need_steps("cosine_restarts", "period", o.period);
  need_steps("cosine_restarts", "multiplier", o.multiplier);
  need_factor("cosine_restarts", "to", o.to);
  return [=](Index t) {
    auto into = static_cast<double>(t), period = static_cast<double>(o.period);
    if (o.multiplier == 1) into = std::fmod(into, period);
    for (; into >= period; period *= static_cast<double>(o.multiplier)) into -= period;
    return cosine_between(1, o.to, into / period);
  };
}

Schedule sequence(std::vector<Stage> stages, Schedule last) {
  for (const Stage& stage : stages) need_steps("sequence", "the number of a stage's steps", stage.steps);
  return [stages = std::move(stages), last = std::move(last)](Index t) {
    for (const Stage& stage : stages) {
      if (t < stage.steps) return stage.schedule(t);
      t -= stage.steps;
    }
    return last(t);
  };
}

Schedule warm_up(Index steps, Schedule then, double from) {
  need_steps("warm_up", "steps", steps);
  need_factor("warm_up", "from", from);
  return sequence({{steps, linear({.from = from, .to = 1, .steps = steps})}}, std::move(then));
}

Schedule one_cycle(OneCycleOptions o) {
  need_steps("one_cycle", "steps", o.steps);
  need_part("one_cycle", "pct_start", o.pct_start);
  need_positive("one_cycle", "div_factor", o.div_factor);
  need_positive("one_cycle", "final_div_factor", o.final_div_factor);
  const auto between = o.anneal == Anneal::cosine ? cosine_between : line_between;
  const double start = 1 / o.div_factor, end = start / o.final_div_factor;
  const double last = static_cast<double>(o.steps) - 1, peak = o.pct_start * static_cast<double>(o.steps) - 1;
  return [=](Index step) {
    const double t = std::min(static_cast<double>(step), last);
    if (t <= peak) return peak > 0 ? between(start, 1, t / peak) : 1;
    return between(1, end, (t - peak) / (last - peak));
  };
}

Schedule cyclic(CyclicOptions o) {
  if (o.down == 0) o.down = o.up;
  need_steps("cyclic", "up", o.up);
  need_steps("cyclic", "down", o.down);
  need_part("cyclic", "base", o.base);
  need_factor("cyclic", "gamma", o.gamma);
  return [=](Index t) {
    const Index period = o.up + o.down, into = t % period;
    const double height = into < o.up ? ratio(into, o.up) : ratio(period - into, o.down);
    const double amplitude = o.cycle == Cycle::triangular    ? 1
                             : o.cycle == Cycle::triangular2 ? std::exp2(-(t / period))
                                                             : std::pow(o.gamma, t);
    return o.base + (1 - o.base) * height * amplitude;
  };
}

Schedule inverse_sqrt(Index steps) {
  need_steps("inverse_sqrt", "steps", steps);
  return [w = static_cast<double>(steps)](Index t) {
    const double n = static_cast<double>(t) + 1;
    return std::min(n / w, std::sqrt(w / n));
  };
}

}  // namespace schedule
}  // namespace unroll
