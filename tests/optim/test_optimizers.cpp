// Optimizers against PyTorch's trajectories (tests/golden/make_golden.py), and what they promise besides.

#include <autograd/autograd.h>
#include <autograd/parallel.h>
#include <optim/optim.h>
#include <tests/support.h>

#include <doctest/doctest.h>
#include <oneapi/tbb/global_control.h>
#include <oneapi/tbb/task_arena.h>

#include <filesystem>
#include <functional>
#include <memory>

using namespace unroll;
using namespace unroll::testing;

namespace {

using State = std::map<std::string, Tensor>;
using Make = std::function<std::unique_ptr<Optimizer>(std::vector<Parameter*>)>;

template <class O>
Make make(typename O::Options options = {}) {
  return [=](std::vector<Parameter*> parameters) { return std::make_unique<O>(parameters, options); };
}

/// Makes `gradient` the parameter's gradient, as a backward would.
void give_gradient(Parameter& parameter, const Tensor& gradient) {
  bool fresh;
  parameter.claim_grad(fresh).assign(gradient.to(parameter.dtype()));
}

/// make_golden.py's gradient, of element i at step t: theta + theta^3 + 2 sin(t / 20 + i + offset).
Tensor gradient(const Tensor& theta, Index t, Index offset) {
  Tensor g(theta.shape(), float64);
  const std::vector<double> x = theta.to_vector();
  for (std::size_t i = 0; i < x.size(); ++i)
    g.data<double>()[i] =
        x[i] + x[i] * x[i] * x[i] +
        2 * std::sin(static_cast<double>(t) / 20 + static_cast<double>(i) + static_cast<double>(offset));
  return g;
}

/// Two parameters, a [2, 3] and b [4], on that problem.
struct Problem {
  Parameter a, b;
  Index t = 0;
  explicit Problem(DType type = float64)
      : a("a", random_tensor({2, 3}, 1, -1, 1, type)), b("b", random_tensor({4}, 2, -1, 1, type)) {}
  std::vector<Parameter*> all() { return {&a, &b}; }
  void give_gradients() {
    ++t;
    give_gradient(a, gradient(a.value(), t, 0));
    give_gradient(b, gradient(b.value(), t, 1));
  }
  void run(Optimizer& optimizer, Index steps) {
    for (Index i = 0; i < steps; ++i) {
      give_gradients();
      optimizer.step();
    }
  }
};

const std::map<std::string, Make> kinds = {
    {"sgd", make<SGD>()},
    {"sgd_momentum", make<SGD>({.momentum = 0.9})},
    {"sgd_decay", make<SGD>({.rate = 0.02, .weight_decay = 0.1})},
    {"sgd_momentum_decay_rate", make<SGD>({.momentum = 0.8, .weight_decay = 0.05})},
    {"sgd_dampening", make<SGD>({.momentum = 0.9, .dampening = 0.3})},
    {"sgd_nesterov", make<SGD>({.momentum = 0.9, .weight_decay = 0.05, .nesterov = true})},
    {"adam", make<Adam>()},
    {"adam_decay", make<Adam>({.rate = 0.01, .weight_decay = 0.1})},
    {"adam_betas", make<Adam>({.rate = 0.005, .beta1 = 0.8, .beta2 = 0.95, .epsilon = 1e-2})},
    {"adam_rate", make<Adam>({.rate = 0.01})},
    {"adam_absent", make<Adam>({.rate = 0.01})},
    {"adam_amsgrad", make<Adam>({.rate = 0.01, .beta2 = 0.95, .weight_decay = 0.05, .amsgrad = true})},
    {"adamw", make<AdamW>()},
    {"adamw_options",
     make<AdamW>({.rate = 0.01, .beta1 = 0.8, .beta2 = 0.95, .epsilon = 1e-3, .weight_decay = 0.2, .amsgrad = true})},
    {"nadam", make<NAdam>()},
    {"nadam_options",
     make<NAdam>(
         {.rate = 0.01, .beta1 = 0.8, .beta2 = 0.95, .epsilon = 1e-3, .weight_decay = 0.05, .momentum_decay = 0.02})},
    {"adagrad", make<Adagrad>()},
    {"adagrad_options",
     make<Adagrad>({.rate = 0.1, .rate_decay = 0.01, .weight_decay = 0.05, .start = 0.3, .epsilon = 1e-3})},
    {"adadelta", make<Adadelta>()},
    {"adadelta_options", make<Adadelta>({.rate = 0.5, .rho = 0.8, .epsilon = 1e-3, .weight_decay = 0.05})},
    {"rmsprop", make<RMSprop>()},
    {"rmsprop_momentum", make<RMSprop>({.rate = 0.002, .alpha = 0.9, .momentum = 0.8})},
    {"rmsprop_centred", make<RMSprop>({.rate = 0.005, .epsilon = 1e-2, .centred = true})},
    {"rmsprop_options",
     make<RMSprop>(
         {.rate = 0.002, .alpha = 0.95, .epsilon = 1e-3, .weight_decay = 0.05, .momentum = 0.7, .centred = true})},
};

/// a and b in groups of their own.
std::unique_ptr<Adam> two_groups(std::vector<Parameter*> parameters) {
  auto adam = std::make_unique<Adam>(std::vector{parameters[0]}, AdamOptions{.rate = 0.01});
  adam->add_group({parameters[1]}, {.rate = 0.003, .beta1 = 0.7, .beta2 = 0.9, .weight_decay = 0.1});
  return adam;
}

}  // namespace

