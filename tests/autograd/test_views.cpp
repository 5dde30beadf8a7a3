#include <autograd/autograd.h>
#include <tests/support.h>

#include <doctest/doctest.h>

#include <functional>
#include <limits>

using namespace unroll;
using namespace unroll::testing;

namespace {

double error(const std::function<Var(const Var&)>& f, Shape shape) {
  return gradient_error([&](Tape&, const std::vector<Var>& x) { return f(x[0]); }, {random_tensor(shape, 7)});
}

}  // namespace

TEST_CASE("views copy nothing") {
  Tape tape;
  Var x = tape.constant(Tensor({2, 6}, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}));
  const float* memory = x.value().data<float>();
  CHECK(x[1].value().data<float>() == memory + 6);
  CHECK(slice(x, 1, 2, 5).value().data<float>() == memory + 2);
  CHECK(reshape(x, {3, -1}).value().data<float>() == memory);
  CHECK(transpose(x).value().data<float>() == memory);
  auto [a, b, c] = chunk<3>(x);
  CHECK(b.value().data<float>() == memory + 2);
  CHECK(c.value().to_vector() == std::vector<double>{4, 5, 10, 11});
  CHECK(x[-1].value().to_vector() == std::vector<double>{6, 7, 8, 9, 10, 11});
  CHECK(transpose(x).value().at({5, 1}) == 11);
  CHECK(reshape(transpose(x), {12}).value().at({1}) == 6);  // a copy, in the order that is seen
  CHECK(squeeze(unsqueeze(x, 1)).value().data<float>() == memory);
  CHECK(permute(reshape(x, {2, 3, 2}), {2, 0, 1}).value().data<float>() == memory);
  CHECK(unflatten(c, 1, {1, -1}).value().data<float>() == memory + 4);  // of a view, where reshape would copy
  CHECK(flatten(x).value().data<float>() == memory);
  CHECK(flip(x, {1}).value().data<float>() == memory + 5);
  CHECK(slice(x, 1, 1, 6, 2).value().data<float>() == memory + 1);
  CHECK(split(x, {1, 5}, 1)[1].value().data<float>() == memory + 1);
  CHECK(unbind(x, -1)[4].value().data<float>() == memory + 4);
}

TEST_CASE("scalars, empty axes and axes of size 1") {
  Tape tape;
  Var s = tape.constant(Tensor::scalar(3)), x = tape.constant(Tensor({2, 1, 3}, {1, 2, 3, 4, 5, 6}));
  Var none = tape.constant(Tensor({2, 0, 3}));
  CHECK(squeeze(s).shape() == Shape{});
  CHECK(permute(s, {}).item() == 3);
  CHECK(flip(s, {}).item() == 3);
  CHECK(unsqueeze(s, 0).shape() == Shape{1});
  CHECK(unsqueeze(unsqueeze(s, -1), -1).shape() == Shape{1, 1});
  CHECK(flatten(s).shape() == Shape{1});
  CHECK(reshape(s, {1, 1, 1}).shape() == Shape{1, 1, 1});
  CHECK(reshape(unsqueeze(s, 0), {}).shape() == Shape{});
  CHECK(squeeze(x).shape() == Shape{2, 3});
  CHECK(squeeze(x, 1).shape() == Shape{2, 3});
  CHECK(squeeze(x, -1).shape() == Shape{2, 1, 3});  // not of size 1: stays
  CHECK(squeeze(x, {0, -2}).shape() == Shape{2, 3});
  CHECK(squeeze(x, {}).shape() == Shape{2, 1, 3});
  CHECK(unsqueeze(x, 3).shape() == Shape{2, 1, 3, 1});
  CHECK(unsqueeze(x, -4).shape() == Shape{1, 2, 1, 3});
  CHECK(flatten(x, 0, 1).shape() == Shape{2, 3});
  CHECK(unflatten(x, -1, {3, 1}).shape() == Shape{2, 1, 3, 1});
  CHECK(unflatten(x, 1, {}).shape() == Shape{2, 3});  // no sizes: their product is 1
  CHECK(flip(none, {0, 1, 2}).shape() == Shape{2, 0, 3});
  CHECK(slice(none, 1, 0, 0, 4).shape() == Shape{2, 0, 3});
  CHECK(slice(x, 0, 2, 2).shape() == Shape{0, 1, 3});
  CHECK(slice(x, 2, 0, 3, std::numeric_limits<Index>::max()).value().to_vector() == std::vector<double>{1, 4});
  CHECK(slice(x, 2, -3, -1).value().to_vector() == std::vector<double>{1, 2, 4, 5});
  CHECK(split(none, {0, 0}, 1).size() == 2);
  CHECK(split(none, {}, 1).empty());
  CHECK(unbind(none, 1).empty());
  CHECK(unbind(none)[1].shape() == Shape{0, 3});
  CHECK(unbind(x, 1)[0].value().to_vector() == std::vector<double>{1, 2, 3, 4, 5, 6});
  CHECK(reshape(none, {-1}).shape() == Shape{0});
  CHECK(reshape(none, {0, 7}).shape() == Shape{0, 7});
  CHECK(flatten(none).shape() == Shape{0});
  CHECK(unflatten(none, 1, {0, 2}).shape() == Shape{2, 0, 2, 3});
  CHECK(flip(x, {0, -1}).value().to_vector() == std::vector<double>{6, 5, 4, 3, 2, 1});
}

