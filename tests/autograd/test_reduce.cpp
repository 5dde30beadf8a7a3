// Reductions: values against plain loops, derivatives against finite differences, over all axes, sizes and views.

#include <autograd/autograd.h>
#include <tests/autograd/operations.h>
#include <tests/support.h>

#include <doctest/doctest.h>
#include <oneapi/tbb/global_control.h>
#include <oneapi/tbb/task_arena.h>

#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

using namespace unroll;
using namespace unroll::testing;

namespace unroll::testing {
std::vector<OperationRow> softmax_rows();    // test_softmax.cpp
std::vector<OperationRow> normalize_rows();  // test_normalize.cpp
}  // namespace unroll::testing

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
const double NaN = std::nan("");

using AxisList = std::initializer_list<int>;
using Numbers = std::vector<double>;

/// By plain loops: every element goes to the line that its kept indices name.
Tensor reduce_by_loops(const Tensor& x, const std::vector<int>& axes, bool keep, double (*of_line)(const Numbers&)) {
  const Shape& shape = x.shape();
  std::vector<bool> reduced(static_cast<std::size_t>(shape.rank()), axes.empty());
  for (int axis : axes) reduced[static_cast<std::size_t>(axis < 0 ? axis + shape.rank() : axis)] = true;
  std::vector<Index> kept, dropped;
  Index count = 1;
  for (int k = 0; k < shape.rank(); ++k) {
    bool gone = reduced[static_cast<std::size_t>(k)];
    kept.push_back(gone ? 1 : shape[k]);
    if (!gone) dropped.push_back(shape[k]);
    count *= kept.back();
  }
  std::vector<Numbers> lines(static_cast<std::size_t>(count));
  const Numbers values = x.to_vector();
  for (Index i = 0; i < x.size(); ++i) {
    Index line = 0, step = 1, rest = i;
    for (int k = shape.rank() - 1; k >= 0; --k) {
      const auto at = static_cast<std::size_t>(k);
      if (!reduced[at]) line += rest % shape[k] * step;
      step *= kept[at];
      rest /= shape[k];
    }
    lines[static_cast<std::size_t>(line)].push_back(values[static_cast<std::size_t>(i)]);
  }
  Numbers results;
  for (const Numbers& line : lines) results.push_back(of_line(line));
  return Tensor(Shape(std::span<const Index>(keep ? kept : dropped)), results, float64);
}

double sum_of(const Numbers& x) {
  double y = 0;
  for (double v : x) y += v;
  return y;
}
double variance_of(const Numbers& x, double correction) {
  const double n = static_cast<double>(x.size()), mean = sum_of(x) / n;
  double y = 0;
  for (double v : x) y += (v - mean) * (v - mean);
  return y / (n - correction);
}

/// A reduction on Vars, and on the elements of one line.
struct ReductionCase {
  std::string name;
  Var (*call)(const Var&, AxisList, bool keep);
  double (*of_line)(const Numbers&);
  double low = -2, high = 2;
};

