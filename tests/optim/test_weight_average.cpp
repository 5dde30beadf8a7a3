// Moving averages of weights, and models that borrow them.

#include <autograd/autograd.h>
#include <autograd/parallel.h>
#include <optim/stateful.h>
#include <optim/weight_average.h>
#include <tests/support.h>

#include <doctest/doctest.h>
#include <oneapi/tbb/task_arena.h>

using namespace unroll;
using namespace unroll::testing;

static_assert(Stateful<WeightAverage>);

namespace {

using State = std::map<std::string, Tensor>;

/// Two parameters that move as a training might move them.
struct Weights {
  Parameter a, b;
  std::uint64_t step = 0;
  explicit Weights(DType type = float64)
      : a("a", random_tensor({5, 3}, 1, -1, 1, type)), b("b", random_tensor({4}, 2, -1, 1, type)) {}
  std::vector<Parameter*> all() { return {&a, &b}; }
  void move() {
    ++step;
    for (Parameter* parameter : all())
      parameter->value() = random_tensor(parameter->shape(), 10 + step, -1, 1, parameter->dtype());
  }
};

Tensor average_of(WeightAverage& average, const Parameter& parameter) {
  auto applied = average.apply();
  return parameter.value();
}

}  // namespace

TEST_CASE("the average is that of a plain loop in double, with and without warm-up") {
  for (DType type : {float32, float64})
    for (bool warm_up : {false, true}) {
      CAPTURE(type);
      CAPTURE(warm_up);
      Weights weights(type);
      WeightAverage average(weights.all(), {.decay = 0.6, .warm_up = warm_up});
      std::vector<double> expected = weights.a.value().to_vector();
      CHECK(same_bits(average_of(average, weights.a), weights.a.value()));
      for (int t = 0; t < 30; ++t) {
        weights.move();
        average.update();
        const double decay = warm_up ? std::min(0.6, (1. + t) / (10. + t)) : 0.6;
        const std::vector<double> value = weights.a.value().to_vector();
        for (std::size_t i = 0; i < value.size(); ++i) expected[i] = decay * expected[i] + (1 - decay) * value[i];
        CHECK(relative_error(average_of(average, weights.a), Tensor({5, 3}, expected, float64)) <
              (type == float32 ? 3e-7 : 1e-15));
      }
      CHECK(average.updates() == 30);
      const std::uint64_t version = weights.a.version();
      average.update();
      CHECK(weights.a.version() == version);  // it only reads: what a tape has arranged of a weight stays
    }
}

TEST_CASE("two updates by hand") {
  Parameter p("p", Tensor({1}, {8}));
  WeightAverage plain({&p}, {.decay = 0.75}), warm({&p}, {.decay = 0.75, .warm_up = true});
  for (double value : {4., 16.}) {
    p.value().set({0}, value);
    plain.update();
    warm.update();
  }
  CHECK(average_of(plain, p).item() == 0.75 * (0.75 * 8 + 0.25 * 4) + 0.25 * 16);
  CHECK(average_of(warm, p).item() == doctest::Approx(2. / 11 * (0.1 * 8 + 0.9 * 4) + 9. / 11 * 16).epsilon(1e-7));
}

TEST_CASE("the averages are exchanged for the values and back, with the same bits") {
  Weights weights;
  WeightAverage average(weights.all(), {.decay = 0.9});
  weights.move();
  average.update();
  const Tensor own = weights.a.value(), averaged = average_of(average, weights.a);
  for (int i = 0; i < 3; ++i) {
    CHECK(same_bits(weights.a.value(), own));
    CHECK(same_bits(average_of(average, weights.a), averaged));
  }
  CHECK_FALSE(same_bits(own, averaged));
}

TEST_CASE("a tape sees which weights the model has, cleared or not") {
  Parameter W("W", random_tensor({300, 200}, 1));
  const Tensor x = random_tensor({4, 300}, 2);
  Tape tape;
  for (bool clear : {true, false}) {
    CAPTURE(clear);
    W.value().assign(random_tensor({300, 200}, 1));
    auto gradient_and_value = [&] {
      if (clear) tape.clear();
      Var in = tape.variable(x);
      Var loss = sum(square(matmul(in, tape.use(W))));
      tape.backward(loss);
      return std::pair(loss.value().item(), Tensor(in.grad()));
    };
    WeightAverage average({&W}, {.decay = 0.5});
    const auto first = gradient_and_value();
    W.value().assign(random_tensor({300, 200}, 3));
    const auto second = gradient_and_value();
    {
      auto applied = average.apply();
      const auto then = gradient_and_value();
      CHECK(then.first == first.first);
      CHECK(same_bits(then.second, first.second));
    }
    const auto then = gradient_and_value();
    CHECK(then.first == second.first);
    CHECK(same_bits(then.second, second.second));
  }
}

TEST_CASE("the model has its own weights again after an exception") {
  Weights weights;
  WeightAverage average(weights.all(), {.decay = 0.9});
  weights.move();
  const Tensor own = weights.a.value();
  CHECK_ERROR(([&] {
                auto applied = average.apply();
                fail("evaluation failed");
              }()),
              "evaluation failed");
  CHECK(same_bits(weights.a.value(), own));
  average.update();
  CHECK(average.updates() == 1);
}

TEST_CASE("while the averages are applied, nothing else is done with them") {
  Weights weights;
  WeightAverage average(weights.all(), {.decay = 0.9});
  weights.move();
  average.update();
  const State state = average.state_dict();
  {
    auto applied = average.apply();
    CHECK_ERROR(average.apply(), "WeightAverage", "apply while");
    CHECK_ERROR(average.update(), "WeightAverage", "update while");
    CHECK_ERROR(average.state_dict(), "WeightAverage", "state_dict while");
    CHECK_ERROR(average.load_state_dict(state), "WeightAverage", "load_state_dict while");
    CHECK(same_bits(weights.a.value(), state.at("a.average")));
  }
  CHECK(average.updates() == 1);
  CHECK(same_bits(average_of(average, weights.a), state.at("a.average")));
}