TEST_CASE("what flows into a view arrives in its parent, whatever else does") {
  CHECK(error([](const Var& x) { return Var(x[0] * x[2]); }, {4, 3}) < 1e-7);
  CHECK(error([](const Var& x) { return Var(x[1] * x[1] + x[1]); }, {4, 3}) < 1e-7);    // one part, thrice
  CHECK(error([](const Var& x) { return Var(x[0] * x[1] + sum(x)); }, {2, 3}) < 1e-7);  // parts and whole
  CHECK(error(
            [](const Var& x) {
              Var s = sum(Var(x * x));
              return Var(s + x[0] * x[1]);
            },
            {2, 3}) < 1e-7);
  CHECK(error([](const Var& x) { return Var(x[0] * slice(x, 0, 1, 2)); }, {3, 4}) < 1e-7);  // part and slice
  CHECK(error(
            [](const Var& x) {
              auto [a, b] = chunk<2>(x);
              auto [c, d] = chunk<2>(a);
              return Var(c * d + c);
            },
            {3, 8}) < 1e-7);
  CHECK(error(
            [](const Var& x) {
              auto [a, b] = chunk<2>(x);
              return Var(a * b + chunk<2>(x)[1]);
            },
            {3, 8}) < 1e-7);
  CHECK(error(
            [](const Var& x) {
              auto [a, b] = chunk<2>(x);
              return sum(Var(a * b)) + sum(Var(x[1] * x[2]));
            },
            {3, 8}) < 1e-7);
  CHECK(error(
            [](const Var& x) {
              Var y = tanh(x);
              return Var(y[0] * y[1] + y[0]);
            },
            {3, 4}) < 1e-7);  // of no leaf
  CHECK(error(
            [](const Var& x) {
              Var y = reshape(tanh(x), {6, 2});
              return Var(y[0] * y[5]);
            },
            {3, 4}) < 1e-7);
  CHECK(error(
            [](const Var& x) {
              Var y = reshape(tanh(x), {2, 3, 2});
              return Var(y[0] * y[1] * chunk<2>(reshape(y, {12}))[0][1]);
            },
            {3, 4}) < 1e-7);
  CHECK(error([](const Var& x) { return Var(transpose(x)[1] * x[0]); }, {3, 3}) < 1e-7);
  CHECK(error(
            [](const Var& x) {
              Var t = transpose(x);
              return Var(t * t + slice(t, 0, 1, 2));
            },
            {3, 4}) < 1e-7);
  CHECK(error(
            [](const Var& x) {
              Var y = tanh(x);
              auto p = chunk<4>(y, 0);
              return Var(p[2] * p[2][0] * y[2]);
            },
            {4, 3}) < 1e-7);
}

TEST_CASE("parts that nothing reached have zero gradient, in every later backward too") {
  Tape tape;
  Var x = tape.variable(Tensor({3, 2}, {1, 2, 3, 4, 5, 6}));
  Var y = Var(x * 1).keep_grad();
  Var first = sum(y[0]), second = sum(y[2]);
  tape.backward(first);
  CHECK(y.grad().to_vector() == std::vector<double>{1, 1, 0, 0, 0, 0});
  tape.backward(second);
  CHECK(y.grad().to_vector() == std::vector<double>{0, 0, 0, 0, 1, 1});
  CHECK(x.grad().to_vector() == std::vector<double>{1, 1, 0, 0, 1, 1});
}