const std::vector<ReductionCase>& reductions() {
  static const std::vector<ReductionCase> rows{
      {"sum", [](const Var& x, AxisList axes, bool keep) { return sum(x, axes, keep); }, sum_of},
      {"mean", [](const Var& x, AxisList axes, bool keep) { return mean(x, axes, keep); },
       [](const Numbers& x) { return sum_of(x) / static_cast<double>(x.size()); }},
      {"prod", [](const Var& x, AxisList axes, bool keep) { return prod(x, axes, keep); },
       [](const Numbers& x) { return std::accumulate(x.begin(), x.end(), 1.0, std::multiplies<>()); }},
      {"max", [](const Var& x, AxisList axes, bool keep) { return max(x, axes, keep); },
       [](const Numbers& x) { return *std::max_element(x.begin(), x.end()); }},
      {"min", [](const Var& x, AxisList axes, bool keep) { return min(x, axes, keep); },
       [](const Numbers& x) { return *std::min_element(x.begin(), x.end()); }},
      {"variance of a population", [](const Var& x, AxisList axes, bool keep) { return variance(x, axes, keep, 0); },
       [](const Numbers& x) { return variance_of(x, 0); }},
      {"variance", [](const Var& x, AxisList axes, bool keep) { return variance(x, axes, keep, 0.5); },
       [](const Numbers& x) { return variance_of(x, 0.5); }},
      {"stddev", [](const Var& x, AxisList axes, bool keep) { return stddev(x, axes, keep, 0.5); },
       [](const Numbers& x) { return std::sqrt(variance_of(x, 0.5)); }},
      {"norm", [](const Var& x, AxisList axes, bool keep) { return norm(x, axes, keep); },
       [](const Numbers& x) {
         double y = 0;
         for (double v : x) y += v * v;
         return std::sqrt(y);
       }},
      {"norm of 1", [](const Var& x, AxisList axes, bool keep) { return norm(x, axes, keep, 1); },
       [](const Numbers& x) {
         double y = 0;
         for (double v : x) y += std::abs(v);
         return y;
       }},
      {"norm of infinity", [](const Var& x, AxisList axes, bool keep) { return norm(x, axes, keep, infinity); },
       [](const Numbers& x) {
         double y = 0;
         for (double v : x) y = std::max(y, std::abs(v));
         return y;
       }},
      {"logsumexp", [](const Var& x, AxisList axes, bool keep) { return logsumexp(x, axes, keep); },
       [](const Numbers& x) {
         double y = 0;
         for (double v : x) y += std::exp(v);
         return std::log(y);
       }},
  };
  return rows;
}

/// Every set of axes of a rank of 3, some from the end and in another order; the empty list means all.
template <class F>
void for_all_axes(F&& f) {
  f(AxisList{}, std::vector<int>{});
  f(AxisList{0}, std::vector<int>{0});
  f(AxisList{1}, std::vector<int>{1});
  f(AxisList{-1}, std::vector<int>{2});
  f(AxisList{0, 1}, std::vector<int>{0, 1});
  f(AxisList{2, 0}, std::vector<int>{0, 2});
  f(AxisList{-2, -1}, std::vector<int>{1, 2});
  f(AxisList{2, 0, 1}, std::vector<int>{0, 1, 2});
}

Tensor cumsum_by_loops(const Tensor& x, int axis) {
  Tensor y = x.to(float64);
  const Shape& shape = x.shape();
  axis = axis < 0 ? axis + shape.rank() : axis;
  Index step = 1;
  for (int k = axis + 1; k < shape.rank(); ++k) step *= shape[k];
  for (Index i = 0; i < y.size(); ++i)
    if (i / step % shape[axis] > 0) y.data<double>()[i] += y.data<double>()[i - step];
  return y;
}

}  // namespace

namespace unroll::testing {

std::vector<OperationRow> reduction_rows() {
  const std::vector<std::vector<Shape>> cases{{{2, 3, 4}}, {{1, 3, 1}}, {{3, 1, 2}}, {{3, 0, 2}}};
  std::vector<OperationRow> rows;
  for (const ReductionCase& r : reductions()) {
    // Over an axis that is never empty, over two that are not neighbours and over all.
    rows.push_back({r.name + (r.name.find(' ') == std::string::npos ? " over the first axis" : ", over the first axis"),
                    cases, [r](Tape&, const Vars& x) { return r.call(x[0], {0}, false); },
                    [r](const std::vector<Tensor>& x) { return reduce_by_loops(x[0], {0}, false, r.of_line); }, r.low,
                    r.high});
    rows.push_back({r.name + (r.name.find(' ') == std::string::npos ? " keeping two axes" : ", keeping two axes"),
                    {{{2, 3, 4}}, {{3, 1, 2}}, {{2, 0, 4}}},
                    [r](Tape&, const Vars& x) {
                      return r.call(x[0], {0, -1}, true);
                    },
                    [r](const std::vector<Tensor>& x) {
                      return reduce_by_loops(x[0], {0, 2}, true, r.of_line);
                    },
                    r.low,
                    r.high});
    rows.push_back({r.name,
                    {{{2, 3, 4}}, {{6}}, {{}}},
                    [r](Tape&, const Vars& x) { return r.call(x[0], {}, false); },
                    [r](const std::vector<Tensor>& x) { return reduce_by_loops(x[0], {}, false, r.of_line); },
                    r.low,
                    r.high});
  }
  for (int axis : {0, -1})
    rows.push_back({fmt::format("cumsum along {}", axis),
                    {{{2, 3, 4}}, {{4, 1}}, {{0, 2}}, {{5}}},
                    [axis](Tape&, const Vars& x) { return cumsum(x[0], axis); },
                    [axis](const std::vector<Tensor>& x) { return cumsum_by_loops(x[0], axis); }});
  for (bool largest : {true, false}) {
    OperationRow row;
    row.name = largest ? "argmax" : "argmin";
    row.cases = {{{2, 3, 4}}, {{3, 1, 2}}, {{0, 2}}};
    row.differentiable = false;
    row.call = [largest](Tape& tape, const Vars& x) {
      const TensorView value = x[0].value();
      const auto found = largest ? argmax(value, 1) : argmin(value, 1);
      return tape.constant(Tensor(value.shape().without(1), Numbers(found.begin(), found.end()), x[0].dtype()));
    };
    row.reference = [largest](const std::vector<Tensor>& x) {
      return reduce_by_loops(
          x[0], {1}, false,
          largest
              ? [](const Numbers& v) { return static_cast<double>(std::max_element(v.begin(), v.end()) - v.begin()); }
              : [](const Numbers& v) { return static_cast<double>(std::min_element(v.begin(), v.end()) - v.begin()); });
    };
    rows.push_back(row);
  }
  for (auto more : {softmax_rows(), normalize_rows()}) rows.insert(rows.end(), more.begin(), more.end());
  return rows;
}

}  // namespace unroll::testing