TEST_CASE("a frozen parameter's average is its value") {
  Weights weights(float32);
  WeightAverage average(weights.all(), {.decay = 0.9});
  for (int i = 0; i < 5; ++i) {
    weights.move();
    average.update();
  }
  CHECK_FALSE(same_bits(average_of(average, weights.a), weights.a.value()));
  weights.a.set_trainable(false);
  const std::uint64_t version = weights.a.version();
  average.update();
  CHECK(weights.a.version() == version);  // what was made of it need not be made anew
  CHECK(same_bits(average_of(average, weights.a), weights.a.value()));
  CHECK_FALSE(same_bits(average_of(average, weights.b), weights.b.value()));
}

TEST_CASE("a parameter listed twice is averaged once; two of the same name are refused") {
  Weights weights;
  WeightAverage average({&weights.a, &weights.a}, {.decay = 0.5});
  const Tensor first = weights.a.value();
  weights.move();
  average.update();
  for (Index i = 0; i < 5; ++i)
    CHECK(average_of(average, weights.a).at({i, 0}) ==
          doctest::Approx((first.at({i, 0}) + weights.a.value().at({i, 0})) / 2));
  weights.b.set_name("a");
  CHECK_ERROR(WeightAverage(weights.all(), {}), "WeightAverage", "\"a\"");
  for (double bad : {-0.1, 1., std::nan("")})
    CHECK_ERROR(WeightAverage({&weights.a}, {.decay = bad}), "WeightAverage", "decay", "[0, 1)");
}

TEST_CASE("the averages follow a model into another type") {
  Weights weights(float32);
  WeightAverage average(weights.all(), {.decay = 0.5});
  const Tensor first = weights.a.value();
  {
    auto applied = average.apply();
    for (Parameter* parameter : weights.all()) parameter->to(float64);
  }
  CHECK(same_bits(weights.a.value(), first.to(float64)));
  CHECK(same_bits(average_of(average, weights.a), first.to(float64)));
  weights.move();
  average.update();
  CHECK(average_of(average, weights.a).dtype() == float64);
  CHECK(weights.a.dtype() == float64);
}

TEST_CASE("saved in the middle and loaded elsewhere: the same bits as without") {
  for (DType type : {float32, float64}) {
    Weights whole(type), other(type);
    const WeightAverage::Options options{.decay = 0.95, .warm_up = true};
    WeightAverage uninterrupted(whole.all(), options), resumed(other.all(), options);
    auto run = [](Weights& weights, WeightAverage& average, int steps) {
      for (int i = 0; i < steps; ++i) {
        weights.move();
        average.update();
      }
    };
    run(whole, uninterrupted, 7);
    resumed.load_state_dict(uninterrupted.state_dict());
    CHECK(resumed.updates() == 7);
    other.step = whole.step;
    run(whole, uninterrupted, 5);
    run(other, resumed, 5);
    const State expected = uninterrupted.state_dict(), state = resumed.state_dict();
    CHECK(state.size() == 3);
    for (const auto& entry : expected) CHECK(same_bits(state.at(entry.first), entry.second));
  }
}

TEST_CASE("a state that does not fit is refused, and nothing is changed") {
  Weights weights;
  WeightAverage average(weights.all(), {.decay = 0.9});
  weights.move();
  average.update();
  const State good = average.state_dict();
  auto refused = [&](const std::string& what, auto&& damage) {
    CAPTURE(what);
    State state = good;
    state["step"].fill(77);
    state["a.average"].fill(3);
    damage(state);
    CHECK_ERROR(average.load_state_dict(state), "WeightAverage");
    const State now = average.state_dict();
    REQUIRE(now.size() == good.size());
    for (const auto& entry : good) CHECK(same_bits(now.at(entry.first), entry.second));
  };
  refused("empty", [](State& state) { state.clear(); });
  refused("no step", [](State& state) { state.erase("step"); });
  refused("a step that is NaN", [](State& state) { state["step"].fill(std::nan("")); });
  refused("half a step", [](State& state) { state["step"].fill(0.5); });
  refused("a negative step", [](State& state) { state["step"].fill(-1); });
  refused("step of three values", [](State& state) { state["step"] = Tensor({3}, float64); });
  refused("an average less", [](State& state) { state.erase("b.average"); });
  refused("an average more", [](State& state) { state["c.average"] = Tensor({4}, float64); });
  refused("another shape", [](State& state) { state["b.average"] = Tensor({5}, float64); });
}

TEST_CASE("large parameters: the same bits on any number of threads") {
  const Index n = 5 * detail::parallel_grain + 3;
  for (DType type : {float32, float64}) {
    std::vector<Tensor> results;
    for (int threads : {1, 2, 4}) {
      tbb::task_arena arena(threads);
      arena.execute([&] {
        Parameter p("p", random_tensor({n}, 1, -1, 1, type)), empty("empty", Tensor({0, 3}, type));
        WeightAverage average({&p, &empty}, {.decay = 0.9});
        for (std::uint64_t step = 0; step < 3; ++step) {
          p.value() = random_tensor({n}, 10 + step, -1, 1, type);
          average.update();
        }
        results.push_back(average_of(average, p));
      });
    }
    CHECK(same_bits(results[1], results[0]));
    CHECK(same_bits(results[2], results[0]));
  }
}