TEST_CASE("stack and concat: values and derivatives") {
  Tape tape;
  Var a = tape.constant(Tensor({2, 2}, {1, 2, 3, 4})), b = tape.constant(Tensor({2, 1}, {5, 6}));
  CHECK(concat(std::vector{a, b}, 1).value().to_vector() == std::vector<double>{1, 2, 5, 3, 4, 6});
  CHECK(concat(std::vector{a, a}, 0).shape() == Shape{4, 2});
  CHECK(stack(std::vector{a, a, a}).shape() == Shape{3, 2, 2});
  CHECK(stack(std::vector{a, transpose(a)}).value().to_vector() == std::vector<double>{1, 2, 3, 4, 1, 3, 2, 4});
  CHECK(error([](const Var& x) { return Var(square(concat(std::vector{x[0], x[1], x[0]}, -1))); }, {2, 3, 4}) < 1e-7);
  CHECK(error(
            [](const Var& x) {
              return Var(square(stack(std::vector{x[0], Var(tanh(x[1])), x[0]})));
            },
            {2, 3}) < 1e-7);
  CHECK(error([](const Var& x) { return Var(square(concat(std::vector{x, transpose(x)}, 1))); }, {3, 3}) < 1e-7);
  CHECK_ERROR_HERE(concat(std::vector{a, b}, 0), "concat", "[2, 2]", "[2, 1]");
  CHECK_ERROR_HERE(stack(std::vector{a, b}), "stack", "[2, 2]", "[2, 1]");
  CHECK_ERROR_HERE(stack(std::vector<Var>{}), "stack", "no parts");
}

TEST_CASE("a part of a detached view meets what it was detached from") {
  Tape tape;
  Var x = tape.variable(Tensor({2}, {3, 4}));
  Var part = x[0], detached = detach(x)[0], stays = chunk<2>(detach(x), 0)[1][0];
  tape.backward(Var(part * detached + stays * part));
  CHECK(x.grad().to_vector() == std::vector<double>{7, 0});
}

TEST_CASE("a detached value has no tangent") {
  auto f = [](Tape&, const std::vector<Var>& x) { return Var(x[0] * detach(x[0])); };
  const Tensor at = Tensor::scalar(3), one = Tensor::scalar(1);
  CHECK(jvp(f, {at}, {one}).tangent.item() == 3);
  CHECK(hvp(f, {at}, {one})[0].item() == 0);
}

TEST_CASE("detach stops the gradient and keeps the value") {
  Tape tape;
  Var x = tape.variable(Tensor({2}, {3, 4}));
  Var y = x * x;
  tape.backward(sum(Var(x * detach(y))));
  CHECK(x.grad().to_vector() == std::vector<double>{9, 16});
  CHECK_FALSE(detach(y).needs_grad());
}