namespace {

/// Runs f on one, two and four threads and compares all it returns.
template <class F>
void check_same_bits(F&& f) {
  std::vector<Tensor> first;
  for (std::size_t threads : {1U, 2U, 4U}) {
    tbb::global_control limit(tbb::global_control::max_allowed_parallelism, threads);
    tbb::task_arena arena(static_cast<int>(threads));
    std::vector<Tensor> results;
    arena.execute([&] { results = f(); });
    if (first.empty()) first = results;
    for (std::size_t i = 0; i < results.size(); ++i) CHECK(same_bits(results[i], first[i]));
  }
}

/// The gradient along a random direction against a finite difference: for what is too large for one per element.
template <class F>
double directional_error(const F& f, const Tensor& x) {
  const Tensor direction = random_tensor(x.shape(), 77);
  Numbers v = direction.to_vector();
  auto value = [&](double step, Tensor* gradient) {
    Tensor moved = x;
    for (Index i = 0; i < x.size(); ++i) moved.data<double>()[i] += step * v[static_cast<std::size_t>(i)];
    Tape tape;
    Var at = tape.variable(moved), y = f(at);
    const Tensor weights = random_tensor(y.shape(), 99, 0.5, 1.5);
    if (gradient != nullptr) {
      tape.backward(y, weights);
      *gradient = Tensor(at.grad());
    }
    Numbers result = y.value().to_vector(), w = weights.to_vector();
    return std::inner_product(result.begin(), result.end(), w.begin(), 0.0);
  };
  Tensor gradient;
  value(0, &gradient);
  Numbers g = gradient.to_vector();
  const double h = 1e-6, expected = (value(h, nullptr) - value(-h, nullptr)) / (2 * h);
  const double found = std::inner_product(g.begin(), g.end(), v.begin(), 0.0);
  return std::abs(found - expected) / std::max(1.0, std::abs(expected));
}

/// dL/dx for L = sum y, and y.
std::pair<Numbers, Numbers> value_and_gradient(const std::function<Var(const Var&)>& f, const Tensor& x) {
  Tape tape;
  Var at = tape.variable(x), y = f(at);
  tape.backward(sum(y));
  return {y.value().to_vector(), at.grad().to_vector()};
}

}  // namespace

