#pragma once

#include <autograd/shape.h>

#include <concepts>
#include <functional>
#include <type_traits>
#include <utility>
#include <vector>

namespace unroll {

/// A learning rate that changes while the training goes on: the factor on an optimizer's rate, as a function of the
/// step. Steps are counted from 0, the first.
///
///     adam.set_schedule(schedule::warm_up(1000, schedule::cosine(99'000)));
///     sgd.set_schedule([](Index step) { return 1 / (1 + 0.01 * static_cast<double>(step)); });
///
/// The factor depends on the step and on nothing else: a schedule keeps no count of its own. So saving it is saving the
/// step, which the optimizer does; a resumed run asks for the step it is at, and gets the same bits. And a plot is all
/// of them:
///
///     for (Index step = 0; step < 100'000; ++step) fmt::print("{} {}\n", step, schedule(step));
class Schedule {
 public:
  /// Any function of the step. Throws Error when there is none in it (a null pointer, an empty std::function).
  template <class F>
    requires(!std::same_as<std::remove_cvref_t<F>, Schedule> &&
             std::is_invocable_r_v<double, const std::decay_t<F>&, Index>)
  Schedule(F&& function) : function_(std::forward<F>(function)) {  // NOLINT(google-explicit-constructor)
    if (!function_) fail("Schedule: the function is empty; give one from a step to a factor");
  }

  /// Throws Error, naming the step, unless it is at least 0 and the factor finite and at least 0.
  double operator()(Index step) const;

 private:
  std::function<double(Index)> function_;
};

// f(t) is the factor at step t. All throw Error unless numbers of steps are at least 1 (and at most 2^53), and factors,
// gammas among them, finite and at least 0. Where PyTorch has the schedule, this is its definition.
namespace schedule {

/// f(t) = factor.
Schedule constant(double factor = 1);

/// f(t) = gamma^floor(t / every). PyTorch's StepLR.
Schedule step(Index every, double gamma = 0.1);

/// f(t) = gamma^(the number of milestones <= t). PyTorch's MultiStepLR. Throws Error unless the milestones are in
/// order, from 0 on.
Schedule multi_step(std::vector<Index> milestones, double gamma = 0.1);

/// f(t) = gamma^t. PyTorch's ExponentialLR.
Schedule exponential(double gamma);

struct LinearOptions {
  double from = 1. / 3;
  double to = 1;
  Index steps = 0;  ///< to be given
};

/// f(t) = from + (to - from) min(t / steps, 1). PyTorch's LinearLR.
Schedule linear(LinearOptions options);

/// f(t) = (1 - min(t / steps, 1))^power, with power above 0. PyTorch's PolynomialLR.
Schedule polynomial(Index steps, double power = 1);

/// f(t) = to + (1 - to) (1 + cos(pi min(t / steps, 1))) / 2: from 1 to `to`, where it stays. PyTorch's
/// CosineAnnealingLR, which after `steps` would rise again.
Schedule cosine(Index steps, double to = 0);

struct CosineRestartsOptions {
  Index period = 0;      ///< the first, to be given
  Index multiplier = 1;  ///< each period is this many times as long as the one before
  double to = 0;
};

/// f(t) = to + (1 - to) (1 + cos(pi t' / T)) / 2, t' steps into a period of T: 1 at every restart. PyTorch's
/// CosineAnnealingWarmRestarts. Source: Loshchilov and Hutter 2017, "SGDR: stochastic gradient descent with warm
/// restarts", equation 5.
Schedule cosine_restarts(CosineRestartsOptions options);

/// A schedule and how long it lasts.
struct Stage {
  Index steps;
  Schedule schedule;
};

/// One stage after the other, then `last`, each of them from its own step 0. PyTorch's SequentialLR, with durations in
/// place of milestones:
///
///     schedule::sequence({{1000, schedule::linear({.from = 0.1, .steps = 1000})}, {9000, schedule::constant()}},
///                        schedule::exponential(0.999))
Schedule sequence(std::vector<Stage> stages, Schedule last);

/// f(t) = from + (1 - from) t / steps while t < steps, and from then on then(t - steps).
Schedule warm_up(Index steps, Schedule then, double from = 0);

enum class Anneal { cosine, linear };

struct OneCycleOptions {
  Index steps = 0;                ///< in all, to be given
  double pct_start = 0.3;         ///< the part of them that the rate rises, in [0, 1]
  double div_factor = 25;         ///< peak over start, above 0
  double final_div_factor = 1e4;  ///< start over end, above 0
  Anneal anneal = Anneal::cosine;
};

/// Up from 1 / div_factor to 1, which it reaches at step pct_start steps - 1, and down to 1 / (div_factor
/// final_div_factor) at step steps - 1, where it stays; both ways along half a cosine or a straight line. The
/// optimizer's rate is the peak, PyTorch's max_lr. PyTorch's OneCycleLR. Source: Smith and Topin 2018,
/// "Super-convergence: very fast training of neural networks using large learning rates".
Schedule one_cycle(OneCycleOptions options);

enum class Cycle {
  triangular,   ///< a = 1
  triangular2,  ///< a = 1/2^c in cycle c = 0, 1, ...
  exp_range     ///< a = gamma^t
};

struct CyclicOptions {
  double base = 0.25;  ///< in [0, 1]
  Index up = 2000;
  Index down = 0;  ///< 0: as `up`
  Cycle cycle = Cycle::triangular;
  double gamma = 1;  ///< of exp_range alone
};

/// f(t) = base + (1 - base) h a, where h goes in a straight line from 0 to 1 in `up` steps and back in `down`, again
/// and again. The optimizer's rate is PyTorch's max_lr, and base times it base_lr. PyTorch's CyclicLR. Source: Smith
/// 2017, "Cyclical learning rates for training neural networks", section 3.
Schedule cyclic(CyclicOptions options);

/// f(t) = min(n / steps, sqrt(steps / n)) with n = t + 1: a warm-up in a straight line to 1, which it reaches with the
/// last of `steps` steps, then down with the root of the step. Source: Vaswani et al. 2017, "Attention is all you
/// need", equation 3, whose rates it gives with a rate of 1 / sqrt(d_model steps).
Schedule inverse_sqrt(Index steps);

}  // namespace schedule
}  // namespace unroll