namespace {

/// A view as a list: for each of its elements, in row-major order, which element of the viewed value it is.
struct Model {
  Shape shape;
  std::vector<std::size_t> elements;
};

/// The model whose element at each place is the old one's element at f(place).
template <class F>
Model rearranged(const Model& of, const Shape& shape, F&& f) {
  Model result{shape, {}};
  for (Index i = 0; i < shape.count(); ++i) {
    std::array<Index, max_rank> at{};
    Index rest = i, offset = 0;
    for (int k = shape.rank() - 1; k >= 0; --k) {
      at[static_cast<std::size_t>(k)] = rest % shape[k];
      rest /= shape[k];
    }
    const std::array<Index, max_rank> from = f(at);
    for (int k = 0; k < of.shape.rank(); ++k) offset = offset * of.shape[k] + from[static_cast<std::size_t>(k)];
    result.elements.push_back(of.elements[static_cast<std::size_t>(offset)]);
  }
  return result;
}

struct Seen {
  Var var;
  Model model;
};

/// A random view of a view.
Seen random_view(const Seen& of, Generator& rng) {
  using Place = std::array<Index, max_rank>;
  const Shape& shape = of.model.shape;
  const int rank = shape.rank();
  if (rank == 0) return {unsqueeze(of.var, 0), {Shape{1}, of.model.elements}};
  const int axis = static_cast<int>(rng.below(rank));
  const auto a = static_cast<std::size_t>(axis);
  const Index size = shape[axis];
  switch (rng.below(10)) {
    case 0: {
      const Index i = rng.below(size);
      return {rng.below(2) == 0 ? unbind(of.var, axis)[static_cast<std::size_t>(i)]
                                : select(of.var, axis, i - (rng.below(2) == 0 ? size : 0)),
              rearranged(of.model, shape.without(axis), [&](Place at) {
                std::copy_backward(at.begin() + axis, at.end() - 1, at.end());
                at[a] = i;
                return at;
              })};
    }
    case 1: {
      const Index begin = rng.below(size), end = begin + 1 + rng.below(size - begin), step = 1 + rng.below(2);
      return {slice(of.var, axis, begin, end, step),
              rearranged(of.model, shape.with(axis, (end - begin + step - 1) / step), [&](Place at) {
                at[a] = begin + at[a] * step;
                return at;
              })};
    }
    case 2: {
      const Index parts = size % 2 == 0 ? 2 : size, index = rng.below(parts);
      return {part(of.var, axis, parts, index), rearranged(of.model, shape.with(axis, size / parts), [&](Place at) {
                at[a] += index * (size / parts);
                return at;
              })};
    }
    case 3: {
      const int other = static_cast<int>(rng.below(rank));
      return {transpose(of.var, axis, other),
              rearranged(of.model, shape.with(axis, shape[other]).with(other, size), [&](Place at) {
                std::swap(at[a], at[static_cast<std::size_t>(other)]);
                return at;
              })};
    }
    case 4:
      return {flip(of.var, {axis}), rearranged(of.model, shape, [&](Place at) {
                at[a] = size - 1 - at[a];
                return at;
              })};
    case 5:
      if (rank == 3)
        return {permute(of.var, {2, 0, 1}), rearranged(of.model, Shape{shape[2], shape[0], shape[1]}, [](Place at) {
                  return Place{at[1], at[2], at[0]};
                })};
      return {flatten(of.var), {Shape{shape.count()}, of.model.elements}};  // perhaps a copy
    case 6:
      if (rank < max_rank) return {unsqueeze(of.var, axis), {shape.insert(axis, 1), of.model.elements}};
      return of;
    case 7:
      return {squeeze(of.var, axis), {size == 1 ? shape.without(axis) : shape, of.model.elements}};
    case 8:
      if (rank < max_rank && size % 2 == 0)
        return {unflatten(of.var, axis, {2, -1}), {shape.with(axis, size / 2).insert(axis, 2), of.model.elements}};
      return of;
    default:
      return {reshape(of.var, {-1, size}), {Shape{shape.count() / size, size}, of.model.elements}};  // perhaps a copy
  }
}

}  // namespace