TEST_CASE("1000 steps are PyTorch's") {
  const State golden = read_safetensors(UNROLL_SOURCE_DIR "/tests/golden/optimizers.safetensors").tensors;
  auto cases = kinds;
  cases["adam_groups"] = two_groups;
  for (const auto& entry : cases) {
    const auto& name = entry.first;  // Clang 14 cannot capture a structured binding
    const auto& make = entry.second;
    Problem problem;
    problem.a.value() = golden.at("start.a");
    problem.b.value() = golden.at("start.b");
    auto optimizer = make(problem.all());
    int compared = 0;
    for (Index step = 1; step <= 1000; ++step) {
      if (name.ends_with("_rate") && step == 51) optimizer->set_base_rate(optimizer->base_rate() * 0.25);
      problem.give_gradients();
      if (name.ends_with("_absent") && step % 3 == 0) problem.b.use_up_grad();
      optimizer->step();
      for (const Parameter* parameter : problem.all()) {
        auto expected = golden.find(fmt::format("{}.{}.{}", name, parameter->name(), step));
        if (expected == golden.end()) continue;
        CAPTURE(name);
        CAPTURE(step);
        CHECK(relative_error(parameter->value(), expected->second) < 1e-11);  // the bar is 1e-9
        ++compared;
      }
    }
    CHECK(compared == 14);
    CHECK(optimizer->steps() == 1000);
  }
}

TEST_CASE("the first steps, by hand") {
  Parameter p("p", Tensor({2}, {1, -2}, float64));
  const Tensor g({2}, {0.5, -4}, float64);
  auto after = [&](Optimizer& optimizer, int steps) {
    p.value() = Tensor({2}, {1, -2}, float64);
    for (int i = 0; i < steps; ++i) {
      give_gradient(p, g);
      optimizer.step();
    }
    return p.value().to_vector();
  };
  SGD plain({&p}, {.rate = 0.1}), momentum({&p}, {.rate = 0.1, .momentum = 0.5});
  Adam adam({&p}, {.rate = 0.1, .epsilon = 0});
  CHECK(after(plain, 1)[0] == doctest::Approx(1 - 0.1 * 0.5).epsilon(1e-15));
  CHECK(after(momentum, 1)[1] == doctest::Approx(-2 + 0.1 * 4).epsilon(1e-15));
  CHECK(after(momentum, 1)[1] == doctest::Approx(-2 + 0.1 * (0.5 * 4 + 4)).epsilon(1e-15));  // its second step
  // With a constant gradient Adam moves by the rate in each step, whatever the gradient's size.
  CHECK(after(adam, 1)[0] == doctest::Approx(0.9).epsilon(1e-14));
  CHECK(after(adam, 3)[1] == doctest::Approx(-1.7).epsilon(1e-14));
}

