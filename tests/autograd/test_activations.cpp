#include <tests/autograd/elementwise.h>

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

using namespace unroll;
using namespace unroll::testing;

namespace {

using Inputs = std::vector<Var>;
constexpr double infinity = std::numeric_limits<double>::infinity();

double sigmoid_of(double x) { return 1 / (1 + std::exp(-x)); }

const std::vector<Elementwise>& rows() {
  static const std::vector<Elementwise> all{
      {"sigmoid", 1, [](const Inputs& x) { return Var(sigmoid(x[0])); }, [](double a, double) { return sigmoid_of(a); },
       -20, 20, 2e-7, 1},
      {"log_sigmoid", 1, [](const Inputs& x) { return Var(log_sigmoid(x[0])); },
       [](double a, double) { return std::min(a, 0.0) - std::log1p(std::exp(-std::abs(a))); }, -20, 20},
      {"softplus", 1, [](const Inputs& x) { return Var(softplus(x[0])); },
       [](double a, double) { return std::max(a, 0.0) + std::log1p(std::exp(-std::abs(a))); }, -20, 20},
      {"softsign", 1, [](const Inputs& x) { return Var(softsign(x[0])); },
       [](double a, double) { return a / (1 + std::abs(a)); }},
      {"relu", 1, [](const Inputs& x) { return Var(relu(x[0])); }, [](double a, double) { return a > 0 ? a : 0; }},
      {"relu of an expression", 2, [](const Inputs& x) { return Var(relu(x[0] * x[1] - 0.5)); },
       [](double a, double b) { return std::max(a * b - 0.5, 0.0); }},
      {"leaky_relu", 1, [](const Inputs& x) { return Var(leaky_relu(x[0])); },
       [](double a, double) { return a > 0 ? a : 0.01 * a; }},
      {"leaky_relu of another slope", 1, [](const Inputs& x) { return Var(leaky_relu(x[0], 0.25)); },
       [](double a, double) { return a > 0 ? a : 0.25 * a; }},
      {"elu", 1, [](const Inputs& x) { return Var(elu(x[0], 1.5)); },
       [](double a, double) { return a > 0 ? a : 1.5 * std::expm1(a); }, -5, 5},
      {"celu", 1, [](const Inputs& x) { return Var(celu(x[0], 1.5)); },
       [](double a, double) { return a > 0 ? a : 1.5 * std::expm1(a / 1.5); }, -5, 5},
      {"selu", 1, [](const Inputs& x) { return Var(selu(x[0])); },
       [](double a, double) { return 1.0507009873554805 * (a > 0 ? a : 1.6732632423543772 * std::expm1(a)); }, -5, 5},
      {"silu", 1, [](const Inputs& x) { return Var(silu(x[0])); }, [](double a, double) { return a * sigmoid_of(a); },
       -20, 20},
      {"gelu", 1, [](const Inputs& x) { return Var(gelu(x[0])); },
       [](double a, double) { return 0.5 * a * std::erfc(-a * std::sqrt(0.5)); }, -5, 5, 1e-6, 1},
      {"gelu_tanh", 1, [](const Inputs& x) { return Var(gelu_tanh(x[0])); },
       [](double a, double) {
         return 0.5 * a * (1 + std::tanh(std::sqrt(2 / 3.141592653589793) * (a + 0.044715 * a * a * a)));
       },
       -5, 5, 1e-6, 1},
  };
  return all;
}

}  // namespace

std::vector<std::string> unroll::testing::activation_names() { return names_of(rows()); }

TEST_CASE("activations: values agree with the C library in both types") { check_values(rows()); }
TEST_CASE("activations: derivatives agree with finite differences") { check_derivatives(rows()); }
TEST_CASE("activations: forward and second derivatives") { check_second_derivatives(rows()); }