TEST_CASE("views of views by the hundred: what they see, and the gradient of everything computed from them") {
  for (std::uint64_t seed = 0; seed < 400; ++seed) {
    CAPTURE(seed);
    Generator rng(seed);
    const std::vector<Shape> shapes{{4, 6}, {2, 3, 4}, {12}, {2, 2, 2, 2}, {1, 6, 2}};
    const Shape shape = shapes[static_cast<std::size_t>(rng.below(static_cast<Index>(shapes.size())))];
    const Tensor values = random_tensor(shape, seed + 1000);
    Tape tape;
    Var leaf = tape.variable(values);
    Var base = rng.below(2) == 0 ? leaf : Var(leaf * 1);
    Model all{shape, {}};
    for (Index i = 0; i < shape.count(); ++i) all.elements.push_back(static_cast<std::size_t>(i));
    std::vector<Seen> views{{base, all}};
    for (Index n = 1 + rng.below(12); n > 0; --n)
      views.push_back(random_view(views[static_cast<std::size_t>(rng.below(static_cast<Index>(views.size())))], rng));

    // A sum of terms, each of random views: weights times the elements, their squares, or several views put together.
    const double* x = values.data<double>();
    std::vector<double> expected(static_cast<std::size_t>(shape.count()));
    Var loss = tape.constant(Tensor::scalar(0, float64));
    for (Index terms = 1 + rng.below(6); terms > 0; --terms) {
      const Seen& v = views[static_cast<std::size_t>(rng.below(static_cast<Index>(views.size())))];
      const Tensor weights = random_tensor(v.model.shape, rng.bits());
      const double* w = weights.data<double>();
      REQUIRE(v.var.shape() == v.model.shape);
      std::vector<double> seen = v.var.value().to_vector();
      for (std::size_t i = 0; i < seen.size(); ++i) REQUIRE(seen[i] == x[v.model.elements[i]]);
      if (rng.below(3) == 0) {
        loss = loss + sum(Var(weights * v.var));
        for (std::size_t i = 0; i < seen.size(); ++i) expected[v.model.elements[i]] += w[i];
      } else if (rng.below(2) == 0) {
        loss = loss + sum(Var(weights * v.var * v.var));
        for (std::size_t i = 0; i < seen.size(); ++i)
          expected[v.model.elements[i]] += 2 * w[i] * x[v.model.elements[i]];
      } else {
        const Seen& u = views[static_cast<std::size_t>(rng.below(static_cast<Index>(views.size())))];
        Var joined = concat({flatten(v.var), flatten(u.var), flatten(v.var)});
        const Tensor long_weights = random_tensor(joined.shape(), rng.bits());
        loss = loss + sum(Var(long_weights * joined));
        std::size_t i = 0;
        for (const Model* part : {&v.model, &u.model, &v.model})
          for (std::size_t element : part->elements) expected[element] += long_weights.data<double>()[i++];
      }
    }
    tape.backward(loss);
    CHECK(relative_error(leaf.grad(), Tensor(shape, expected, float64)) < 1e-13);
    tape.backward(loss);  // once more: what the first sweep left behind does no harm
    for (double& g : expected) g *= 2;
    CHECK(relative_error(leaf.grad(), Tensor(shape, expected, float64)) < 1e-13);
  }
}

TEST_CASE("views of a broadcast, and a broadcast of views") {
  CHECK(error(
            [](const Var& x) {
              Var y = broadcast_to(x, {4, 3, 2});
              return Var(square(y[1]) + select(y, 0, 2) * 3 + flip(y, {0, 1})[0]);
            },
            {3, 1}) < 1e-7);
  CHECK(error(
            [](const Var& x) {
              Var y = broadcast_to(flip(transpose(x), {0}), {5, 3, 2});
              return Var(square(slice(y, 0, 1, 5, 2)) * x[0][1]);
            },
            {2, 3}) < 1e-7);
}

TEST_CASE("overlapping views: every one adds its share") {
  Tape tape;
  Var x = tape.variable(Tensor({5}, {1, 2, 3, 4, 5}, float64));
  Var a = slice(x, 0, 0, 4), b = slice(x, 0, 1, 5), c = slice(x, 0, 0, 5, 2), d = flip(x, {0});
  tape.backward(sum(a) + sum(Var(2 * b)) + sum(Var(3 * c)) + sum(Var(10 * slice(d, 0, 0, 2))) + sum(Var(x * 100)));
  CHECK(x.grad().to_vector() == std::vector<double>{104, 103, 106, 113, 115});
}

TEST_CASE("split: parts of any sizes, equal ones as well") {
  CHECK(error(
            [](const Var& x) {
              std::vector<Var> p = split(x, {1, 0, 3}, -1), q = split(x, {2, 2}, 1);
              return sum(Var(p[0] * p[2])) + sum(Var(q[0] * q[1])) + sum(p[1]);
            },
            {3, 4}) < 1e-7);
  Tape tape;
  Var x = tape.constant(Tensor({3, 2}, {1, 2, 3, 4, 5, 6}));
  const std::vector<Index> sizes{1, 2};
  CHECK(split(x, sizes)[1].value().to_vector() == std::vector<double>{3, 4, 5, 6});
  CHECK(split(x, {3}, 0).size() == 1);
}

