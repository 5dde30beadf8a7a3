// Element-wise statements: arithmetic, comparisons and choices; and the checks that every operation's row goes through.

#include <tests/autograd/elementwise.h>
#include <tests/autograd/operations.h>

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

using namespace unroll;
using namespace unroll::testing;

namespace {

using Inputs = std::vector<Var>;
constexpr double infinity = std::numeric_limits<double>::infinity();
const double NaN = std::numeric_limits<double>::quiet_NaN();

const std::vector<Elementwise>& rows() {
  static const std::vector<Elementwise> all{
      {"add", 2, [](const Inputs& x) { return Var(x[0] + x[1]); }, [](double a, double b) { return a + b; }},
      {"subtract", 2, [](const Inputs& x) { return Var(x[0] - x[1]); }, [](double a, double b) { return a - b; }},
      {"multiply", 2, [](const Inputs& x) { return Var(x[0] * x[1]); }, [](double a, double b) { return a * b; }},
      {"divide", 2, [](const Inputs& x) { return Var(x[0] / x[1]); }, [](double a, double b) { return a / b; }, 0.5, 2},
      {"negate", 1, [](const Inputs& x) { return Var(-x[0]); }, [](double a, double) { return -a; }},
      {"number on the left", 1, [](const Inputs& x) { return Var(2 - x[0]); }, [](double a, double) { return 2 - a; }},
      {"number on the right", 1, [](const Inputs& x) { return Var(x[0] / 3); }, [](double a, double) { return a / 3; }},
      {"fma", 2, [](const Inputs& x) { return Var(fma(x[0], x[1], x[0])); },
       [](double a, double b) { return std::fma(a, b, a); }},
      {"comparisons", 2, [](const Inputs& x) { return Var((x[0] < x[1]) * x[0] + (x[0] >= 1) * x[1]); },
       [](double a, double b) { return (a < b ? a : 0) + (a >= 1 ? b : 0); }},
      {"where", 2, [](const Inputs& x) { return Var(where(x[0] > x[1], 2 * x[0], x[1] * x[1])); },
       [](double a, double b) { return a > b ? 2 * a : b * b; }},
      {"maximum", 2, [](const Inputs& x) { return Var(maximum(x[0], x[1])); },
       [](double a, double b) { return std::max(a, b); }},
      {"minimum", 2, [](const Inputs& x) { return Var(minimum(x[0] * 2, x[1])); },
       [](double a, double b) { return std::min(2 * a, b); }},
      {"clamp", 1, [](const Inputs& x) { return Var(clamp(x[0], -1, 0.5)); },
       [](double a, double) { return std::clamp(a, -1.0, 0.5); }},
      {"clamp between Vars", 2, [](const Inputs& x) { return Var(clamp(x[0], x[1], 1.5)); },
       [](double a, double b) { return std::min(std::max(a, b), 1.5); }},
      {"long statement", 2,
       [](const Inputs& x) { return Var(sigmoid(x[0]) * x[1] + tanh(x[0] * 0.5 - x[1]) / (2 + square(x[1])) - x[0]); },
       [](double a, double b) { return 1 / (1 + std::exp(-a)) * b + std::tanh(a * 0.5 - b) / (2 + b * b) - a; }, -2, 2,
       2e-6},
  };
  return all;
}

/// Two shapes that broadcast together.
struct Shapes {
  std::string name;
  Shape a, b;
};

const std::vector<Shapes>& broadcasts() {
  static const std::vector<Shapes> all{
      {"equal", {3, 5}, {3, 5}},       {"row", {4, 18}, {18}},
      {"column", {4, 18}, {4, 1}},     {"scalar", {3, 5}, {}},
      {"one element", {3, 5}, {1, 1}}, {"general", {2, 1, 5}, {3, 1}},
      {"outer", {4, 1}, {1, 6}},       {"middle", {2, 3, 4}, {2, 1, 4}},
      {"ones meet", {1, 5}, {1, 1}},   {"several packets", {2, 40}, {40}},
      {"empty", {0, 3}, {3}},
  };
  return all;
}

double inner(const std::vector<Tensor>& a, const std::vector<Tensor>& b) {
  double sum = 0;
  for (std::size_t k = 0; k < a.size(); ++k)
    for (Index i = 0; i < a[k].size(); ++i) sum += a[k].data<double>()[i] * b[k].data<double>()[i];
  return sum;
}
std::vector<Tensor> moved(std::vector<Tensor> x, const std::vector<Tensor>& v, double step) {
  for (std::size_t k = 0; k < x.size(); ++k)
    for (Index i = 0; i < x[k].size(); ++i) x[k].data<double>()[i] += step * v[k].data<double>()[i];
  return x;
}

std::vector<double> numbers(const Var& x) { return x.value().to_vector(); }
std::vector<double> gradient(const Var& x) { return x.grad().to_vector(); }

}  // namespace