TEST_CASE("every reduction over every set of axes, kept or not, of tensors and of views") {
  struct View {
    std::string name;
    Shape of;
    std::function<Var(const Var&)> take;
  };
  const std::vector<View> views{
      {"contiguous", {2, 3, 4}, [](const Var& x) { return x; }},
      {"transposed", {2, 4, 3}, [](const Var& x) { return transpose(x); }},
      {"turned round", {4, 3, 2}, [](const Var& x) { return transpose(x, 0, 2); }},
      {"some columns", {2, 3, 9}, [](const Var& x) { return slice(x, 2, 3, 7); }},
      {"some rows", {2, 5, 4}, [](const Var& x) { return slice(x, 1, 1, 4); }},
      {"a part of the columns", {2, 3, 8}, [](const Var& x) { return chunk<2>(x)[1]; }},
      {"one of several", {3, 2, 3, 4}, [](const Var& x) { return x[1]; }},
  };
  for (const ReductionCase& r : reductions()) {
    for (const View& view : views) {
      CAPTURE(r.name);
      CAPTURE(view.name);
      const Tensor from = random_tensor(view.of, 3, r.low, r.high);
      for_all_axes([&](AxisList axes, const std::vector<int>& list) {
        CAPTURE(list);
        for (bool keep : {false, true}) {
          Tape tape;
          const Var x = view.take(tape.constant(from));
          CHECK(relative_error(r.call(x, axes, keep).value(),
                               reduce_by_loops(Tensor(x.value()), list, keep, r.of_line)) < 1e-13);
        }
        CHECK(gradient_error([&](Tape&, const Vars& x) { return r.call(view.take(x[0]), axes, false); }, {from}) <
              1e-6);
      });
    }
  }
}

TEST_CASE("sizes that are cut into tiles: long rows, long columns, many columns, many short rows") {
  for (const ReductionCase& r : reductions()) {
    CAPTURE(r.name);
    const bool small = r.name == "prod";  // the product of more numbers than that is 0
    auto check = [&](Shape shape, AxisList axes, std::vector<int> list) {
      CAPTURE(to_string(shape));
      const Tensor x = small ? random_tensor(shape, 5, 0.99, 1.01) : random_tensor(shape, 5, r.low, r.high);
      Tape tape;
      CHECK(relative_error(r.call(tape.constant(x), axes, false).value(), reduce_by_loops(x, list, false, r.of_line)) <
            1e-11);
      CHECK(directional_error([&](const Var& v) { return r.call(v, axes, false); }, x) < 2e-5);
    };
    check({2, 40000}, {1}, {1});
    check({40000, 3}, {0}, {0});
    check({300, 301}, {0}, {0});
    check({3, 700, 70}, {1}, {1});
    check({9000, 5}, {1}, {1});
    check({40000}, {}, {});
    check({5, 90, 130}, {0, 2}, {0, 2});
  }
  const Tensor x = random_tensor({3, 150, 260}, 6);
  for (int axis : {0, 1, 2}) {
    Tape tape;
    CHECK(relative_error(cumsum(tape.constant(x), axis).value(), cumsum_by_loops(x, axis)) < 1e-13);
    CHECK(directional_error([&](const Var& v) { return cumsum(v, axis); }, x) < 1e-6);
  }
}

TEST_CASE("reductions have the same bits on any number of threads") {
  for (const ReductionCase& r : reductions()) {
    CAPTURE(r.name);
    check_same_bits([&] {
      std::vector<Tensor> results;
      auto run = [&](const Shape& shape, AxisList axes) {
        Tape tape;
        Var x = tape.variable(random_tensor(shape, 1, -1, 1, float32)), y = r.call(x, axes, false);
        tape.backward(sum(y));
        results.emplace_back(y.value());
        results.emplace_back(x.grad());
      };
      run({500, 300}, {0});
      run({500, 300}, {1});
      run({150000}, {});
      run({50000, 3}, {0});
      return results;
    });
  }
}