TEST_CASE("wrong axes, indices and sizes name the operation, the shape and the line") {
  Tape tape;
  Var x = tape.constant(Tensor({2, 6})), six = tape.constant(Tensor({1, 1, 1, 1, 1, 1}));
  const std::size_t before = tape.size();
  CHECK_ERROR(x[2], "select", "index 2", "[2, 6]");
  CHECK_ERROR_HERE(select(x, 2, 0), "select", "axis 2", "[2, 6]");
  CHECK_ERROR_HERE(unbind(x, 2), "unbind", "axis 2", "[2, 6]");
  CHECK_ERROR_HERE(unbind(Var()), "unbind", "empty Var");
  CHECK_ERROR_HERE(slice(x, 1, 4, 3), "slice", "4 to 3", "[2, 6]");
  CHECK_ERROR_HERE(slice(x, 1, 0, 7), "slice", "[2, 6]");
  CHECK_ERROR_HERE(slice(x, 1, -7, 2), "slice", "-7 to 2", "[2, 6]");
  CHECK_ERROR_HERE(slice(x, 1, 0, 6, 0), "slice", "step 0");
  CHECK_ERROR_HERE(slice(x, 1, 0, 6, -1), "slice", "step -1", "flip");
  CHECK_ERROR_HERE(chunk<4>(x), "chunk", "4 equal parts", "[2, 6]");
  CHECK_ERROR_HERE(reshape(x, {5, -1}), "reshape", "[2, 6]");
  CHECK_ERROR_HERE(reshape(x, {-1, -1}), "reshape", "only one");
  CHECK_ERROR_HERE(transpose(x, 0, 2), "transpose", "[2, 6]");
  CHECK_ERROR_HERE(reshape(x, {-2, 6}), "reshape", "size -2");
  CHECK_ERROR_HERE(reshape(x, {0, -1}), "reshape", "[0, -1]", "any number");
  CHECK_ERROR_HERE(reshape(x, {1, 1, 1, 1, 1, 1, 12}), "reshape", "7 axes", "at most 6");
  CHECK_ERROR_HERE(reshape(x, {1LL << 40, 1LL << 40}), "reshape", "64 bits");
  CHECK_ERROR_HERE(transpose(tape.constant(Tensor::scalar(1))), "transpose", "axis -2", "[]");
  CHECK_ERROR_HERE(permute(x, {0}), "permute", "[0]", "[2, 6]");
  CHECK_ERROR_HERE(permute(x, {0, -2}), "permute", "axis -2", "twice", "[2, 6]");
  CHECK_ERROR_HERE(permute(x, {0, 2}), "permute", "axis 2", "[2, 6]");
  CHECK_ERROR_HERE(flip(x, {1, -1}), "flip", "axis -1", "twice");
  CHECK_ERROR_HERE(flip(x, {2}), "flip", "axis 2", "[2, 6]");
  CHECK_ERROR_HERE(squeeze(x, {0, 0}), "squeeze", "twice");
  CHECK_ERROR_HERE(squeeze(x, 2), "squeeze", "axis 2", "[2, 6]");
  CHECK_ERROR_HERE(unsqueeze(x, 3), "unsqueeze", "new axis 3", "-3 to 2");
  CHECK_ERROR_HERE(unsqueeze(x, -4), "unsqueeze", "new axis -4", "-3 to 2");
  CHECK_ERROR_HERE(unsqueeze(six, 0), "unsqueeze", "at most 6");
  CHECK_ERROR_HERE(unflatten(x, 1, {2, 2}), "unflatten", "[2, 2]", "axis 1", "[2, 6]");
  CHECK_ERROR_HERE(unflatten(x, 1, {-1, 4}), "unflatten", "[2, 6]", "must be 6");
  CHECK_ERROR_HERE(unflatten(six, 0, {1, 1}), "unflatten", "at most 6");
  CHECK_ERROR_HERE(flatten(x, 1, 0), "flatten", "1 to 0");
  CHECK_ERROR_HERE(flatten(x, 0, 2), "flatten", "axis 2");
  CHECK_ERROR_HERE(split(x, {1, 4}, 1), "split", "[1, 4]", "axis 1", "[2, 6]", "add up to 6");
  CHECK_ERROR_HERE(split(x, {7, -1}, 1), "split", "[7, -1]");
  CHECK_ERROR_HERE(split(x, {}), "split", "add up to 2");
  CHECK_ERROR_HERE(split(x, {1, 1}, 2), "split", "axis 2");
  CHECK_ERROR_HERE(part(x, 1, 0, 0), "chunk", "0 parts");
  CHECK_ERROR_HERE(part(x, 1, 2, 2), "chunk", "part 2 of 2");
  CHECK_ERROR_HERE(flip(Var(), {0}), "flip", "empty Var");
  CHECK(tape.size() == before + 1);  // the scalar
}
