// Softmax, its logarithm, and softmax under a mask.

#include <autograd/autograd.h>
#include <tests/autograd/operations.h>
#include <tests/support.h>

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

using namespace unroll;
using namespace unroll::testing;

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
const double NaN = std::nan("");
using Numbers = std::vector<double>;

/// From the definition, along any axis; with a mask of any shape that broadcasts.
Tensor softmax_by_loops(const Tensor& x, int axis, bool logarithm, const Tensor& mask = Tensor::scalar(1)) {
  const Shape& shape = x.shape();
  axis = axis < 0 ? axis + shape.rank() : axis;
  Index step = 1;
  for (int k = axis + 1; k < shape.rank(); ++k) step *= shape[k];
  const Numbers values = x.to_vector(), masks = mask.to_vector();
  auto at = [&](Index i) { return values[static_cast<std::size_t>(i)]; };
  auto kept = [&](Index i) {
    Index offset = 0, rest = i, stride = 1;
    for (int k = shape.rank() - 1, m = mask.shape().rank() - 1; m >= 0; --k, --m) {
      if (mask.shape()[m] != 1) offset += rest % shape[k] * stride;
      stride *= mask.shape()[m];
      rest /= shape[k];
    }
    return masks[static_cast<std::size_t>(offset)] != 0;
  };
  Tensor y(shape, float64);
  for (Index i = 0; i < x.size(); ++i) {
    const Index first = i - i / step % shape[axis] * step;
    double sum = 0;
    for (Index j = 0; j < shape[axis]; ++j)
      if (kept(first + j * step)) sum += std::exp(at(first + j * step));
    const double probability = kept(i) ? std::exp(at(i)) / sum : 0;
    y.data<double>()[i] = logarithm ? std::log(probability) : probability;
  }
  return y;
}

/// A mask with zeros in every row of 3 or more, the same for a shape.
Tensor mask_of(const Shape& shape, DType type) {
  Tensor mask(shape, type);
  for (Index i = 0; i < mask.size(); ++i)
    if (i % 3 != 1) type == float32 ? mask.data<float>()[i] = 1 : mask.data<double>()[i] = i % 2 == 0 ? 1 : -0.5;
  return mask;
}

}  // namespace

namespace unroll::testing {

std::vector<OperationRow> softmax_rows() {
  const std::vector<std::vector<Shape>> cases{{{2, 3, 4}}, {{3, 1}}, {{1, 70}}, {{0, 3}}};
  std::vector<OperationRow> rows;
  for (int axis : {-1, 0})
    for (bool logarithm : {false, true})
      rows.push_back({fmt::format("{} along {}", logarithm ? "log_softmax" : "softmax", axis), cases,
                      [=](Tape&, const Vars& x) { return logarithm ? log_softmax(x[0], axis) : softmax(x[0], axis); },
                      [=](const std::vector<Tensor>& x) { return softmax_by_loops(x[0], axis, logarithm); }});
  rows.push_back({"masked_softmax",
                  {{{2, 3, 4}}, {{3, 3}}},
                  [](Tape&, const Vars& x) {
                    const Shape& shape = x[0].shape();
                    return masked_softmax(x[0], mask_of(shape.with(0, 1), x[0].dtype()));
                  },
                  [](const std::vector<Tensor>& x) {
                    return softmax_by_loops(x[0], -1, false, mask_of(x[0].shape().with(0, 1), float64));
                  }});
  rows.push_back({"masked_softmax along 1",
                  {{{2, 4, 3}}},
                  [](Tape&, const Vars& x) {
                    return masked_softmax(x[0], mask_of({4, 1}, x[0].dtype()), 1);
                  },
                  [](const std::vector<Tensor>& x) {
                    return softmax_by_loops(x[0], 1, false, mask_of({4, 1}, float64));
                  }});
  return rows;
}

}  // namespace unroll::testing

TEST_CASE("softmax along every axis of tensors and of views") {
  const Tensor from = random_tensor({2, 3, 8}, 1, -3, 3);
  const std::vector<std::function<Var(const Var&)>> views{
      [](const Var& x) { return x; },
      [](const Var& x) { return transpose(x); },
      [](const Var& x) { return transpose(x, 0, 2); },
      [](const Var& x) { return slice(x, 2, 1, 6); },
      [](const Var& x) { return slice(x, 1, 1, 3); },
      [](const Var& x) { return chunk<2>(x)[1]; },
  };
  for (std::size_t i = 0; i < views.size(); ++i) {
    for (int axis : {0, 1, 2, -1, -3}) {
      CAPTURE(i);
      CAPTURE(axis);
      Tape tape;
      const Var x = views[i](tape.constant(from));
      const Tensor values(x.value());
      CHECK(relative_error(softmax(x, axis).value(), softmax_by_loops(values, axis, false)) < 1e-14);
      CHECK(relative_error(log_softmax(x, axis).value(), softmax_by_loops(values, axis, true)) < 1e-14);
      CHECK(gradient_error([&](Tape&, const Vars& v) { return softmax(views[i](v[0]), axis); }, {from}) < 1e-7);
      CHECK(gradient_error([&](Tape&, const Vars& v) { return log_softmax(views[i](v[0]), axis); }, {from}) < 1e-7);
      CHECK(gradient_error(
                [&](Tape&, const Vars& v) {
                  const Var logits = views[i](v[0]);
                  return masked_softmax(logits, mask_of(logits.shape(), float64), axis);
                },
                {from}) < 1e-7);
    }
  }
  // Of one class, and added to a gradient that is there already.
  CHECK(gradient_error([](Tape&, const Vars& v) { return Var(softmax(v[0]) + log_softmax(v[0]) * v[0]); }, {from}) <
        1e-7);
  Tape tape;
  CHECK(softmax(tape.constant(random_tensor({3, 1}, 2, -900, 900))).value().to_vector() == Numbers{1, 1, 1});
}