TEST_CASE("activations of large numbers neither overflow nor lose their gradient") {
  for (DType type : {float32, float64}) {
    CAPTURE(type);
    auto check = [&](auto&& f, double x, double y, double dx) {
      Point p = at(f, x, type);
      CAPTURE(x);
      CHECK(p.y == doctest::Approx(y).epsilon(1e-6));
      CHECK(p.dx == doctest::Approx(dx).epsilon(1e-6));
      CHECK(std::isfinite(p.dx));
    };
    for (double x : {1000.0, 1e30}) {
      check([](Var v) { return Var(sigmoid(v)); }, x, 1, 0);
      check([](Var v) { return Var(sigmoid(v)); }, -x, 0, 0);
      check([](Var v) { return Var(softplus(v)); }, x, x, 1);
      check([](Var v) { return Var(softplus(v)); }, -x, 0, 0);
      check([](Var v) { return Var(log_sigmoid(v)); }, x, 0, 0);
      check([](Var v) { return Var(log_sigmoid(v)); }, -x, -x, 1);
      check([](Var v) { return Var(tanh(v)); }, x, 1, 0);
      check([](Var v) { return Var(tanh(v)); }, -x, -1, 0);
      check([](Var v) { return Var(elu(v)); }, x, x, 1);
      check([](Var v) { return Var(elu(v)); }, -x, -1, 0);
      check([](Var v) { return Var(selu(v)); }, -x, -1.0507009873554805 * 1.6732632423543772, 0);
      check([](Var v) { return Var(celu(v)); }, x, x, 1);
      check([](Var v) { return Var(silu(v)); }, x, x, 1);
      check([](Var v) { return Var(silu(v)); }, -x, 0, 0);
      check([](Var v) { return Var(gelu_tanh(v)); }, x, x, 1);
      check([](Var v) { return Var(gelu_tanh(v)); }, -x, 0, 0);
      check([](Var v) { return Var(gelu(v)); }, x, x, 1);
      check([](Var v) { return Var(gelu(v)); }, -x, 0, 0);
      check([](Var v) { return Var(softsign(v)); }, -x, -x / (1 + x), 1 / ((1 + x) * (1 + x)));
    }
    CHECK(at([](Var v) { return Var(sigmoid(v)); }, -infinity, type).y == doctest::Approx(0).epsilon(1e-30));
    CHECK(at([](Var v) { return Var(sigmoid(v)); }, infinity, type).y == 1);
    CHECK(at([](Var v) { return Var(softplus(v)); }, -infinity, type).y == 0);
    CHECK(at([](Var v) { return Var(softplus(v)); }, infinity, type).y == infinity);
    CHECK(at([](Var v) { return Var(log_sigmoid(v)); }, -100, type).y == doctest::Approx(-100));
    CHECK(at([](Var v) { return Var(softplus(v)); }, -40, type).y ==
          doctest::Approx(std::exp(-40)).epsilon(1e-6).scale(1e-17));
  }
}

TEST_CASE("activations of large numbers: forward and second derivatives") {
  auto check = [](const std::function<Var(const Var&)>& f, double x) {
    CAPTURE(x);
    const Function on_tape = [&](Tape&, const Inputs& v) { return f(v[0]); };
    const std::vector<Tensor> at_x{Tensor::scalar(x, float64)}, direction{Tensor::scalar(3, float64)};
    const double dx = at(f, x).dx;
    CHECK(jvp(on_tape, at_x, direction).tangent.item() == doctest::Approx(3 * dx).epsilon(1e-12).scale(1));
    CHECK(hvp(on_tape, at_x, direction)[0].item() == doctest::Approx(0).epsilon(1e-3).scale(1));
  };
  for (double size : {30.0, 709.6, 1000.0, 1e30})
    for (double x : {size, -size}) {
      for (const Elementwise& row : rows()) {
        if (row.operands > 1) continue;
        CAPTURE(row.name);
        check([&](const Var& v) { return row.on_vars({v}); }, x);
      }
      check([](const Var& v) { return Var(tanh(v)); }, x);
    }
}

TEST_CASE("activations: derivatives at 0, and NaN goes through") {
  const double NaN = std::numeric_limits<double>::quiet_NaN();
  for (DType type : {float32, float64}) {
    CAPTURE(type);
    CHECK(at([](Var x) { return Var(relu(x)); }, 0, type).dx == 0);
    CHECK(at([](Var x) { return Var(relu(x)); }, 1e-30, type).dx == 1);
    CHECK(at([](Var x) { return Var(leaky_relu(x, 0.25)); }, 0, type).dx == 0.25);
    CHECK(at([](Var x) { return Var(elu(x, 1.5)); }, 0, type).dx == 1.5);
    CHECK(at([](Var x) { return Var(celu(x, 1.5)); }, 0, type).dx == 1);
    CHECK(at([](Var x) { return Var(relu(log(x))); }, 0, type).dx == 0);  // not 0 times infinity
    CHECK(at([](Var x) { return Var(relu(sqrt(x) - 1)); }, 0, type).dx == 0);
    Tape tape;
    Var x = tape.constant(Tensor({1}, {NaN}, type));
    for (const Elementwise& row : rows()) {
      CAPTURE(row.name);
      CHECK(std::isnan(row.on_vars({x, x}).item()));
    }
  }
}

TEST_CASE("celu refuses to divide by 0") {
  Tape tape;
  Var x = tape.constant(Tensor({2}));
  CHECK_ERROR_HERE(celu(x, 0), "celu: alpha is 0, by which x is divided; use relu");
}