TEST_CASE("reductions of nothing, and of axes of size 1") {
  Tape tape;
  Var none = tape.variable(Tensor(Shape{0, 3}, float64)), ones = tape.constant(random_tensor({1, 3, 1}, 1));
  const Numbers zeros(3, 0);
  CHECK(sum(none, {0}).value().to_vector() == zeros);
  CHECK(prod(none, {0}).value().to_vector() == Numbers(3, 1));
  CHECK(norm(none, {0}).value().to_vector() == zeros);
  CHECK(norm(none, {0}, false, 1).value().to_vector() == zeros);
  CHECK(logsumexp(none, {0}).value().to_vector() == Numbers(3, -infinity));
  CHECK(sum(none).item() == 0);
  CHECK(cumsum(none, 0).shape() == Shape{0, 3});
  for (const ReductionCase& r : reductions()) {
    CAPTURE(r.name);
    CHECK(r.call(none, {1}, false).shape() == Shape{0});
    CHECK(r.call(none, {1}, true).shape() == Shape{0, 1});
    tape.backward(sum(r.call(none, {1}, false)));  // nothing to add, and no crash
    CHECK(relative_error(r.call(ones, {0, 2}, false).value(),
                         reduce_by_loops(Tensor(ones.value()), {0, 2}, false, r.of_line)) < 1e-15);
  }
  CHECK(none.grad().shape() == Shape{0, 3});
  CHECK(relative_error(sum(ones, {0, 2}).value(), Tensor(ones.value()).reshaped({3})) == 0);
}

TEST_CASE("the gradient of prod is right with no, one and several zeros") {
  const Tensor x({4, 3}, {2, 3, 4, 2, 0, 4, 0, 3, 0, 0, 0, 0}, float64);
  auto [y, dx] = value_and_gradient([](const Var& v) { return prod(v, {1}); }, x);
  CHECK(y == Numbers{24, 0, 0, 0});
  CHECK(dx == Numbers{12, 8, 6, 0, 8, 0, 0, 0, 0, 0, 0, 0});
  CHECK(gradient_error([](const Tape&, const Vars& v) { return prod(v[0], {1}); }, {x}) < 1e-9);
  CHECK(gradient_error([](const Tape&, const Vars& v) { return prod(transpose(v[0]), {0}); }, {x}) < 1e-9);
  // Partial products may leave the range of float32, of the type itself, as long as the result does not.
  auto [z, dz] = value_and_gradient([](const Var& v) { return prod(v); }, Tensor({4}, {1e30, 1e30, 1e-30, 1e-30}));
  CHECK(z[0] == doctest::Approx(1));
  CHECK(dz[0] == doctest::Approx(1e-30));
}

TEST_CASE("max and min share the gradient among ties and pass NaN on") {
  const Tensor x({3, 4}, {1, 3, 3, -1, 2, 2, 2, 2, -5, -6, -7, -5}, float64);
  auto [y, dx] = value_and_gradient([](const Var& v) { return max(v, {1}); }, x);
  CHECK(y == Numbers{3, 2, -5});
  CHECK(dx == Numbers{0, 0.5, 0.5, 0, 0.25, 0.25, 0.25, 0.25, 0.5, 0, 0, 0.5});
  auto [all, shared] = value_and_gradient([](const Var& v) { return min(v, {0, 1}); }, x);
  CHECK(all == Numbers{-7});
  CHECK(shared == Numbers{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0});
  // Ties over axes that are not neighbours count together, not one axis after the other.
  auto [far, parts] = value_and_gradient(
      [](const Var& v) {
        return max(v, {0, 2});
      },
      Tensor({2, 1, 2}, {1, 1, 1, 0}, float64));
  CHECK(far == Numbers{1});
  CHECK(relative_error(Tensor({4}, parts, float64), Tensor({4}, {1. / 3, 1. / 3, 1. / 3, 0}, float64)) < 1e-15);
  for (DType type : {float32, float64}) {
    for (Index at : {0, 3, 129, 199}) {
      Tensor with = random_tensor({2, 200}, 1, -1, 1, type);
      with.set({1, at}, NaN);
      for (auto f : {+[](const Var& v) { return max(v, {1}); }, +[](const Var& v) { return min(v, {-1}); }}) {
        auto [values, gradient] = value_and_gradient(f, with);
        CHECK(std::isfinite(values[0]));
        CHECK(std::isnan(values[1]));
        CHECK(gradient[static_cast<std::size_t>(200 + at)] == 1);
        CHECK(sum_of(gradient) == 2);
      }
    }
  }
  const Tensor lowest = Tensor::full({2}, -infinity, float64);
  CHECK(value_and_gradient([](const Var& v) { return max(v); }, lowest) ==
        std::pair{Numbers{-infinity}, Numbers{.5, .5}});
}