TEST_CASE("a step uses the gradient up: the next backward starts anew; until then gradients add up") {
  Parameter p("p", Tensor({2}, {1, 2}, float64));
  SGD optimizer({&p}, {.rate = 0.5});
  auto backward = [&] {
    Tape tape;
    tape.backward(sum(tape.use(p) * Tensor({2}, {3, 5}, float64)));
  };
  backward();
  backward();
  CHECK(p.grad().to_vector() == std::vector<double>{6, 10});
  optimizer.step();
  CHECK(p.value().to_vector() == std::vector<double>{-2, -3});
  CHECK_FALSE(p.has_grad());
  CHECK(p.grad().to_vector() == std::vector<double>{6, 10});  // can still be read
  optimizer.step();
  CHECK(p.value().to_vector() == std::vector<double>{-2, -3});
  backward();
  CHECK(p.grad().to_vector() == std::vector<double>{3, 5});
}

TEST_CASE("a parameter listed twice is stepped once") {
  for (const auto& entry : kinds) {
    const auto& name = entry.first;  // Clang 14 cannot capture a structured binding
    const auto& make = entry.second;
    CAPTURE(name);
    Problem once, twice;
    auto first = make(once.all());
    auto second = make({&twice.a, &twice.b, &twice.a});
    CHECK(second->parameters() == twice.all());
    once.run(*first, 5);
    twice.run(*second, 5);
    CHECK(same_bits(once.a.value(), twice.a.value()));
  }
}

TEST_CASE("no optimizer changes the gradient that the user sees") {
  for (const auto& entry : kinds) {
    const auto& name = entry.first;  // Clang 14 cannot capture a structured binding
    const auto& make = entry.second;
    CAPTURE(name);
    Problem problem;
    auto optimizer = make(problem.all());
    problem.run(*optimizer, 3);
    problem.give_gradients();
    const Tensor a = problem.a.grad(), b = problem.b.grad(), before = problem.a.value();
    optimizer->step();
    CHECK(same_bits(problem.a.grad(), a));
    CHECK(same_bits(problem.b.grad(), b));
    CHECK_FALSE(same_bits(problem.a.value(), before));
  }
}

TEST_CASE("frozen parameters and those without a gradient are left alone") {
  for (const auto& entry : kinds) {
    const auto& name = entry.first;  // Clang 14 cannot capture a structured binding
    const auto& make = entry.second;
    CAPTURE(name);
    Problem problem;
    auto optimizer = make(problem.all());
    problem.run(*optimizer, 3);  // there is momentum by now
    const Tensor a = problem.a.value(), b = problem.b.value();

    problem.give_gradients();
    problem.b.zero_grad();
    optimizer->step();
    CHECK(same_bits(problem.b.value(), b));
    CHECK_FALSE(same_bits(problem.a.value(), a));

    const Tensor moved = problem.a.value();
    problem.give_gradients();
    problem.a.set_trainable(false);
    optimizer->step();
    CHECK(same_bits(problem.a.value(), moved));
    CHECK_FALSE(same_bits(problem.b.value(), b));
  }
}

