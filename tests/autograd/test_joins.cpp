// stack, concat, broadcast_to, repeat and pad: large ones, shared memory, edges and errors. Their rows are in
// test_shape_ops.cpp, the first tests of stack and concat in test_views.cpp.

#include <autograd/autograd.h>
#include <tests/support.h>

#include <doctest/doctest.h>
#include <oneapi/tbb/global_control.h>
#include <oneapi/tbb/task_arena.h>

using namespace unroll;
using namespace unroll::testing;

namespace {

/// Runs f, on one, two and four threads, and compares the bits of all it returns.
template <class F>
std::vector<Tensor> on_any_number_of_threads(F&& f) {
  std::vector<Tensor> first;
  for (std::size_t threads : {1U, 2U, 4U}) {
    tbb::global_control limit(tbb::global_control::max_allowed_parallelism, threads);
    tbb::task_arena arena(static_cast<int>(threads));
    std::vector<Tensor> results;
    arena.execute([&] { results = f(); });
    if (first.empty()) first = results;
    for (std::size_t i = 0; i < results.size(); ++i) CHECK(same_bits(results[i], first[i]));
  }
  return first;
}

}  // namespace

TEST_CASE("large concatenations are cut into pieces: values, gradients, any number of threads") {
  // Of shapes with pieces that end inside a block, pieces without elements, and one that needs no gradient.
  for (int axis : {0, 1, -1}) {
    CAPTURE(axis);
    std::vector<Shape> shapes(5, Shape{30, 41, 50});
    for (std::size_t k = 0; k < shapes.size(); ++k)
      shapes[k] = shapes[k].with(shapes[k].axis(axis, "test"), static_cast<Index>((k * 13 + 26) % 39));
    REQUIRE(shapes[1].count() == 0);
    std::vector<Tensor> x, seen;
    for (const Shape& shape : shapes) x.push_back(random_tensor(shape, 1 + x.size(), -1, 1, float32));
    const std::vector<Tensor> results = on_any_number_of_threads([&] {
      Tape tape;
      std::vector<Var> parts;
      for (const Tensor& part : x)
        parts.push_back(parts.size() == 3 ? tape.constant(part) : Var(tape.variable(part) * 1).keep_grad());
      Var y = concat(parts, axis);
      tape.backward(y, random_tensor(y.shape(), 9, -1, 1, float32));
      std::vector<Tensor> all{Tensor(y.value())};
      for (std::size_t k : {0U, 1U, 2U, 4U}) all.emplace_back(parts[k].grad());
      return all;
    });
    const Tensor seed = random_tensor(results[0].shape(), 9, -1, 1, float32);
    Tape tape;
    Var y = tape.constant(results[0]), dy = tape.constant(seed);
    Index begin = 0;
    for (std::size_t k = 0, g = 1; k < x.size(); ++k) {
      const Index end = begin + x[k].shape()[x[k].shape().axis(axis, "test")];
      CHECK(same_bits(slice(y, axis, begin, end).value(), x[k]));
      if (k != 3) CHECK(same_bits(slice(dy, axis, begin, end).value(), results[g++]));
      begin = end;
    }
  }
}

TEST_CASE("large stacks of values that share memory: each gradient arrives") {
  // x, one of its rows again and again, and x as a whole in another shape: nothing of it may be written twice.
  for (Index columns : {8, 4000}) {
    CAPTURE(columns);
    Tape tape;
    Var x = Var(tape.variable(random_tensor({6, columns}, 1)) * 1).keep_grad();
    Var y = concat({slice(x, 0, 2, 6), x, flip(x, {0}), slice(x, 0, 0, 3), x}, 0);
    const Tensor seed = random_tensor(y.shape(), 2);
    tape.backward(y, seed);
    Tensor expected({6, columns}, float64);
    for (Index i = 0; i < 6; ++i)
      for (Index j = 0; j < columns; ++j) {
        double sum = seed.at({4 + i, j}) + seed.at({10 + 5 - i, j}) + seed.at({19 + i, j});
        if (i >= 2) sum += seed.at({i - 2, j});
        if (i < 3) sum += seed.at({16 + i, j});
        expected.set({i, j}, sum);
      }
    CHECK(relative_error(x.grad(), expected) < 1e-14);
    // Rows of a concatenation that are not rows of what is concatenated.
    Var z = Var(tape.variable(random_tensor({8 * columns}, 3)) * 1).keep_grad();
    Var wide = reshape(z, {2, -1}), tail = reshape(slice(z, 0, 2 * columns, 8 * columns), {2, -1});
    Var joined = concat({wide, tail}, 1);
    const Tensor other = random_tensor(joined.shape(), 4);
    tape.backward(joined, other);
    Tensor parts({8 * columns}, float64);
    for (Index i = 0; i < 8 * columns; ++i) {
      const Index j = i - 2 * columns;  // the element of the tail
      double sum = other.at({i / (4 * columns), i % (4 * columns)});
      if (j >= 0) sum += other.at({j / (3 * columns), 4 * columns + j % (3 * columns)});
      parts.set({i}, sum);
    }
    CHECK(relative_error(z.grad(), parts) < 1e-14);
  }
}

