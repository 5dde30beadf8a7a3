// Clipping of gradients, by norm and by value.

#include <autograd/autograd.h>
#include <optim/clip.h>
#include <tests/support.h>

#include <doctest/doctest.h>

#include <cmath>
#include <deque>

using namespace unroll;
using namespace unroll::testing;

namespace {

/// Parameters that have the given gradients.
struct Gradients {
  std::deque<Parameter> parameters;
  void add(const std::string& name, const Tensor& gradient) {
    Parameter& parameter = parameters.emplace_back(name, Tensor(gradient.shape(), gradient.dtype()));
    bool fresh;
    parameter.claim_grad(fresh).assign(gradient);
  }
  std::vector<Parameter*> all() {
    std::vector<Parameter*> pointers;
    for (Parameter& parameter : parameters) pointers.push_back(&parameter);
    return pointers;
  }
};

const double infinite = std::numeric_limits<double>::infinity();
const double not_a_number = std::numeric_limits<double>::quiet_NaN();

}  // namespace

TEST_CASE("clipping by norm and by value is PyTorch's") {
  const auto golden = read_safetensors(UNROLL_SOURCE_DIR "/tests/golden/optimizers.safetensors").tensors;
  for (const std::string kind : {"clip_norm.large", "clip_norm.small", "clip_value"}) {
    CAPTURE(kind);
    Gradients g;
    for (const char* name : {"a", "b"}) g.add(name, golden.at(kind + "." + name + ".before"));
    if (kind == "clip_value")
      clip_grad_value(g.all(), 0.5);
    else
      CHECK(clip_grad_norm(g.all(), 0.5) == doctest::Approx(golden.at(kind + ".norm").item()).epsilon(1e-14));
    for (const Parameter& parameter : g.parameters) {
      const Tensor& expected = golden.at(kind + "." + parameter.name() + ".after");
      CHECK(relative_error(parameter.grad(), expected) < 1e-11);
      if (kind != "clip_norm.large") CHECK(same_bits(parameter.grad(), expected));
    }
  }
}

TEST_CASE("clip_grad_norm returns the norm before, over all parameters, and makes it max_norm") {
  for (DType type : {float32, float64}) {
    Gradients g;
    g.add("a", Tensor({2}, {3, 0}, type));
    g.add("b", Tensor({1, 2}, {0, -4}, type));
    CHECK(clip_grad_norm(g.all(), 2) == 5);
    CHECK(g.parameters[0].grad().at({0}) == doctest::Approx(1.2).epsilon(1e-7));
    CHECK(g.parameters[1].grad().at({0, 1}) == doctest::Approx(-1.6).epsilon(1e-7));
    CHECK(clip_grad_norm(g.all(), 2) == doctest::Approx(2).epsilon(1e-7));
  }
}

TEST_CASE("gradients within the limit keep their bits") {
  const Tensor a = random_tensor({7, 3}, 1), b = random_tensor({5}, 2, -1, 1, float32);
  Gradients g;
  g.add("a", a);
  g.add("b", b);
  double norm = 0;
  for (const Tensor* tensor : {&a, &b})
    for (double v : tensor->to_vector()) norm += v * v;
  norm = std::sqrt(norm);
  CHECK(clip_grad_norm(g.all(), 100) == doctest::Approx(norm).epsilon(1e-14));
  CHECK(clip_grad_norm(g.all(), infinite) == doctest::Approx(norm).epsilon(1e-14));
  clip_grad_value(g.all(), 1);
  CHECK(same_bits(g.parameters[0].grad(), a));
  CHECK(same_bits(g.parameters[1].grad(), b));
}

TEST_CASE("a gradient of the norm exactly keeps its bits") {
  Gradients g;
  g.add("a", Tensor({2}, {3, 4}, float64));
  CHECK(clip_grad_norm(g.all(), 5) == 5);
  CHECK(g.parameters[0].grad().to_vector() == std::vector<double>{3, 4});
}

