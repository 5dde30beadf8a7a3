#include <tests/autograd/elementwise.h>

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <numbers>

using namespace unroll;
using namespace unroll::testing;

namespace {

using Inputs = std::vector<Var>;
constexpr double infinity = std::numeric_limits<double>::infinity();

#define UNARY(f, ...)                                                                                            \
  {                                                                                                              \
    #f, 1, [](const Inputs& x) { return Var(f(x[0])); }, [](double a, double) { return std::f(a); }, __VA_ARGS__ \
  }

const std::vector<Elementwise>& rows() {
  static const std::vector<Elementwise> all{
      UNARY(exp, -5, 5),
      UNARY(expm1, -3, 3),
      UNARY(log, 0.2, 3),
      UNARY(log1p, -0.8, 3),
      UNARY(sqrt, 0.2, 3),
      {"rsqrt", 1, [](const Inputs& x) { return Var(rsqrt(x[0])); }, [](double a, double) { return 1 / std::sqrt(a); },
       0.2, 3},
      {"square", 1, [](const Inputs& x) { return Var(square(x[0])); }, [](double a, double) { return a * a; }},
      {"pow of a whole exponent", 1, [](const Inputs& x) { return Var(pow(x[0], 3)); },
       [](double a, double) { return a * a * a; }},
      {"pow of a constant exponent", 1, [](const Inputs& x) { return Var(pow(x[0], -1.5)); },
       [](double a, double) { return std::pow(a, -1.5); }, 0.3, 3, 1e-6},
      {"pow", 2, [](const Inputs& x) { return Var(pow(x[0], 2 * x[1])); },
       [](double a, double b) { return std::pow(a, 2 * b); }, 0.3, 2, 2e-6},
      {"number to a power", 1, [](const Inputs& x) { return Var(pow(2, x[0])); },
       [](double a, double) { return std::pow(2, a); }},
      UNARY(abs),
      {"sign", 1, [](const Inputs& x) { return Var(sign(x[0])); },
       [](double a, double) { return a > 0   ? 1
                                     : a < 0 ? -1
                                             : 0; }},
      UNARY(floor),
      UNARY(ceil),
      {"round", 1, [](const Inputs& x) { return Var(round(x[0])); }, [](double a, double) { return std::rint(a); }},
      UNARY(sin, -7, 7),
      UNARY(cos, -7, 7),
      UNARY(tan, -1.4, 1.4),
      UNARY(asin, -0.9, 0.9),
      UNARY(acos, -0.9, 0.9),
      UNARY(atan, -3, 3),
      UNARY(sinh, -3, 3),
      UNARY(cosh, -3, 3),
      UNARY(tanh, -5, 5),
      UNARY(erf, -2, 2),
  };
  return all;
}

}  // namespace

std::vector<std::string> unroll::testing::elementary_names() { return names_of(rows()); }

TEST_CASE("elementary functions: values agree with the C library in both types") { check_values(rows()); }
TEST_CASE("elementary functions: derivatives agree with finite differences") { check_derivatives(rows()); }
TEST_CASE("elementary functions: forward and second derivatives") { check_second_derivatives(rows()); }

TEST_CASE("expm1 and log1p are exact near 0, and large numbers saturate") {
  for (DType type : {float32, float64}) {
    const double accuracy = type == float32 ? 3e-7 : 1e-15;
    for (double x : {1e-30, -1e-30, 1e-9, -1e-9, 1e-4, -1e-4}) {
      CAPTURE(x);
      CHECK(std::abs(at([](Var v) { return Var(expm1(v)); }, x, type).y - std::expm1(x)) <= accuracy * std::abs(x));
      CHECK(std::abs(at([](Var v) { return Var(log1p(v)); }, x, type).y - std::log1p(x)) <= accuracy * std::abs(x));
      CHECK(std::abs(at([](Var v) { return Var(tanh(v)); }, x, type).y - std::tanh(x)) <= accuracy * std::abs(x));
      CHECK(std::abs(at([](Var v) { return Var(erf(v)); }, x, type).y - std::erf(x)) <= 2 * accuracy * std::abs(x));
    }
    auto exponential = [](Var v) { return Var(exp(v)); };
    CHECK(at(exponential, -infinity, type).y == 0);
    CHECK(at(exponential, -infinity, type).dx == 0);
    CHECK(at(exponential, -1000, type).y == 0);
    CHECK(at(exponential, 1000, type).y == infinity);
    CHECK(at([](Var v) { return Var(expm1(v)); }, -1000, type).y == -1);
    CHECK(at([](Var v) { return Var(tanh(v)); }, 1000, type).y == doctest::Approx(1).epsilon(1e-7));
    CHECK(at([](Var v) { return Var(tanh(v)); }, -infinity, type).y == doctest::Approx(-1).epsilon(1e-7));
    CHECK(at([](Var v) { return Var(erf(v)); }, -1000, type).y == -1);
    CHECK(at([](Var v) { return Var(sqrt(v)); }, infinity, type).y == infinity);
    CHECK(at([](Var v) { return Var(rsqrt(v)); }, infinity, type).y == 0);
  }
  // Smaller than the normal numbers of float32.
  CHECK(at([](Var v) { return Var(sqrt(v)); }, 1e-40, float32).y == doctest::Approx(1e-20).epsilon(1e-5));
  CHECK(at([](Var v) { return Var(sqrt(v)); }, 1e-40, float32).y > 0);
}

