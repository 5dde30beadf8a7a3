// One row for each operation: every row goes through values, gradients in double precision, views, reuse,
// operands without a gradient, and both types.

#include <autograd/autograd.h>
#include <tests/support.h>

#include <doctest/doctest.h>

#include <cmath>
#include <functional>

using namespace unroll;
using namespace unroll::testing;

namespace {

using Inputs = std::vector<Var>;

/// An element-wise operation: on Vars, and on one element by the C library.
struct Elementwise {
  std::string name;
  int operands;
  std::function<Var(const Inputs&)> on_vars;
  std::function<double(double, double)> on_numbers;
  double low = -2, high = 2;  // where the operands are drawn from
};

const std::vector<Elementwise>& elementwise() {
  static const std::vector<Elementwise> rows{
      {"add", 2, [](const Inputs& x) { return Var(x[0] + x[1]); }, [](double a, double b) { return a + b; }},
      {"subtract", 2, [](const Inputs& x) { return Var(x[0] - x[1]); }, [](double a, double b) { return a - b; }},
      {"multiply", 2, [](const Inputs& x) { return Var(x[0] * x[1]); }, [](double a, double b) { return a * b; }},
      {"divide", 2, [](const Inputs& x) { return Var(x[0] / x[1]); }, [](double a, double b) { return a / b; }, 0.5, 2},
      {"negate", 1, [](const Inputs& x) { return Var(-x[0]); }, [](double a, double) { return -a; }},
      {"number on the left", 1, [](const Inputs& x) { return Var(2 - x[0]); }, [](double a, double) { return 2 - a; }},
      {"number on the right", 1, [](const Inputs& x) { return Var(x[0] / 3); }, [](double a, double) { return a / 3; }},
      {"exp", 1, [](const Inputs& x) { return Var(exp(x[0])); }, [](double a, double) { return std::exp(a); }},
      {"log", 1, [](const Inputs& x) { return Var(log(x[0])); }, [](double a, double) { return std::log(a); }, 0.2, 3},
      {"sqrt", 1, [](const Inputs& x) { return Var(sqrt(x[0])); }, [](double a, double) { return std::sqrt(a); }, 0.2,
       3},
      {"square", 1, [](const Inputs& x) { return Var(square(x[0])); }, [](double a, double) { return a * a; }},
      {"tanh", 1, [](const Inputs& x) { return Var(tanh(x[0])); }, [](double a, double) { return std::tanh(a); }},
      {"sigmoid", 1, [](const Inputs& x) { return Var(sigmoid(x[0])); },
       [](double a, double) { return 1 / (1 + std::exp(-a)); }},
      {"relu", 1, [](const Inputs& x) { return Var(relu(x[0])); }, [](double a, double) { return a > 0 ? a : 0; }},
      {"long statement", 2,
       [](const Inputs& x) { return Var(sigmoid(x[0]) * x[1] + tanh(x[0] * 0.5 - x[1]) / (2 + square(x[1])) - x[0]); },
       [](double a, double b) { return 1 / (1 + std::exp(-a)) * b + std::tanh(a * 0.5 - b) / (2 + b * b) - a; }},
  };
  return rows;
}

/// Two shapes that broadcast together.
struct Shapes {
  std::string name;
  Shape a, b;
};

const std::vector<Shapes>& broadcasts() {
  static const std::vector<Shapes> rows{
      {"equal", {3, 5}, {3, 5}},       {"row", {4, 18}, {18}},
      {"column", {4, 18}, {4, 1}},     {"scalar", {3, 5}, {}},
      {"one element", {3, 5}, {1, 1}}, {"general", {2, 1, 5}, {3, 1}},
      {"outer", {4, 1}, {1, 6}},       {"middle", {2, 3, 4}, {2, 1, 4}},
      {"ones meet", {1, 5}, {1, 1}},   {"several packets", {2, 40}, {40}},
      {"empty", {0, 3}, {3}},
  };
  return rows;
}

}  // namespace

TEST_CASE("element-wise values agree with the C library in both types and every broadcast") {
  for (const Elementwise& row : elementwise()) {
    for (const Shapes& shapes : broadcasts()) {
      CAPTURE(row.name);
      CAPTURE(shapes.name);
      Tensor a = random_tensor(shapes.a, 1, row.low, row.high), b = random_tensor(shapes.b, 2, row.low, row.high);
      for (DType type : {float32, float64}) {
        Tape tape;
        Var x = tape.constant(a.to(type)), z = tape.constant(b.to(type));
        Var y = row.on_vars({x, z});
        Shape shape = row.operands == 1 ? shapes.a : broadcast(shapes.a, shapes.b, "test");
        REQUIRE(y.shape() == shape);
        // The reference walks the broadcast by stride-0 views.
        std::vector<double> xs = Var(x + tape.zeros(shape, type)).value().to_vector();
        std::vector<double> zs = Var(z + tape.zeros(broadcast(shape, shapes.b, "test"), type)).value().to_vector();
        std::vector<double> ys = y.value().to_vector();
        for (std::size_t i = 0; i < ys.size(); ++i)
          CHECK(ys[i] == doctest::Approx(row.on_numbers(xs[i], zs[i])).epsilon(type == float32 ? 2e-6 : 1e-13));
      }
    }
  }
}