TEST_CASE("stack and concat of one part, of expressions and of spans") {
  Tape tape;
  Var a = tape.variable(Tensor({2}, {1, 2}, float64));
  const Var alone = stack({a}, 1);
  CHECK(alone.shape() == Shape{2, 1});
  CHECK(alone.value().raw() == a.value().raw());  // nothing is copied
  tape.backward(sum(Var(alone * alone)));
  CHECK(a.grad().to_vector() == std::vector<double>{2, 4});
  CHECK(concat({a}).value().to_vector() == std::vector<double>{1, 2});
  CHECK(stack({a, Var(a * 2)}, 1).value().to_vector() == std::vector<double>{1, 2, 2, 4});
  CHECK(stack(std::vector{a, a}, -1).shape() == Shape{2, 2});
  CHECK(concat({a, tanh(a), a}).shape() == Shape{6});
}

TEST_CASE("broadcast_to and repeat: gradients are summed over the repeats; nothing to do records nothing") {
  Tape tape;
  Var x = tape.variable(Tensor({2, 1}, {1, 2}, float64));
  Var y = broadcast_to(x, {3, 2, 4});
  tape.backward(sum(Var(y * y)));
  CHECK(x.grad().to_vector() == std::vector<double>{24, 48});
  const std::size_t before = tape.size();
  CHECK(broadcast_to(x, {2, 1}).value().raw() == x.value().raw());
  CHECK(repeat(x, {1, 1}).value().raw() == x.value().raw());
  CHECK(tape.size() == before);
  CHECK(repeat(x, {2, 0}).shape() == Shape{4, 0});
  CHECK(repeat(x, {0, 0, 3}).shape() == Shape{0, 0, 3});
  CHECK(repeat(tape.constant(Tensor::scalar(7)), {}).item() == 7);
  CHECK(repeat(tape.constant(Tensor::scalar(7)), {3}).value().to_vector() == std::vector<double>{7, 7, 7});
  CHECK(repeat(tape.constant(Tensor({1, 1, 1, 1, 1, 2}, {1, 2})), {2, 1, 1, 2, 1, 1}).shape() ==
        Shape{2, 1, 1, 2, 1, 2});
  // An empty tensor can only become another empty one.
  Var none = tape.variable(Tensor({0, 1}));
  CHECK(broadcast_to(none, {0, 5}).shape() == Shape{0, 5});
  CHECK(broadcast_to(tape.variable(Tensor({1, 2})), {0, 2}).shape() == Shape{0, 2});
}

TEST_CASE("a large broadcast has the right sums and the same bits on any number of threads") {
  const std::vector<Tensor> results = on_any_number_of_threads([] {
    Tape tape;
    Var x = tape.variable(random_tensor({70, 1, 90}, 1, -1, 1, float32));
    Var y = broadcast_to(x, {70, 20, 90});
    tape.backward(y, random_tensor(y.shape(), 2, -1, 1, float32));
    return std::vector<Tensor>{Tensor(y.value()), Tensor(x.grad())};
  });
  const Tensor seed = random_tensor({70, 20, 90}, 2, -1, 1, float32);
  Tape tape;
  CHECK(relative_error(results[1], sum(tape.constant(seed), {1}, true).value()) < 1e-6);
}