TEST_CASE("logits of 10000, and of minus infinity") {
  const Tensor x({3, 3}, {1e4, 0, -1e4, -infinity, 2, 2, -1e4, -1e4, -1e4}, float64);
  for (DType type : {float64, float32}) {
    Tape tape;
    Var logits = tape.variable(x.to(type));
    Var y = softmax(logits), log_y = log_softmax(logits);
    const Tensor expected({3, 3}, {1, 0, 0, 0, .5, .5, 1. / 3, 1. / 3, 1. / 3}, float64);
    CHECK(relative_error(y.value(), expected) < 1e-7);
    CHECK(log_y.value().at({0, 0}) == 0);
    CHECK(log_y.value().at({0, 2}) == -2e4);
    CHECK(log_y.value().at({1, 0}) == -infinity);
    CHECK(log_y.value().at({1, 1}) == doctest::Approx(-std::log(2)));
    CHECK(log_y.value().at({2, 1}) == doctest::Approx(-std::log(3)));
    tape.backward(Var(sum(Var(y * random_tensor({3, 3}, 1, -1, 1, type))) + sum(log_y[0]) + log_y[1][2]));
    for (double g : logits.grad().to_vector()) CHECK(std::isfinite(g));
    CHECK(logits.grad().at({1, 0}) == 0);
  }
}

TEST_CASE("rows without a finite logit, with infinity, and with NaN give NaN; other rows do not notice") {
  const Tensor x({4, 2}, {-infinity, -infinity, infinity, 1, NaN, 1, 1, 1}, float64);
  for (DType type : {float64, float32}) {
    Tape tape;
    Var logits = tape.variable(x.to(type)), y = softmax(logits), log_y = log_softmax(logits);
    for (Index row : {0, 1, 2}) {
      CHECK(std::isnan(y.value().at({row, 0})));
      CHECK(std::isnan(log_y.value().at({row, 0})));
    }
    CHECK(y.value().at({3, 1}) == 0.5);
    tape.backward(Var(sum(y[3]) + sum(log_y[3])));
  }
}

TEST_CASE("long rows, whose exponentials are computed by vectors, know minus infinity and NaN as well") {
  for (DType type : {float64, float32}) {
    Tensor x = random_tensor({4, 100}, 1, -3, 3, type);
    for (Index k = 0; k < 100; ++k) {
      if (k % 3 != 0) x.set({0, k}, -infinity);
      if (k % 3 != 0) x.set({1, k}, -2000);
      x.set({2, k}, -infinity);
    }
    x.set({3, 37}, NaN);
    Tape tape;
    Var logits = tape.variable(x), y = softmax(logits), log_y = log_softmax(logits), kept = masked_softmax(logits, x);
    CHECK(y.value().at({0, 1}) == 0);
    CHECK(y.value().at({1, 1}) == 0);
    CHECK(log_y.value().at({0, 1}) == -infinity);
    for (Index k = 0; k < 100; ++k) {
      CHECK(std::isnan(y.value().at({2, k})));
      CHECK(kept.value().at({2, k}) == 0);
      CHECK(std::isnan(y.value().at({3, k})));
      CHECK(std::isnan(log_y.value().at({3, k})));
    }
    CHECK(std::isnan(logsumexp(logits, {1}).value().at({3})));
    tape.backward(Var(sum(y[0]) + sum(kept[2]) + log_y[0][0] + logsumexp(logits[0]) + logsumexp(logits[2])));
    for (Index k = 0; k < 100; ++k) CHECK(logits.grad().at({2, k}) == 0);
    CHECK(logits.grad().at({0, 1}) == 0);
  }
}

TEST_CASE("a log of a small probability keeps its digits, also in float32") {
  Tape tape;
  Var y = log_softmax(tape.constant(Tensor({1, 2}, {0, 100})));
  CHECK(y.value().at({0, 0}) == -100);
  CHECK(y.value().at({0, 1}) == 0);  // exp(-100)
  // The sum of 200000 equal terms in float32, one after another, would be off in the fourth digit.
  const Var wide = log_softmax(tape.constant(Tensor(Shape{2, 200000})));
  CHECK(wide.value().at({1, 7}) == doctest::Approx(-std::log(2e5)).epsilon(1e-7));
  const Var many = softmax(tape.constant(Tensor(Shape{2, 200000})));
  CHECK(many.value().at({1, 7}) == doctest::Approx(5e-6).epsilon(1e-6));
}