TEST_CASE("the derivative along a direction of a maximum with ties is what the gradient says") {
  const Jvp y = jvp([](Tape&, const Vars& x) { return max(x[0]); }, {Tensor({4}, {2, 1, 2, 2}, float64)},
                    {Tensor({4}, {3, 100, 6, -3}, float64)});
  CHECK(y.value.item() == 2);
  CHECK(y.tangent.item() == doctest::Approx(2));
}

TEST_CASE("argmax and argmin give the first of ties, the first NaN, along any axis of any view") {
  const Tensor x({2, 4}, {1, 3, 3, 0, -1, -2, -2, -1});
  using Found = std::vector<std::int32_t>;
  CHECK(argmax(x) == Found{1, 0});
  CHECK(argmin(x) == Found{3, 1});
  CHECK(argmax(x, 0) == Found{0, 0, 0, 0});
  CHECK(argmin(x, -2) == Found{1, 1, 1, 1});
  CHECK(argmax(Tensor({2, 3}, {1, NaN, NaN, NaN, 9, 1})) == Found{1, 0});
  CHECK(argmin(Tensor({2, 3}, {1, NaN, -infinity, -1, -9, NaN})) == Found{1, 2});
  CHECK(argmax(Tensor({1, 3}, {-infinity, -infinity, -infinity})) == Found{0});
  CHECK(argmax(Tensor(Shape{0, 3})).empty());
  Tape tape;
  const Var cube = tape.constant(random_tensor({3, 4, 5}, 1));
  for (int axis : {0, 1, 2}) {
    const Var turned = transpose(cube, 0, 2), some = slice(cube, 2, 1, 4);
    CHECK(argmax(turned.value(), axis) == argmax(Tensor(turned.value()), axis));
    CHECK(argmin(some.value(), axis) == argmin(Tensor(some.value()), axis));
  }
  CHECK_ERROR_HERE(argmax(x, 2), "argmax", "axis 2", "[2, 4]");
  CHECK_ERROR_HERE(argmin(Tensor(Shape{3, 0})), "argmin", "[3, 0]", "nothing to choose from");
  CHECK_ERROR_HERE(argmax(Tensor(Shape{})), "argmax", "axis -1");
}

TEST_CASE("variance: correction, a large mean, and stddev at 0") {
  const Tensor x({4}, {1, 2, 3, 6}, float64);
  Tape tape;
  Var v = tape.constant(x);
  CHECK(variance(v).item() == doctest::Approx(14.0 / 3));
  CHECK(variance(v, {0}, false, 0).item() == doctest::Approx(14.0 / 4));
  CHECK(stddev(v).item() == doctest::Approx(std::sqrt(14.0 / 3)));
  CHECK(stddev(v, {-1}, true, 2).value().at({0}) == doctest::Approx(std::sqrt(7.0)));
  // 1e6 + {0, 1, 2, 3}: the squares alone would lose every digit of float32, and a mean rounded to it some.
  Var far = tape.variable(Tensor({4}, {1e6, 1e6 + 1, 1e6 + 2, 1e6 + 3}));
  Var y = variance(far);
  CHECK(y.item() == doctest::Approx(5.0 / 3).epsilon(1e-7));
  tape.backward(y);
  CHECK(relative_error(far.grad(), Tensor({4}, {-1, -1. / 3, 1. / 3, 1}, float32)) < 1e-6);
  auto [zero, gradient] = value_and_gradient([](const Var& e) { return stddev(e, {1}); }, Tensor::full({2, 3}, 7));
  CHECK(zero == Numbers{0, 0});
  CHECK(gradient == Numbers(6, 0));
  CHECK_ERROR_HERE(variance(tape.constant(Tensor(Shape{3, 1})), {1}), "variance", "[3, 1]", "1 elements",
                   "correction is 1");
  CHECK_ERROR_HERE(stddev(v, {}, false, 4), "stddev", "correction is 4");
}