namespace unroll::testing {

void check_values(const std::vector<Elementwise>& rows) {
  for (const Elementwise& row : rows) {
    CAPTURE(row.name);
    for (DType type : {float32, float64}) {
      const double accuracy = type == float32 ? row.accuracy : 1e-14;
      auto check = [&](double y, double a, double b) {
        double expected = row.on_numbers(a, b), error = std::abs(y - expected);
        CAPTURE(a);
        CAPTURE(b);
        CHECK(error <= accuracy * std::max({std::abs(expected), row.least, row.operands == 2 ? 1.0 : 0.0}));
      };
      for (const Shapes& shapes : broadcasts()) {
        CAPTURE(shapes.name);
        Tape tape;
        Var x = tape.constant(random_tensor(shapes.a, 1, row.low, row.high).to(type));
        Var z = tape.constant(random_tensor(shapes.b, 2, row.low, row.high).to(type));
        Var y = row.on_vars({x, z});
        const Shape shape = row.operands == 1 ? shapes.a : broadcast(shapes.a, shapes.b, "test");
        REQUIRE(y.shape() == shape);
        // The operands, broadcast by hand as it were: by a sum with zeros.
        std::vector<double> xs = numbers(Var(x + tape.zeros(shape, type))), ys = numbers(y);
        std::vector<double> zs = numbers(Var(z + tape.zeros(broadcast(shape, shapes.b, "test"), type)));
        for (std::size_t i = 0; i < ys.size(); ++i) check(ys[i], xs[i], zs[i]);
      }
      Tape tape;
      Var x = tape.constant(random_tensor({4001}, 3, row.low, row.high).to(type));
      if (row.operands == 2) continue;
      std::vector<double> xs = numbers(x), ys = numbers(row.on_vars({x}));
      for (std::size_t i = 0; i < ys.size(); ++i) check(ys[i], xs[i], 0);
    }
  }
}

void check_derivatives(const std::vector<Elementwise>& rows) {
  for (const Elementwise& row : rows) {
    CAPTURE(row.name);
    for (const Shapes& shapes : broadcasts()) {
      CAPTURE(shapes.name);
      std::vector<Tensor> inputs{random_tensor(shapes.a, 1, row.low, row.high)};
      if (row.operands == 2) inputs.push_back(random_tensor(shapes.b, 2, row.low, row.high));
      CHECK(gradient_error([&](Tape&, const Inputs& x) { return row.on_vars(x); }, inputs) < 1e-7);
    }
    auto error = [&](auto&& operands, Shape shape) {
      return gradient_error([&](Tape&, const Inputs& x) { return row.on_vars(operands(x[0])); },
                            {random_tensor(shape, 3, row.low, row.high)});
    };
    auto halves = [](const Var& x) { return chunk<2>(x); };
    CHECK(error([](Var x) { return Inputs{x, x[1]}; }, {3, 20}) < 1e-7);
    CHECK(error([](Var x) { return Inputs{x[1], x}; }, {3, 20}) < 1e-7);
    CHECK(error([](Var x) { return Inputs{slice(x, 1, 0, 18), slice(x, 1, 2, 20)}; }, {3, 20}) < 1e-7);
    CHECK(error([](Var x) { return Inputs{transpose(x), x}; }, {5, 5}) < 1e-7);
    CHECK(error([](Var x) { return Inputs{transpose(x), transpose(x)}; }, {4, 6}) < 1e-7);
    CHECK(error([](Var x) { return Inputs{transpose(x), x[0]}; }, {4, 4}) < 1e-7);
    CHECK(error([&](Var x) { return Inputs{halves(x)[0], halves(x)[1]}; }, {3, 40}) < 1e-7);
    CHECK(error([&](Var x) { return Inputs{halves(x)[0], slice(x, 1, 1, 21)}; }, {3, 40}) < 1e-7);
    if (row.operands != 2) continue;
    // An operand that needs no gradient changes nothing for the other.
    Tensor a = random_tensor({3, 20}, 1, row.low, row.high), b = random_tensor({20}, 2, row.low, row.high);
    Tensor seed = random_tensor({3, 20}, 3);
    Tape tape;
    Var x = tape.variable(a), z = tape.variable(b), alone = tape.variable(a), c = tape.constant(b);
    tape.backward(row.on_vars({x, z}), seed);
    tape.backward(row.on_vars({alone, c}), seed);
    CHECK(gradient(alone) == gradient(x));
    CHECK_THROWS_AS((void)c.grad(), Error);
  }
}

void check_second_derivatives(const std::vector<Elementwise>& rows) {
  for (const Elementwise& row : rows) {
    CAPTURE(row.name);
    std::vector<Tensor> x{random_tensor({2, 9}, 1, row.low, row.high)}, v{random_tensor({2, 9}, 3)};
    if (row.operands == 2) x.push_back(random_tensor({9}, 2, row.low, row.high)), v.push_back(random_tensor({9}, 4));
    const Tensor weights = random_tensor({2, 9}, 5, 0.5, 1.5);
    Function f = [&](Tape& tape, const Inputs& in) { return sum(Var(row.on_vars(in) * tape.constant(weights))); };
    auto gradient_at = [&](double step) { return vjp(f, moved(x, v, step), Tensor::scalar(1, float64)).gradients; };
    CHECK(jvp(f, x, v).tangent.item() == doctest::Approx(inner(gradient_at(0), v)).epsilon(1e-12));
    const double h = 1e-5;
    std::vector<Tensor> products = hvp(f, x, v), above = gradient_at(h), below = gradient_at(-h);
    for (std::size_t k = 0; k < x.size(); ++k)
      for (Index i = 0; i < x[k].size(); ++i) {
        CAPTURE(x[k].data<double>()[i]);
        double change = (above[k].data<double>()[i] - below[k].data<double>()[i]) / (2 * h);
        CHECK(std::abs(products[k].data<double>()[i] - change) < 1e-6 * std::max(1.0, std::abs(change)));
      }
  }
}

}  // namespace unroll::testing