TEST_CASE("state saved in the middle and loaded elsewhere: the same bits as without") {
  for (DType type : {float32, float64})
    for (const auto& entry : kinds) {
      const auto& name = entry.first;  // Clang 14 cannot capture a structured binding
      const auto& make = entry.second;
      CAPTURE(name);
      const auto path = std::filesystem::temp_directory_path() / "unroll_test_optimizers.safetensors";
      Problem whole(type), first(type), second(type);
      auto uninterrupted = make(whole.all());
      auto change_rate = [](Optimizer& optimizer) { optimizer.set_base_rate(optimizer.rate() * 0.7); };
      whole.run(*uninterrupted, 7);
      change_rate(*uninterrupted);
      whole.run(*uninterrupted, 13);

      {
        auto optimizer = make(first.all());
        first.run(*optimizer, 7);
        change_rate(*optimizer);
        first.run(*optimizer, 5);
        write_safetensors(path, TensorFile{optimizer->state_dict(), {}});
      }
      second.a.value() = first.a.value();
      second.b.value() = first.b.value();
      second.t = first.t;
      auto resumed = make(second.all());
      resumed->load_state_dict(read_safetensors(path).tensors);
      std::filesystem::remove(path);
      CHECK(resumed->steps() == 12);
      second.run(*resumed, 8);
      CHECK(resumed->rate() == uninterrupted->rate());
      CHECK(resumed->steps() == uninterrupted->steps());
      CHECK(same_bits(second.a.value(), whole.a.value()));
      CHECK(same_bits(second.b.value(), whole.b.value()));

      // The state counts: without it the run is another one.
      if (name == "sgd" || name == "sgd_decay") continue;
      Problem third(type);
      third.a.value() = first.a.value();
      third.b.value() = first.b.value();
      third.t = first.t;
      auto without = make(third.all());
      without->set_base_rate(uninterrupted->rate());
      third.run(*without, 8);
      CHECK_FALSE(same_bits(third.a.value(), whole.a.value()));
    }
}

TEST_CASE("a state saved before a parameter's first gradient is loaded too") {
  Problem problem, other;
  Adam adam(problem.all()), loaded(other.all());
  problem.b.set_trainable(false);
  problem.run(adam, 2);
  loaded.load_state_dict(adam.state_dict());
  CHECK(loaded.state_dict().size() == adam.state_dict().size());
  CHECK(loaded.state_dict().contains("a.m"));
  CHECK_FALSE(loaded.state_dict().contains("b.m"));
}

TEST_CASE("a state that does not fit is refused, and nothing is changed") {
  Problem problem, twin;
  Adam optimizer(problem.all(), {.rate = 0.01}), untouched(twin.all(), {.rate = 0.01});
  problem.run(optimizer, 5);
  twin.run(untouched, 5);
  const State good = optimizer.state_dict();
  CHECK(good.size() == 9);

  auto refused = [&](const std::string& what, auto&& damage) {
    CAPTURE(what);
    State state = good;
    state["step"] = Tensor::scalar(77, float64);
    state["rates"] = Tensor({1}, {0.5}, float64);
    state["a.m"].fill(3);
    damage(state);
    CHECK_ERROR(optimizer.load_state_dict(state), "Adam", what);
    CHECK(optimizer.steps() == 5);
    CHECK(optimizer.rate() == 0.01);
    const State now = optimizer.state_dict();
    REQUIRE(now.size() == good.size());
    for (const auto& [name, tensor] : good) CHECK(same_bits(now.at(name), tensor));
    optimizer.load_state_dict(good);
  };
  refused("step is missing", [](State& state) { state.clear(); });
  refused("step is missing", [](State& state) { state.erase("step"); });
  refused("rates is missing", [](State& state) { state.erase("rates"); });
  refused("rates is [2] instead of [1]", [](State& state) { state["rates"] = Tensor({2}, float64); });
  refused("step is [3] instead of []", [](State& state) { state["step"] = Tensor({3}, float64); });
  refused("b.step is missing", [](State& state) { state.erase("b.step"); });
  refused("b.v is missing", [](State& state) { state.erase("b.v"); });
  refused("b.m is missing", [](State& state) { state.erase("b.m"); });
  refused("b.v is [5] instead of [4]", [](State& state) { state["b.v"] = Tensor({5}, float64); });
  refused("\"c.v\" is unexpected", [](State& state) { state["c.m"] = state["c.v"] = Tensor({5}, float64); });
  refused("b.m is missing; b.v is missing; \"a.velocity\" is unexpected", [](State& state) {  // SGD's
    for (const char* name : {"a.m", "a.v", "b.m", "b.v"}) state.erase(name);
    state["a.velocity"] = Tensor({2, 3}, float64);
  });
  refused("rates are not rates", [](State& state) { state["rates"].fill(std::nan("")); });
  refused("rates are not rates", [](State& state) { state["rates"].fill(-1); });
  refused("rate_factor is not a rate", [](State& state) { state["rate_factor"].fill(INFINITY); });
  refused("step is -1, not a count", [](State& state) { state["step"].fill(-1); });
  refused("a.step is 1.5, not a count", [](State& state) { state["a.step"].fill(1.5); });
  refused("step is nan, not a count", [](State& state) { state["step"].fill(std::nan("")); });
  refused("step is inf, not a count", [](State& state) { state["step"].fill(INFINITY); });

  twin.run(untouched, 5);
  problem.run(optimizer, 5);
  CHECK(same_bits(problem.a.value(), twin.a.value()));
}

