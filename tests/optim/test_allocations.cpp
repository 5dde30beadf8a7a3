// What is called in every step of a training allocates nothing.

#include <autograd/autograd.h>
#include <optim/clip.h>
#include <optim/schedule.h>
#include <optim/weight_average.h>
#include <tests/count_allocations.h>
#include <tests/support.h>

#include <doctest/doctest.h>

#include <deque>

#if UNROLL_COUNTS_ALLOCATIONS && defined(__GLIBC__)

using namespace unroll;
using namespace unroll::testing;

TEST_CASE("the counter counts") {
  CHECK(allocations_of([] { Tensor({100}); }) == 1);
  CHECK(allocations_of([] { std::vector<int>(100); }) == 1);
}

TEST_CASE("clipping and averaging a thousand parameters allocates nothing") {
  std::deque<Parameter> parameters;
  std::vector<Parameter*> all;
  for (int i = 0; i < 1000; ++i) {
    const DType type = i % 2 == 0 ? float32 : float64;
    Parameter& parameter = parameters.emplace_back(fmt::format("p{}", i), Tensor({9, 70}, type));
    bool fresh;
    parameter.claim_grad(fresh).fill(i + 1);
    all.push_back(&parameter);
  }
  parameters[5].set_trainable(false);
  WeightAverage average(all);
  CHECK(allocations_of([&] { clip_grad_norm(all, 1); }) == 0);
  CHECK(allocations_of([&] { clip_grad_norm(all, 0.9, {.p = 3}); }) == 0);
  CHECK(allocations_of([&] { clip_grad_value(all, 1e-6); }) == 0);
  CHECK(allocations_of([&] { clip_grad_adaptive(all, 1e-6); }) == 0);
  CHECK(allocations_of([&] { average.update(); }) == 0);
  CHECK(allocations_of([&] { auto applied = average.apply(); }) == 0);
}

TEST_CASE("asking a schedule allocates nothing") {
  const Schedule schedule =
      schedule::warm_up(10, schedule::sequence({{5, schedule::multi_step({1, 2, 3})}, {5, schedule::cyclic({})}},
                                               schedule::cosine_restarts({.period = 3, .multiplier = 2})));
  CHECK(allocations_of([&] {
          for (Index t = 0; t < 100; ++t) (void)schedule(t);
        }) == 0);
}

#else

TEST_CASE("allocations are not counted under a sanitizer") { CHECK(true); }

#endif