std::vector<std::string> unroll::testing::arithmetic_names() { return names_of(rows()); }

std::vector<std::string> unroll::testing::elementwise_names() {
  std::vector<std::string> names = arithmetic_names();
  for (const auto& more : {elementary_names(), activation_names()}) names.insert(names.end(), more.begin(), more.end());
  return names;
}

TEST_CASE("arithmetic and choices: values agree with the C library in both types and every broadcast") {
  check_values(rows());
}
TEST_CASE("arithmetic and choices: derivatives agree with finite differences, however operands are seen") {
  check_derivatives(rows());
}
TEST_CASE("arithmetic and choices: forward and second derivatives") { check_second_derivatives(rows()); }

TEST_CASE("an operand used twice receives every contribution") {
  auto error = [](auto&& f) { return gradient_error(f, {random_tensor({5, 5}, 3)}); };
  CHECK(error([](Tape&, const Inputs& x) { return Var(x[0] * x[0]); }) < 1e-7);
  CHECK(error([](Tape&, const Inputs& x) { return Var(transpose(x[0]) * x[0]); }) < 1e-7);
  CHECK(error([](Tape&, const Inputs& x) { return Var(transpose(x[0]) * transpose(x[0]) - x[0]); }) < 1e-7);
  CHECK(error([](Tape&, const Inputs& x) { return Var(where(x[0] > 0, exp(x[0]), x[0] * tanh(x[0]))); }) < 1e-7);
}

TEST_CASE("large statements are cut into blocks and still add up") {
  // Shared operands are summed block by block here: rows, columns and scalars over many elements. The derivative
  // along a random direction is compared, for all elements at once would take too long.
  auto error = [](Shape a, Shape b) {
    std::vector<Tensor> x{random_tensor(a, 1), random_tensor(b, 2)}, v{random_tensor(a, 3), random_tensor(b, 4)};
    Function f = [](Tape&, const Inputs& in) { return mean(Var(tanh(in[0] * in[1]))); };
    double h = 1e-5, derivative = inner(vjp(f, x, Tensor::scalar(1, float64)).gradients, v);
    auto value = [&](double step) { return vjp(f, moved(x, v, step), Tensor::scalar(1, float64)).value.item(); };
    double expected = (value(h) - value(-h)) / (2 * h);
    return std::abs(derivative - expected) / std::abs(expected);
  };
  CHECK(error({300, 200}, {200}) < 1e-7);
  CHECK(error({300, 200}, {300, 1}) < 1e-7);
  CHECK(error({60000}, {}) < 1e-7);
  CHECK(error({30, 1, 50}, {40, 1}) < 1e-7);
}