TEST_CASE("options out of range are refused") {
  Parameter p("p", Tensor({2}));
  const double nan = std::nan(""), infinite = std::numeric_limits<double>::infinity();
  for (double bad : {-0.1, nan, infinite}) {
    CHECK_ERROR(SGD({&p}, {.rate = bad}), "SGD: rate is", "at least 0");
    CHECK_ERROR(SGD({&p}, {.weight_decay = bad}), "SGD: weight_decay");
    CHECK_ERROR(Adam({&p}, {.rate = bad}), "Adam: rate");
    CHECK_ERROR(Adam({&p}, {.epsilon = bad}), "Adam: epsilon");
    CHECK_ERROR(AdamW({&p}, {.weight_decay = bad}), "AdamW: weight_decay");
    CHECK_ERROR(NAdam({&p}, {.epsilon = bad}), "NAdam: epsilon");
    CHECK_ERROR(NAdam({&p}, {.weight_decay = bad}), "NAdam: weight_decay");
    CHECK_ERROR(NAdam({&p}, {.momentum_decay = bad}), "NAdam: momentum_decay");
    CHECK_ERROR(Adagrad({&p}, {.rate_decay = bad}), "Adagrad: rate_decay");
    CHECK_ERROR(Adagrad({&p}, {.weight_decay = bad}), "Adagrad: weight_decay");
    CHECK_ERROR(Adagrad({&p}, {.start = bad}), "Adagrad: start");
    CHECK_ERROR(Adagrad({&p}, {.epsilon = bad}), "Adagrad: epsilon");
    CHECK_ERROR(Adadelta({&p}, {.epsilon = bad}), "Adadelta: epsilon");
    CHECK_ERROR(Adadelta({&p}, {.weight_decay = bad}), "Adadelta: weight_decay");
    CHECK_ERROR(RMSprop({&p}, {.epsilon = bad}), "RMSprop: epsilon");
    CHECK_ERROR(RMSprop({&p}, {.weight_decay = bad}), "RMSprop: weight_decay");
  }
  for (double bad : {-0.1, 1.0, nan}) {
    CHECK_ERROR(SGD({&p}, {.momentum = bad}), "SGD: momentum", "[0, 1)");
    CHECK_ERROR(SGD({&p}, {.momentum = 0.5, .dampening = bad}), "SGD: dampening");
    CHECK_ERROR(Adam({&p}, {.beta1 = bad}), "Adam: beta1");
    CHECK_ERROR(AdamW({&p}, {.beta2 = bad}), "AdamW: beta2");
    CHECK_ERROR(NAdam({&p}, {.beta1 = bad}), "NAdam: beta1");
    CHECK_ERROR(NAdam({&p}, {.beta2 = bad}), "NAdam: beta2");
    CHECK_ERROR(Adadelta({&p}, {.rho = bad}), "Adadelta: rho");
    CHECK_ERROR(RMSprop({&p}, {.alpha = bad}), "RMSprop: alpha");
    CHECK_ERROR(RMSprop({&p}, {.momentum = bad}), "RMSprop: momentum");
  }
  CHECK_ERROR(SGD({&p}, {.nesterov = true}), "SGD: Nesterov's momentum needs");
  CHECK_ERROR(SGD({&p}, {.momentum = 0.5, .dampening = 0.5, .nesterov = true}), "SGD: Nesterov's momentum needs");
  SGD sgd({&p}, {});
  CHECK_ERROR(sgd.set_base_rate(-1), "rate");
  CHECK(sgd.rate() == 0.01);
  sgd.set_base_rate(0);
  CHECK(sgd.rate() == 0);
  CHECK_ERROR(sgd.set_rate_factor(nan), "rate factor");
  Parameter q("p", Tensor({3}));
  CHECK_ERROR(SGD({&p, &q}, {}), "\"p\"");
  SGD nothing({}, {});
  nothing.step();
  CHECK(nothing.steps() == 1);
}