TEST_CASE("pad: a large one, a scalar, and what must not come out of the padding") {
  const std::vector<Tensor> results = on_any_number_of_threads([] {
    Tape tape;
    Var x = tape.variable(random_tensor({50, 30, 40}, 1, -1, 1, float32));
    Var y = pad(x, {{0, 0}, {3, 1}, {2, 5}}, 7);
    tape.backward(y, random_tensor(y.shape(), 2, -1, 1, float32));
    return std::vector<Tensor>{Tensor(y.value()), Tensor(x.grad())};
  });
  const Tensor x = random_tensor({50, 30, 40}, 1, -1, 1, float32),
               seed = random_tensor({50, 34, 47}, 2, -1, 1, float32);
  Tape tape;
  Var y = tape.constant(results[0]), dy = tape.constant(seed);
  auto inside = [](const Var& v) { return slice(slice(v, 1, 3, 33), 2, 2, 42); };
  CHECK(same_bits(inside(y).value(), x));
  CHECK(same_bits(inside(dy).value(), results[1]));
  CHECK(sum(y).item() == doctest::Approx(sum(tape.constant(x)).item() + 7.0 * (50 * 34 * 47 - 50 * 30 * 40)));
  CHECK(pad(tape.constant(Tensor::scalar(3)), {}).item() == 3);
  CHECK(pad(tape.constant(Tensor({0, 2})), {{1, 0}, {0, 1}}, 4).value().to_vector() == std::vector<double>{4, 4, 4});
}

TEST_CASE("wrong parts, counts and amounts name the function, the shapes and the line; nothing stays recorded") {
  Tape tape, other;
  Var x = tape.constant(Tensor({2, 3})), y = tape.constant(Tensor({2, 4})), d = tape.constant(Tensor({2, 3}, float64));
  Var foreign = other.constant(Tensor({2, 3})), six = tape.constant(Tensor({1, 1, 1, 1, 1, 1}));
  const std::size_t before = tape.size();
  CHECK_ERROR_HERE(stack({x, y}), "stack", "[2, 3]", "[2, 4]");
  CHECK_ERROR_HERE(stack({x, transpose(x)}), "stack", "[2, 3]", "[3, 2]");
  CHECK_ERROR_HERE(stack({x, d}), "stack", "float32", "float64");
  CHECK_ERROR_HERE(stack({x, foreign}), "stack", "two tapes");
  CHECK_ERROR_HERE(stack({x, Var()}), "stack", "empty Var");
  CHECK_ERROR_HERE(stack({x, x}, 3), "stack", "new axis 3", "-3 to 2");
  CHECK_ERROR_HERE(stack({six, six}), "stack", "at most 6");
  CHECK_ERROR_HERE(stack(std::vector<Var>{}), "stack", "no parts");
  CHECK_ERROR_HERE(concat({x, y}, 0), "concat", "[2, 3]", "[2, 4]", "axis 0");
  CHECK_ERROR_HERE(concat({x, six}, 0), "concat", "[2, 3]", "[1, 1, 1, 1, 1, 1]");
  CHECK_ERROR_HERE(concat({x, d}, 0), "concat", "float32", "float64");
  CHECK_ERROR_HERE(concat({x, y}, 2), "concat", "axis 2", "[2, 3]");
  CHECK_ERROR_HERE(concat({tape.constant(Tensor::scalar(1))}), "concat", "axis 0", "[]");
  CHECK_ERROR_HERE(broadcast_to(x, {2, 4}), "broadcast_to", "[2, 3]", "[2, 4]");
  CHECK_ERROR_HERE(broadcast_to(x, {3}), "broadcast_to", "[2, 3]", "[3]");
  CHECK_ERROR_HERE(broadcast_to(x, {1, 3}), "broadcast_to", "[2, 3]", "[1, 3]");
  CHECK_ERROR_HERE(broadcast_to(Var(), {1, 3}), "broadcast_to", "empty Var");
  CHECK_ERROR_HERE(repeat(x, {2}), "repeat", "[2]", "[2, 3]");
  CHECK_ERROR_HERE(repeat(x, {2, -1}), "repeat", "[2, -1]");
  CHECK_ERROR_HERE(repeat(x, {1, 1, 1, 1, 1, 1, 2}), "repeat", "6 at most");
  CHECK_ERROR_HERE(pad(x, {{1, 1}}), "pad", "1 axes", "[2, 3]");
  CHECK_ERROR_HERE(pad(x, {{1, 1}, {0, -1}}), "pad", "-1 after axis 1", "slice");
  CHECK(tape.size() == before + 1 + 1);  // the transpose and the scalar that were made for a call
}