TEST_CASE("statements refuse what does not fit, naming both shapes and the line") {
  Tape tape;
  Var a = tape.constant(Tensor({2, 3})), b = tape.constant(Tensor({4})), d = tape.constant(Tensor({3}, float64));
  std::size_t before = tape.size();
  CHECK_ERROR_HERE(
      Var(a + b),
      "element-wise expression: shapes [2, 3] and [4] do not broadcast; sizes must agree from the last axis, or be 1");
  CHECK_ERROR_HERE(Var(where(a > 0, a, b)), "shapes [2, 3] and [4] do not broadcast");
  CHECK_ERROR_HERE(Var(maximum(a, d)), "float32 [2, 3] meets float64 [3]; convert one of them");
  CHECK_ERROR_HERE(Var(where(a == 0, a, Var())), "an empty Var");
  CHECK_ERROR_HERE(clamp(a, 2, 1), "clamp: the bounds are 2 and 1; the lower must come first");
  CHECK_ERROR_HERE(clamp(a, NaN, 1.0), "clamp: the bounds are nan and 1");
  Tensor t({2, 3});
  CHECK_ERROR_HERE(Var(t < 1), "it holds no Var, so no tape; start from tape.use(parameter)");
  CHECK(tape.size() == before);  // nothing is left half-recorded
  CHECK(Var(a + 1).value().at({1, 2}) == 1);
}

TEST_CASE("a statement of any length is one node") {
  Tape tape;
  Var f = tape.variable(random_tensor({2, 3}, 1)), c = tape.variable(random_tensor({2, 3}, 2));
  std::size_t before = tape.size();
  Var y = sigmoid(f) * c + where(f > c, gelu(c) * clamp(f, -1, 1), log1p(c * c)) - (f + c) / (2 + square(f));
  CHECK(y.shape() == Shape{2, 3});
  CHECK(tape.size() == before + 1);
}

TEST_CASE("Parameters and Tensors are operands of every function") {
  Tape tape;
  Parameter p("p", Tensor({2}, {1, -2}, float64));
  Tensor t({2}, {0, 5}, float64);
  Var x = tape.variable(Tensor({2}, {3, 4}, float64));
  Var y = where(p > t, p * x, maximum(t, x) - p);
  CHECK(numbers(y) == std::vector<double>{3, 7});
  tape.backward(sum(y));
  CHECK(p.grad().to_vector() == std::vector<double>{3, -1});
  CHECK(gradient(x) == std::vector<double>{1, 0});
}

TEST_CASE("comparisons are masks of 1 and 0, false with a NaN, and need no gradient") {
  for (DType type : {float32, float64}) {
    Tape tape;
    Var a = tape.variable(Tensor({5}, {1, 2, 3, NaN, -0.0}, type)),
        b = tape.variable(Tensor({5}, {2, 2, 2, 2, 0}, type));
    CHECK(numbers(a < b) == std::vector<double>{1, 0, 0, 0, 0});
    CHECK(numbers(a <= b) == std::vector<double>{1, 1, 0, 0, 1});
    CHECK(numbers(a > b) == std::vector<double>{0, 0, 1, 0, 0});
    CHECK(numbers(a >= b) == std::vector<double>{0, 1, 1, 0, 1});
    CHECK(numbers(a == b) == std::vector<double>{0, 1, 0, 0, 1});
    CHECK(numbers(a != b) == std::vector<double>{1, 0, 1, 1, 0});
    CHECK(numbers(2 > a) == std::vector<double>{1, 0, 0, 0, 1});
    CHECK(numbers((a > 1) * (a < 3)) == std::vector<double>{0, 1, 0, 0, 0});        // and
    CHECK(numbers(maximum(a == 1, a == 3)) == std::vector<double>{1, 0, 1, 0, 0});  // or
    CHECK(numbers(1 - (a == 1)) == std::vector<double>{0, 1, 1, 1, 1});             // not
    Var mask = (a > 1) * (a < 3) * (b == 2);
    CHECK(!mask.needs_grad());
    CHECK(Var((a > 1) * a).needs_grad());
    CHECK(!Var(-where(a > 0, a < 1, 2 * (b == 2))).needs_grad());
    Var given = tape.constant(Tensor({5}, type));
    CHECK(!Var(where(a < given, given, exp(given)) * (given >= b)).needs_grad());  // as in statements of their own
    CHECK(Var(where(given < 1, given, exp(b)) * (a >= 0)).needs_grad());
    tape.backward(Var(where(mask, a, b)), Tensor::full({5}, 1, type));
    CHECK(gradient(a) == std::vector<double>{0, 1, 0, 0, 0});
    CHECK(gradient(b) == std::vector<double>{1, 0, 1, 1, 1});
  }
}