TEST_CASE("NaN goes in and comes out") {
  const double NaN = std::numeric_limits<double>::quiet_NaN();
  for (DType type : {float32, float64}) {
    Tape tape;
    Var x = tape.constant(Tensor({1}, {NaN}, type));
    for (const Elementwise& row : rows()) {
      if (row.name == "sign") continue;
      CAPTURE(row.name);
      CHECK(std::isnan(row.on_vars({x, x}).item()));
    }
    CHECK(Var(sign(x)).item() == 0);
    Var below = tape.constant(Tensor({1}, {-1}, type));
    for (const Var& y : {Var(log(below)), Var(log1p(2 * below)), Var(sqrt(below)), Var(rsqrt(below)),
                         Var(asin(2 * below)), Var(acos(2 * below)), Var(pow(below, 0.5))})
      CHECK(std::isnan(y.item()));
  }
}

TEST_CASE("derivatives at special points are what the documents say") {
  for (DType type : {float32, float64}) {
    CAPTURE(type);
    CHECK(at([](Var x) { return Var(abs(x)); }, 0, type).dx == 0);
    CHECK(at([](Var x) { return Var(abs(x)); }, -3, type).dx == -1);
    CHECK(at([](Var x) { return Var(sign(x)); }, 0, type).y == 0);
    CHECK(at([](Var x) { return Var(sqrt(x)); }, 0, type).dx == infinity);
    CHECK(at([](Var x) { return Var(rsqrt(x)); }, 0, type).y == infinity);
    CHECK(at([](Var x) { return Var(rsqrt(x)); }, 0, type).dx == -infinity);
    CHECK(at([](Var x) { return Var(log(x)); }, 0, type).y == -infinity);
    CHECK(at([](Var x) { return Var(log1p(x)); }, -1, type).dx == infinity);
    CHECK(at([](Var x) { return Var(asin(x)); }, 1, type).dx == infinity);
    CHECK(at([](Var x) { return Var(acos(x)); }, -1, type).dx == -infinity);
    for (double x : {-2.5, -1.5, -0.5, -0.2, 0.5, 0.7, 1.5, 2.5}) {
      CHECK(at([](Var v) { return Var(round(v)); }, x, type).y == std::nearbyint(x));
      CHECK(at([](Var v) { return Var(round(v) + floor(v) * ceil(v)); }, x, type).dx == 0);
    }
  }
}

TEST_CASE("pow at 0 and of negative numbers") {
  for (DType type : {float32, float64}) {
    CAPTURE(type);
    struct Known {
      double x, n, y, by_x, by_n;
    };
    const double NaN = std::numeric_limits<double>::quiet_NaN();
    for (Known k : {Known{0, 0, 1, 0, 0},
                    {2, 0, 1, 0, std::numbers::ln2},
                    {-2, 0, 1, 0, NaN},
                    {0, 1, 0, 1, 0},
                    {0, 2, 0, 0, 0},
                    {0, 3, 0, 0, 0},
                    {0, 0.5, 0, infinity, 0},
                    {0, -1, infinity, -infinity, -infinity},
                    {-2, 2, 4, -4, NaN},
                    {-2, 3, -8, 12, NaN},
                    {3, 2, 9, 6, 9 * std::log(3)},
                    {1, 5, 1, 5, 0}}) {
      CAPTURE(k.x);
      CAPTURE(k.n);
      auto same = [](double a, double b) {
        return (std::isnan(a) && std::isnan(b)) || a == b || std::abs(a - b) < 1e-6 * std::abs(b);
      };
      Tape tape;
      Var x = tape.variable(Tensor({1}, {k.x}, type)), n = tape.variable(Tensor({1}, {k.n}, type));
      Var y = pow(x, n);
      tape.backward(y);
      CHECK(same(y.item(), k.y));
      CHECK(same(x.grad().item(), k.by_x));
      CHECK(same(n.grad().item(), k.by_n));
      Point constant = at([&](Var v) { return Var(pow(v, k.n)); }, k.x, type);
      CHECK(same(constant.y, k.y));
      CHECK(same(constant.dx, k.by_x));
      if (type == float32) continue;
      // Forward, and the second derivative by x.
      Function f = [&](Tape&, const Inputs& in) { return sum(Var(pow(in[0], in[1]))); };
      std::vector<Tensor> at{Tensor({1}, {k.x}, float64), Tensor({1}, {k.n}, float64)};
      Tensor one({1}, {1}, float64), none({1}, {0}, float64);
      CHECK(same(jvp(f, at, {one, none}).tangent.item(), k.by_x));
      CHECK(same(jvp(f, at, {none, one}).tangent.item(), k.by_n));
      if (k.n == 0) CHECK(hvp(f, at, {one, none})[0].item() == 0);
      if (k.n == 1) CHECK(hvp(f, at, {one, none})[0].item() == 0);
      if (k.n == 2) CHECK(hvp(f, at, {one, none})[0].item() == 2);
    }
  }
}