TEST_CASE("an infinite or NaN gradient is reported by name and nothing is changed") {
  for (DType type : {float32, float64})
    for (double bad : {infinite, -infinite, not_a_number}) {
      CAPTURE(bad);
      Gradients g;
      Tensor broken = random_tensor({40}, 2, -1, 1, type);
      broken.set({17}, bad);
      g.add("good", random_tensor({3}, 1, 5, 9, type));
      g.add("lstm.weight_hh_l0", broken);
      g.add("last", random_tensor({3}, 3, 5, 9, type));
      std::vector<Tensor> before;
      for (const Parameter& parameter : g.parameters) before.push_back(parameter.grad());
      CHECK_ERROR(clip_grad_norm(g.all(), 1), "clip_grad_norm", "\"lstm.weight_hh_l0\"", "[40]", "not finite");
      CHECK_ERROR(clip_grad_value(g.all(), 1), "clip_grad_value", "\"lstm.weight_hh_l0\"", "[40]", "not finite");
      for (std::size_t i = 0; i < before.size(); ++i) CHECK(same_bits(g.parameters[i].grad(), before[i]));
    }
}

TEST_CASE("float32 gradients of 1e30 do not overflow") {
  Gradients g;
  g.add("a", Tensor::full({100}, 1e30));
  g.add("b", Tensor::full({44}, -1e30));
  CHECK(clip_grad_norm(g.all(), 1) == doctest::Approx(1.2e31).epsilon(1e-6));
  for (const Parameter& parameter : g.parameters)
    CHECK(relative_error(parameter.grad(),
                         Tensor::full(parameter.shape(), parameter.name() == "a" ? 1. / 12 : -1. / 12)) < 1e-6);
}

TEST_CASE("finite float64 gradients of 1e200 do not count as infinite") {
  Gradients g;
  g.add("a", Tensor::full({4}, 1e200, float64));
  CHECK(error_of([&] { CHECK(clip_grad_norm(g.all(), 1) == doctest::Approx(2e200)); }) == "");
  for (double v : g.parameters[0].grad().to_vector()) CHECK(v == doctest::Approx(0.5));
}

TEST_CASE("clip_grad_value limits each element") {
  for (DType type : {float32, float64}) {
    Gradients g;
    g.add("a", Tensor({6}, {-3, -0.5, -0.25, 0, 0.5, 1e30}, type));
    clip_grad_value(g.all(), 0.5);
    CHECK(g.parameters[0].grad().to_vector() == std::vector<double>{-0.5, -0.5, -0.25, 0, 0.5, 0.5});
  }
}

TEST_CASE("frozen parameters and those without a gradient are left out") {
  Gradients g;
  g.add("a", Tensor({2}, {3, 4}, float64));
  g.add("used up", Tensor({2}, {30, 40}, float64));
  g.add("frozen", Tensor({2}, {not_a_number, 40}, float64));
  g.parameters[1].use_up_grad();
  g.parameters[2].set_trainable(false);
  CHECK(clip_grad_norm(g.all(), 1) == 5);
  CHECK(g.parameters[1].grad().to_vector() == std::vector<double>{30, 40});
  CHECK(g.parameters[2].grad().at({1}) == 40);
  CHECK(clip_grad_norm({}, 1) == 0);
}

TEST_CASE("a parameter listed twice counts once") {
  Gradients g;
  g.add("a", Tensor({2}, {3, 4}, float64));
  Parameter* a = &g.parameters[0];
  CHECK(clip_grad_norm({a, a}, 1) == doctest::Approx(5));
  CHECK(a->grad().at({0}) == doctest::Approx(0.6));
}

TEST_CASE("a limit that is not above 0 is refused") {
  Gradients g;
  g.add("a", Tensor({2}, {3, 4}, float64));
  for (double bad : {0.0, -1.0, not_a_number}) {
    CHECK_ERROR(clip_grad_norm(g.all(), bad), "clip_grad_norm", "above 0");
    CHECK_ERROR(clip_grad_value(g.all(), bad), "clip_grad_value", "above 0");
  }
  CHECK(g.parameters[0].grad().to_vector() == std::vector<double>{3, 4});
}

TEST_CASE("clipping a large gradient: in parallel, in the order of its elements") {
  const Index n = 3 * 65536 + 7;
  const Tensor before = random_tensor({n}, 1);
  Gradients g;
  g.add("a", before);
  const double norm = clip_grad_norm(g.all(), 1);
  const std::vector<double> x = before.to_vector(), y = g.parameters[0].grad().to_vector();
  double worst = 0, total = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    worst = std::max(worst, std::abs(y[i] - x[i] / norm));
    total += x[i] * x[i];
  }
  CHECK(norm == doctest::Approx(std::sqrt(total)).epsilon(1e-12));
  CHECK(worst < 1e-17);
}