TEST_CASE("element-wise derivatives agree with finite differences, broadcast or not") {
  for (const Elementwise& row : elementwise()) {
    for (const Shapes& shapes : broadcasts()) {
      CAPTURE(row.name);
      CAPTURE(shapes.name);
      std::vector<Tensor> inputs{random_tensor(shapes.a, 1, row.low, row.high)};
      if (row.operands == 2) inputs.push_back(random_tensor(shapes.b, 2, row.low, row.high));
      CHECK(gradient_error([&](Tape&, const Inputs& x) { return row.on_vars(x); }, inputs) < 1e-7);
    }
  }
}

TEST_CASE("an operand used twice, and operands that are views, receive every contribution") {
  for (const Elementwise& row : elementwise()) {
    CAPTURE(row.name);
    auto error = [&](auto&& operands, Shape shape) {
      return gradient_error([&](Tape&, const Inputs& x) { return row.on_vars(operands(x[0])); },
                            {random_tensor(shape, 3, row.low, row.high)});
    };
    CHECK(error([](Var x) { return Inputs{x, x}; }, {3, 20}) < 1e-7);
    CHECK(error([](Var x) { return Inputs{x, x[1]}; }, {3, 20}) < 1e-7);
    CHECK(error([](Var x) { return Inputs{x[1], x}; }, {3, 20}) < 1e-7);
    CHECK(error([](Var x) { return Inputs{slice(x, 1, 0, 18), slice(x, 1, 2, 20)}; }, {3, 20}) < 1e-7);
    CHECK(error([](Var x) { return Inputs{transpose(x), x}; }, {5, 5}) < 1e-7);
    CHECK(error([](Var x) { return Inputs{transpose(x), transpose(x)}; }, {4, 6}) < 1e-7);
    CHECK(error(
              [](Var x) {
                auto [a, b] = chunk<2>(x);
                return Inputs{a, b};
              },
              {3, 40}) < 1e-7);
    CHECK(error(
              [](Var x) {
                auto [a, b] = chunk<2>(x);
                return Inputs{a, slice(x, 1, 1, 21)};
              },
              {3, 40}) < 1e-7);
  }
}

TEST_CASE("an operand that needs no gradient changes nothing for the others") {
  for (const Elementwise& row : elementwise()) {
    if (row.operands != 2) continue;
    CAPTURE(row.name);
    Tensor a = random_tensor({3, 20}, 1, row.low, row.high), b = random_tensor({20}, 2, row.low, row.high);
    Tensor seed = random_tensor({3, 20}, 3);
    Tape tape;
    Var x = tape.variable(a), z = tape.variable(b), c = tape.constant(b);
    tape.backward(row.on_vars({x, z}), seed);
    Tensor both(x.grad());
    Var alone = tape.variable(a);
    tape.backward(row.on_vars({alone, c}), seed);
    CHECK(Tensor(alone.grad()).to_vector() == both.to_vector());
    CHECK_THROWS_AS((void)c.grad(), Error);
  }
}