TEST_CASE("norm neither overflows nor underflows, and has gradient 0 at 0") {
  for (double size : {1e300, 1e160, 1.0, 1e-160, 1e-300}) {
    CAPTURE(size);
    auto [y, dx] =
        value_and_gradient([](const Var& v) { return norm(v); }, Tensor({2}, {3 * size, -4 * size}, float64));
    CHECK(y[0] / size == doctest::Approx(5).epsilon(1e-14));
    CHECK(dx[0] == doctest::Approx(0.6).epsilon(1e-14));
    CHECK(dx[1] == doctest::Approx(-0.8).epsilon(1e-14));
  }
  for (double size : {1e37, 1e-37}) {
    auto [y, dx] = value_and_gradient([](const Var& v) { return norm(v); }, Tensor({2}, {3 * size, -4 * size}));
    CHECK(y[0] / size == doctest::Approx(5).epsilon(1e-6));
    CHECK(dx[0] == doctest::Approx(0.6).epsilon(1e-6));
  }
  const double least = std::numeric_limits<double>::denorm_min();
  CHECK(value_and_gradient([](const Var& v) { return norm(v); }, Tensor({1}, {least}, float64)).first[0] == least);
  // Large and tiny columns side by side: each is scaled by itself.
  Tape tape;
  Var mixed = norm(tape.constant(Tensor({2, 3}, {3e200, 3, 3e-200, 4e200, 4, 4e-200}, float64)), {0});
  CHECK(mixed.value().at({0}) == doctest::Approx(5e200));
  CHECK(mixed.value().at({1}) == doctest::Approx(5));
  CHECK(mixed.value().at({2}) / 1e-200 == doctest::Approx(5));
  for (double p : {1.0, 2.0, infinity}) {
    CAPTURE(p);
    auto f = [p](const Var& v) { return norm(v, {1}, false, p); };
    auto [y, dx] = value_and_gradient(f, Tensor(Shape{2, 3}, float64));
    CHECK(y == Numbers{0, 0});
    CHECK(dx == Numbers(6, 0));
    CHECK(norm(tape.constant(Tensor({2}, {1, -infinity})), {}, false, p).item() == infinity);
    CHECK(std::isnan(norm(tape.constant(Tensor({2}, {1, NaN})), {}, false, p).item()));
  }
  auto [most, shared] =
      value_and_gradient([](const Var& v) { return norm(v, {}, false, infinity); }, Tensor({3}, {-2, 2, 1}, float64));
  CHECK(most == Numbers{2});
  CHECK(shared == Numbers{-0.5, 0.5, 0});
}

TEST_CASE("logsumexp of huge logits, of minus infinity, and of infinity") {
  const Tensor x({4, 3}, {1e4, 1e4, -1e4, -infinity, 2, 2, -infinity, -infinity, -infinity, -1e4, -1e4, -1e4}, float64);
  for (DType type : {float64, float32}) {
    auto [y, dx] = value_and_gradient([](const Var& v) { return logsumexp(v, {1}); }, x.to(type));
    const double precise = type == float64 ? 1e-15 : 1e-7;
    CHECK(y[0] == doctest::Approx(1e4 + std::log(2)).epsilon(precise));
    CHECK(y[1] == doctest::Approx(2 + std::log(2)).epsilon(precise));
    CHECK(y[2] == -infinity);
    CHECK(y[3] == doctest::Approx(-1e4 + std::log(3)).epsilon(precise));
    const Tensor expected({12}, {.5, .5, 0, 0, .5, .5, 0, 0, 0, 1. / 3, 1. / 3, 1. / 3}, float64);
    CHECK(relative_error(Tensor({12}, dx, float64), expected) < 1e-7);
    auto turned = value_and_gradient([](const Var& v) { return logsumexp(transpose(v), {0}); }, x.to(type));
    CHECK(turned.first[2] == -infinity);
    CHECK(relative_error(Tensor({4}, turned.first), Tensor({4}, y)) < 1e-7);
    CHECK(relative_error(Tensor({12}, turned.second), Tensor({12}, dx)) < 1e-7);
  }
  Tape tape;
  CHECK(logsumexp(tape.constant(Tensor({2}, {infinity, 1}))).item() == infinity);
  CHECK(logsumexp(tape.constant(Tensor({2}, {infinity, -infinity}))).item() == infinity);
  CHECK(std::isnan(logsumexp(tape.constant(Tensor({2}, {NaN, 1}))).item()));
  CHECK(std::isnan(logsumexp(tape.constant(Tensor({3}, {1, NaN, infinity}))).item()));
}