TEST_CASE("a NaN in a mask counts as not 0") {
  Tape tape;
  Var mask = tape.constant(Tensor({3}, {NaN, 0, -0.0}, float64)), a = tape.constant(Tensor({3}, {1, 2, 3}, float64));
  CHECK(numbers(where(mask, a, -a)) == std::vector<double>{1, -2, -3});
}

TEST_CASE("a branch of where that is not taken puts no NaN into the gradient (PyTorch issue 52248)") {
  for (DType type : {float32, float64}) {
    CAPTURE(type);
    // Some 20 elements: whole packets and the rest of a row; x = 0, below, infinite, NaN; alone and in a sum.
    Tensor points(Shape{21}, type);
    for (Index i = 0; i < 21; ++i)
      points.set({i}, i % 5 == 0   ? 0
                      : i % 5 == 1 ? 0.25 * static_cast<double>(i)
                      : i % 5 == 2 ? -1
                      : i % 5 == 3 ? -infinity
                                   : NaN);
    std::vector<double> at = points.to_vector();
    auto check = [&](auto&& f, auto&& slope) {
      Tape tape;
      Var x = tape.variable(points);
      tape.backward(f(x), Tensor::full({21}, 1, type));
      std::vector<double> dx = gradient(x);
      for (std::size_t i = 0; i < dx.size(); ++i) {
        CAPTURE(at[i]);
        CHECK(dx[i] == (at[i] > 0 ? doctest::Approx(slope(at[i])).epsilon(1e-5) : doctest::Approx(0).epsilon(1e-300)));
      }
    };
    SUBCASE("in one statement") {
      check([](const Var& x) { return Var(where(x > 0, log(x), 0)); }, [](double x) { return 1 / x; });
      check([](const Var& x) { return Var(where(1 - (x > 0), 7, sqrt(x))); },
            [](double x) { return 0.5 / std::sqrt(x); });
      check([](const Var& x) { return Var(2 * where(x > 0, 1 / x, 0)); }, [](double x) { return -2 / (x * x); });
      check([](const Var& x) { return Var(where(x > 0, x * x, 0)); }, [](double x) { return 2 * x; });
      check([](const Var& x) { return Var(where(x > 0, where(x > 0, pow(x, 0.5), 1), 0)); },
            [](double x) { return 0.5 / std::sqrt(x); });
      check([](const Var& x) { return Var(where(log(x) > -infinity, 3 * x, 0)); }, [](double) { return 3; });
    }
    SUBCASE("when the branch is a Var of its own") {
      check(
          [](const Var& x) {
            Var y = log(x);
            return Var(where(x > 0, y, 0));
          },
          [](double x) { return 1 / x; });
      check(
          [](const Var& x) {
            Var y = sqrt(x) * 2;
            Var z = exp(-y);
            return Var(where(x > 0, z, 0));
          },
          [](double x) { return -std::exp(-2 * std::sqrt(x)) / std::sqrt(x); });
      check(
          [](const Var& x) {
            Var m = x > 0;
            Var y = x * rsqrt(x);
            return Var(where(m, y, 0));
          },
          [](double x) { return 0.5 / std::sqrt(x); });
      check(
          [](const Var& x) {
            Var y = 1 / transpose(reshape(x, {3, 7}));
            return Var(where(x > 0, reshape(transpose(y), {21}), 0));
          },
          [](double x) { return -1 / (x * x); });
    }
  }
  // With second derivatives.
  std::vector<Tensor> x{Tensor({3}, {0, 4, -1}, float64)}, v{Tensor({3}, {1, 1, 1}, float64)};
  for (bool fused : {true, false}) {
    Function f = [&](Tape&, const Inputs& in) {
      if (fused) return sum(Var(where(in[0] > 0, sqrt(in[0]), 0)));
      Var y = sqrt(in[0]);
      return sum(Var(where(in[0] > 0, y, 0)));
    };
    CHECK(hvp(f, x, v)[0].to_vector() == std::vector<double>{0, -1.0 / 32, 0});
    CHECK(jvp(f, x, v).tangent.item() == 0.25);
  }
}