TEST_CASE("masked entries have probability 0 and gradient 0, whatever their logit") {
  const Tensor x({4, 3}, {1, 2, NaN, infinity, -1e4, 1e4, 5, 6, 7, -infinity, -infinity, 3}, float64);
  const Tensor mask({4, 3}, {1, 2, 0, 0, 1, 1, 0, 0, 0, 1, 1, 0}, float64), weights = random_tensor({4, 3}, 1);
  for (DType type : {float64, float32}) {
    Tape tape;
    Var logits = tape.variable(x.to(type)), y = masked_softmax(logits, mask.to(type));
    const double p = 1 / (1 + std::exp(1.0));
    CHECK(relative_error(y.value(), Tensor({4, 3}, {p, 1 - p, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0}, float64)) < 1e-7);
    tape.backward(y, weights.to(type));
    const Numbers g = logits.grad().to_vector();
    CHECK(g[0] == doctest::Approx(p * (1 - p) * (weights.at({0, 0}) - weights.at({0, 1}))));
    CHECK(g[0] == doctest::Approx(-g[1]));
    for (std::size_t i = 2; i < 12; ++i) CHECK(g[i] == 0);
  }
}

TEST_CASE("a mask may be a tensor or a Var, and of any shape that broadcasts") {
  const Tensor from = random_tensor({2, 3, 4}, 1);
  for (const Shape& shape : std::vector<Shape>{{2, 3, 4}, {4}, {3, 1}, {2, 1, 4}, {1, 1, 1}, {}}) {
    CAPTURE(to_string(shape));
    const Tensor mask = mask_of(shape, float64);
    for (int axis : {0, 1, 2}) {
      Tensor expected = softmax_by_loops(from, axis, false, mask);
      for (Index i = 0; i < expected.size(); ++i)
        if (std::isnan(expected.data<double>()[i])) expected.data<double>()[i] = 0;
      Tape tape;
      Var x = tape.variable(from);
      CHECK(relative_error(masked_softmax(x, mask, axis).value(), expected) < 1e-14);
      CHECK(relative_error(masked_softmax(x, tape.constant(mask), axis).value(), expected) < 1e-14);
      CHECK(gradient_error([&](Tape&, const Vars& v) { return masked_softmax(v[0], mask, axis); }, {from}) < 1e-7);
    }
  }
}

TEST_CASE("softmax of nothing") {
  Tape tape;
  for (const Shape& shape : std::vector<Shape>{{0, 3}, {3, 0}, {0}}) {
    Var x = tape.variable(Tensor(shape, float64));
    for (Var y : {softmax(x), log_softmax(x), masked_softmax(x, Tensor::scalar(1, float64)), softmax(x, 0)}) {
      CHECK(y.shape() == shape);
      tape.backward(sum(y));
    }
    CHECK(x.grad().shape() == shape);
  }
}

TEST_CASE("softmax refuses what does not fit and leaves nothing recorded") {
  Tape tape;
  Var x = tape.constant(Tensor(Shape{2, 3})), scalar = tape.constant(Tensor::scalar(1)), empty;
  Var mask = tape.variable(Tensor(Shape{2, 3}));
  const std::size_t before = tape.size();
  CHECK_ERROR_HERE(softmax(x, 2), "softmax", "axis 2", "[2, 3]");
  CHECK_ERROR_HERE(log_softmax(x, -3), "log_softmax", "axis -3", "[2, 3]");
  CHECK_ERROR_HERE(softmax(scalar), "softmax", "axis -1");
  CHECK_ERROR_HERE(softmax(empty), "softmax", "empty Var");
  CHECK_ERROR_HERE(masked_softmax(x, Tensor(Shape{2, 3}), 2), "masked_softmax", "axis 2");
  CHECK_ERROR_HERE(masked_softmax(x, Tensor(Shape{2})), "masked_softmax", "[2]", "[2, 3]", "broadcast");
  CHECK_ERROR_HERE(masked_softmax(x, Tensor(Shape{4, 2, 3})), "masked_softmax", "[4, 2, 3]", "[2, 3]");
  CHECK_ERROR_HERE(masked_softmax(x, Tensor(Shape{3}, float64)), "masked_softmax", "float64", "float32");
  CHECK_ERROR_HERE(masked_softmax(x, mask), "masked_softmax", "needs a gradient", "detach");
  CHECK_ERROR_HERE(masked_softmax(x, empty), "masked_softmax", "empty Var");
  CHECK(tape.size() == before);
  CHECK(masked_softmax(x, detach(mask)).value().to_vector() == Numbers(6, 0));
}