TEST_CASE("groups: rates of their own, one state") {
  Problem problem, other;
  auto adam = two_groups(problem.all());
  CHECK(adam->groups() == 2);
  CHECK(adam->parameters() == problem.all());
  CHECK(adam->parameters(1) == std::vector<Parameter*>{&problem.b});
  CHECK(adam->rate(0) == 0.01);
  CHECK(adam->rate(1) == 0.003);
  adam->set_rate_factor(0.5);
  adam->set_base_rate(0.1, 1);
  CHECK(adam->rate(0) == 0.005);
  CHECK(adam->rate(1) == 0.05);
  CHECK(adam->base_rate(1) == 0.1);
  problem.run(*adam, 3);

  auto resumed = two_groups(other.all());
  resumed->load_state_dict(adam->state_dict());
  CHECK(resumed->rate(0) == 0.005);
  CHECK(resumed->rate(1) == 0.05);
  Adam single(other.all());
  CHECK_ERROR(single.load_state_dict(adam->state_dict()), "rates is [2] instead of [1]");

  Parameter c("c", Tensor({2})), second_b("b", Tensor({2}));
  CHECK_ERROR(adam->add_group({&c, &problem.a}), "Adam: \"a\" is in another group");
  CHECK_ERROR(adam->add_group({&c, &second_b}), "two parameters are named \"b\"");
  CHECK_ERROR(adam->add_group({&c}, {.beta1 = 2}), "beta1");
  CHECK(adam->groups() == 2);
  CHECK(adam->parameters() == problem.all());
  CHECK_ERROR(adam->rate(2), "there is no group 2");
  CHECK_ERROR(adam->set_base_rate(1, 2), "there is no group 2");
  CHECK_ERROR(adam->parameters(2), "there is no group 2");
}

TEST_CASE("a schedule: of the steps made, also after a resume") {
  const Schedule halves = schedule::step(2, 0.5);
  auto moved = [&](Optimizer& optimizer, Parameter& p) {
    const double before = p.value().item();
    give_gradient(p, Tensor::scalar(1, float64));
    optimizer.step();
    return before - p.value().item();
  };
  Parameter p("p", Tensor::scalar(0, float64));
  SGD sgd({&p}, {.rate = 0.5});
  sgd.set_schedule(halves);
  CHECK(moved(sgd, p) == 0.5);
  CHECK(moved(sgd, p) == 0.5);
  CHECK(sgd.rate() == 0.25);
  CHECK(sgd.base_rate() == 0.5);
  sgd.set_rate_factor(0.5);
  CHECK(moved(sgd, p) == 0.125);

  SGD resumed({&p}, {.rate = 0.5});
  resumed.set_schedule(halves);
  resumed.load_state_dict(sgd.state_dict());
  CHECK(moved(resumed, p) == 0.125);
  CHECK(moved(resumed, p) == 0.0625);
}