TEST_CASE("where the gradient from above is 0, 0 goes on, broadcast operands and added gradients included") {
  Tape tape;
  Var x = tape.variable(Tensor({2, 2}, {0, 1, 4, 0}, float64)), s = tape.variable(Tensor({2, 1}, {1, 0}, float64));
  Var y = sqrt(x) / s;  // infinite or NaN in the second row
  tape.backward(Var(y + 3 * x), Tensor({2, 2}, {0, 1, 0, 0}, float64));
  CHECK(gradient(x) == std::vector<double>{0, 3.5, 0, 0});
  CHECK(gradient(s) == std::vector<double>{-1, 0});
  // A gradient that is not 0 meets the infinite derivative all the same.
  Var z = tape.variable(Tensor({1}, {0}, float64));
  tape.backward(Var(sqrt(z)));
  CHECK(gradient(z)[0] == infinity);
  // A value of 0 whose tangent is not: the zero may not be taken for none. f = x^2 y at x = 0: d(df/dx) = 2 y dx.
  Function f = [](Tape&, const Inputs& in) {
    Var square_root = exp(in[1]);
    return sum(Var(square(in[0]) * square_root));
  };
  std::vector<Tensor> h = hvp(f, {Tensor({1}, {0}, float64), Tensor({1}, {0}, float64)},
                              {Tensor({1}, {1}, float64), Tensor({1}, {0}, float64)});
  CHECK(h[0].item() == 2);
  Function g = [](Tape&, const Inputs& in) {
    Var e = exp(in[1]);
    return sum(Var(in[0] * e));
  };  // de/dy = x e
  h = hvp(g, {Tensor({1}, {0}, float64), Tensor({1}, {0}, float64)},
          {Tensor({1}, {1}, float64), Tensor({1}, {0}, float64)});
  CHECK(h[1].item() == 1);
}

TEST_CASE("maximum, minimum and clamp: ties, ends and NaN") {
  for (DType type : {float32, float64}) {
    Tape tape;
    Var a = tape.variable(Tensor({4}, {1, 2, 3, NaN}, type)), b = tape.variable(Tensor({4}, {2, 2, 2, 2}, type));
    Var largest = maximum(a, b), smallest = minimum(b, a);
    CHECK(std::isnan(largest.value().at({3})));
    CHECK(std::isnan(smallest.value().at({3})));
    CHECK(std::isnan(Var(maximum(b, a)).value().at({3})));
    tape.backward(largest, Tensor::full({4}, 1, type));
    CHECK(gradient(a) == std::vector<double>{0, 0.5, 1, 1});
    CHECK(gradient(b) == std::vector<double>{1, 0.5, 0, 1});
    a = tape.variable(Tensor({4}, {1, 2, 3, NaN}, type)), b = tape.variable(Tensor({4}, {2, 2, 2, 2}, type));
    tape.backward(Var(minimum(a, b)), Tensor::full({4}, 1, type));
    CHECK(gradient(a) == std::vector<double>{1, 0.5, 0, 1});
    CHECK(gradient(b) == std::vector<double>{0, 0.5, 1, 1});

    Var x = tape.variable(Tensor({6}, {-2, -1, 0, 1, 2, NaN}, type));
    Var y = clamp(x, -1, 1);
    tape.backward(y, Tensor::full({6}, 1, type));
    CHECK(gradient(x) == std::vector<double>{0, 1, 1, 1, 0, 0});
    CHECK(std::isnan(y.value().at({5})));
    CHECK(numbers(clamp(slice(x, 0, 0, 5), 0, infinity)) == std::vector<double>{0, 0, 0, 1, 2});
    // Bounds that are Vars get the gradient where they are hit; where they cross, the upper is taken.
    Var low = tape.variable(Tensor({4}, {-1, 0, 0, 5}, type)), high = tape.variable(Tensor({4}, {1, 1, 1, 3}, type));
    Var z = tape.variable(Tensor({4}, {0.5, -1, 2, 4}, type));
    Var w = clamp(z, low, high);
    CHECK(numbers(w) == std::vector<double>{0.5, 0, 1, 3});
    tape.backward(w, Tensor::full({4}, 1, type));
    CHECK(gradient(z) == std::vector<double>{1, 0, 0, 0});
    CHECK(gradient(low) == std::vector<double>{0, 1, 0, 0});
    CHECK(gradient(high) == std::vector<double>{0, 0, 1, 1});
  }
}