TEST_CASE("large statements are cut into blocks and still add up") {
  // Shared operands are summed block by block here: rows, columns and scalars over many elements. The derivative
  // along a random direction is compared, for all elements at once would take too long.
  auto error = [](Shape a, Shape b) {
    std::vector<Tensor> at{random_tensor(a, 1), random_tensor(b, 2)}, along{random_tensor(a, 3), random_tensor(b, 4)};
    auto value = [&](Tape& tape, double step, std::vector<Var>& x) {
      x.clear();
      for (std::size_t k = 0; k < 2; ++k) {
        Tensor moved = at[k];
        for (Index i = 0; i < moved.size(); ++i) moved.data<double>()[i] += step * along[k].data<double>()[i];
        x.push_back(tape.variable(moved));
      }
      return mean(Var(tanh(x[0] * x[1])));
    };
    Tape tape;
    std::vector<Var> x, unused;
    tape.backward(value(tape, 0, x));
    double derivative = 0;
    for (std::size_t k = 0; k < 2; ++k) {
      std::vector<double> g = x[k].grad().to_vector(), d = along[k].to_vector();
      for (std::size_t i = 0; i < g.size(); ++i) derivative += g[i] * d[i];
    }
    double h = 1e-5, expected = (value(tape, h, unused).item() - value(tape, -h, unused).item()) / (2 * h);
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
  CHECK_THROWS_AS(Var(a * d), Error);
  CHECK_THROWS_AS(Var(a + Var()), Error);
  CHECK(tape.size() == before);  // nothing is left half-recorded
  CHECK(Var(a + 1).value().at({1, 2}) == 1);
}

TEST_CASE("a statement of any length is one node") {
  Tape tape;
  Var f = tape.variable(random_tensor({2, 3}, 1)), c = tape.variable(random_tensor({2, 3}, 2));
  std::size_t before = tape.size();
  Var y = sigmoid(f) * c + sigmoid(c) * tanh(f) - (f + c) / (2 + square(f));
  CHECK(y.shape() == Shape{2, 3});
  CHECK(tape.size() == before + 1);
}

TEST_CASE("derivatives at the edges are what the documents say") {
  Tape tape;
  Var x = tape.variable(Tensor({3}, {-1, 0, 1}, float64));
  tape.backward(sum(Var(relu(x))));
  CHECK(x.grad().to_vector() == std::vector<double>{0, 0, 1});
  Var z = tape.variable(Tensor({1}, {0}, float64));
  tape.backward(sum(Var(sqrt(z))));
  CHECK(std::isinf(z.grad().item()));
}

TEST_CASE("float32 tanh and sigmoid are accurate and saturate") {
  Tape tape;
  Tensor points(Shape{4001});
  for (Index i = 0; i < 4001; ++i) points.set({i}, (static_cast<double>(i) - 2000) / 100);
  Var x = tape.constant(points);
  auto t = Var(tanh(x)).value(), s = Var(sigmoid(x)).value();
  for (Index i = 0; i < 4001; ++i) {
    double at = points.at({i});
    CHECK(std::abs(t.at({i}) - std::tanh(at)) < 4e-7);
    CHECK(std::abs(s.at({i}) - 1 / (1 + std::exp(-at))) < 4e-7);
  }
}

TEST_CASE("reductions: values and derivatives over any axes") {
  Tensor a = random_tensor({2, 3, 4}, 1);
  Tape tape;
  Var x = tape.constant(a);
  double total = 0;
  for (double v : a.to_vector()) total += v;
  CHECK(sum(x).item() == doctest::Approx(total));
  CHECK(mean(x).item() == doctest::Approx(total / 24));
  CHECK(sum(x, {0, 2}).shape() == Shape{3});
  CHECK(sum(x, {0, 2}, true).shape() == Shape{1, 3, 1});
  CHECK(sum(x, {-1}).value().at({1, 2}) ==
        doctest::Approx(a.at({1, 2, 0}) + a.at({1, 2, 1}) + a.at({1, 2, 2}) + a.at({1, 2, 3})));
  CHECK(sum(x, {1}).value().at({1, 2}) == doctest::Approx(a.at({1, 0, 2}) + a.at({1, 1, 2}) + a.at({1, 2, 2})));
  CHECK(mean(x, {0, 1}).value().at({3}) == doctest::Approx(sum(x, {0, 1}).value().at({3}) / 6));
  const std::vector<std::function<Var(const Var&)>> reductions{
      [](const Var& v) { return sum(v); },          [](const Var& v) { return mean(v); },
      [](const Var& v) { return sum(v, {0}); },     [](const Var& v) { return mean(v, {1}, true); },
      [](const Var& v) { return sum(v, {0, 2}); },  [](const Var& v) { return sum(transpose(v), {-1}); },
      [](const Var& v) { return mean(v[1], {0}); }, [](const Var& v) { return sum(v, {0, 1, 2}, true); },
  };
  for (std::size_t i = 0; i < reductions.size(); ++i) {
    CAPTURE(i);
    CHECK(gradient_error([&](Tape&, const Inputs& v) { return Var(square(reductions[i](v[0]))); }, {a}) < 1e-7);
  }
  CHECK_THROWS_AS(sum(x, {3}), Error);
  CHECK_THROWS_AS(sum(x, {1, -2}), Error);
  CHECK_THROWS_AS(mean(tape.constant(Tensor(Shape{0}))), Error);
  CHECK(sum(tape.constant(Tensor(Shape{0, 3})), {0}).value().to_vector() == std::vector<double>{0, 0, 0});
}

TEST_CASE("a sum of ten million float32 ones is exact") {
  Tape tape;
  CHECK(sum(tape.constant(Tensor::full({10'000'000}, 1))).item() == 10'000'000);
}