TEST_CASE("a step whose schedule throws changes nothing") {
  Parameter p("p", Tensor::scalar(2, float64));
  Adam adam({&p});
  adam.set_schedule([](Index step) { return step == 1 ? -1.0 : 1.0; });
  give_gradient(p, Tensor::scalar(1, float64));
  adam.step();
  give_gradient(p, Tensor::scalar(1, float64));
  const double value = p.value().item();
  const auto state = adam.state_dict();
  CHECK_ERROR(adam.step(), "step 1");
  CHECK(p.value().item() == value);
  CHECK(p.has_grad());
  const auto after = adam.state_dict();
  REQUIRE(after.size() == state.size());
  for (const auto& [name, tensor] : state) CHECK(same_bits(after.at(name), tensor));
}

namespace {

struct SignDescentOptions {
  double rate = 1e-3;
};

/// The one in optimizer.h.
class SignDescent : public GroupedOptimizer<SignDescentOptions> {
 public:
  explicit SignDescent(const std::vector<Parameter*>& parameters, Options options = {})
      : GroupedOptimizer("SignDescent") {
    add_group(parameters, options);
  }

 private:
  void update(Update& u, const Options&) override {
    u.elementwise([&]<class A>(A theta, A g) { theta -= static_cast<typename A::Scalar>(u.rate) * g.sign(); });
  }
};

}  // namespace

TEST_CASE("a user's own optimizer") {
  Parameter p("p", Tensor({3}, {1, 2, 3}, float64));
  SignDescent optimizer({&p}, {.rate = 0.5});
  give_gradient(p, Tensor({3}, {7, 0, -0.1}, float64));
  optimizer.step();
  CHECK(p.value().to_vector() == std::vector<double>{0.5, 2, 3.5});
}

TEST_CASE("large parameters: the same bits on any number of threads, and as in one piece") {
  // More elements than one piece holds, and not a multiple of it.
  const Index n = 5 * detail::parallel_grain + 3;
  const tbb::global_control enough(tbb::global_control::max_allowed_parallelism, 4);
  for (DType type : {float32, float64})
    for (const auto& entry : kinds) {
      const auto& name = entry.first;  // Clang 14 cannot capture a structured binding
      const auto& make = entry.second;
      CAPTURE(name);
      std::vector<Tensor> results;
      for (int threads : {1, 2, 4}) {
        Parameter p("p", random_tensor({n}, 1, -1, 1, type));
        auto optimizer = make({&p});
        tbb::task_arena(threads).execute([&] {
          for (std::uint64_t step = 0; step < 3; ++step) {
            give_gradient(p, random_tensor({n}, 10 + step));
            optimizer->step();
          }
        });
        results.push_back(p.value());
      }
      CHECK(same_bits(results[1], results[0]));
      CHECK(same_bits(results[2], results[0]));
      for (Index i : {Index{0}, detail::parallel_grain - 1, detail::parallel_grain, n - 1}) {
        Parameter one("one", Tensor({1}, {random_tensor({n}, 1, -1, 1, type).at({i})}, type));
        auto optimizer = make({&one});
        for (std::uint64_t step = 0; step < 3; ++step) {
          give_gradient(one, Tensor({1}, {random_tensor({n}, 10 + step).at({i})}, type));
          optimizer->step();
        }
        CHECK(results[0].at({i}) == doctest::Approx(one.value().at({0})).epsilon(type == float32 ? 1e-6 : 1e-14));
      }
    }
}

TEST_CASE("a parameter converted to another type is stepped on") {
  Problem problem(float32);
  Adam adam(problem.all());
  problem.run(adam, 2);
  problem.a.to(float64);
  problem.run(adam, 2);
  CHECK(problem.a.dtype() == float64);
  CHECK(adam.state_dict().at("a.m").dtype() == float64);
}