TEST_CASE("sums of float32 are accumulated in double") {
  Tape tape;
  const Tensor ones = Tensor::full({20'000'000}, 1);
  Var x = tape.constant(ones);
  CHECK(sum(x).item() == 20'000'000);
  CHECK(sum(reshape(x, {-1, 2}), {0}).value().to_vector() == Numbers{1e7, 1e7});
  CHECK(sum(reshape(x, {100, -1, 2}), {0, 2}).value().at({7}) == 200);
  CHECK(norm(x, {}, false, 1).item() == 20'000'000);
  CHECK(cumsum(reshape(x, {-1, 1}), 0).value().at({19'999'999, 0}) == 20'000'000);
  CHECK(logsumexp(x).item() == doctest::Approx(1 + std::log(2e7)).epsilon(1e-7));
}

TEST_CASE("mean of all, and the same operand used twice") {
  CHECK(gradient_error([](Tape&, const Vars& x) { return Var(max(x[0], {1}, true) * x[0] + sum(x[0])); },
                       {random_tensor({3, 4}, 1)}) < 1e-7);
  CHECK(
      gradient_error([](Tape&, const Vars& x) { return Var((x[0] - mean(x[0], {0}, true)) / stddev(x[0], {0}, true)); },
                     {random_tensor({5, 3}, 2)}) < 1e-7);
  CHECK(gradient_error([](Tape&, const Vars& x) { return Var(prod(x[0][0]) * norm(x[0][1]) + logsumexp(x[0])); },
                       {random_tensor({2, 4}, 3)}) < 1e-7);
}

TEST_CASE("reductions refuse what does not fit and leave nothing recorded") {
  Tape tape;
  Var x = tape.constant(Tensor(Shape{2, 3})), none = tape.constant(Tensor(Shape{0, 3}));
  Var turned = transpose(x), empty;
  const std::size_t before = tape.size();
  for (const ReductionCase& r : reductions()) {
    const std::string name = r.name.substr(0, r.name.find(' '));
    CAPTURE(name);
    CHECK_ERROR(r.call(turned, {2}, false), name, "axis 2", "[3, 2]", "test_reduce.cpp");
    CHECK_ERROR(r.call(turned, {1, -1}, false), name, "axis -1", "twice");
    CHECK_ERROR(r.call(empty, {}, false), name, "empty Var");
  }
  CHECK_ERROR_HERE(mean(none, {0}), "mean: shape [0, 3] has nothing along these axes to average");
  CHECK_ERROR_HERE(mean(none), "mean", "[0, 3]");
  CHECK_ERROR_HERE(max(none, {0}), "max: shape [0, 3] has nothing along these axes to choose from");
  CHECK_ERROR_HERE(min(none), "min", "[0, 3]");
  CHECK_ERROR_HERE(norm(none, {0}, true, infinity), "norm", "[0, 3]");
  CHECK_ERROR_HERE(norm(turned, {0}, true, 3), "norm: p is 3; it can be 1, 2 or infinity");
  CHECK_ERROR_HERE(norm(turned, {5}, true, 1), "norm", "axis 5");
  CHECK_ERROR_HERE(cumsum(turned, 2), "cumsum", "axis 2");
  CHECK_ERROR_HERE(variance(none, {0}), "variance", "0 elements");
  CHECK(tape.size() == before);
}

TEST_CASE("a second step needs no more memory than the first") {
  Tape tape;
  const Tensor x = random_tensor({40, 50}, 1, -1, 1, float32);
  std::size_t held = 0;
  for (int step = 0; step < 4; ++step) {
    tape.clear();
    Var v = tape.variable(x), y = tape.zeros({});
    for (const ReductionCase& r : reductions()) y = y + r.call(v, {1}, false)[0] + r.call(v, {0}, false)[0];
    tape.backward(Var(y + cumsum(v, 0)[1][2]));
    if (step == 1) held = tape.bytes_held();
    if (step > 1) CHECK(tape.bytes_held() == held);
  }
}
