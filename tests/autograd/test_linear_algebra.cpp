// matmul of vectors and of batches of matrices, dot and outer. Sums of products with one matrix: test_matmul.cpp.

#include <autograd/autograd.h>
#include <tests/autograd/operations.h>

#include <oneapi/tbb/global_control.h>
#include <oneapi/tbb/task_arena.h>

#include <numeric>

using namespace unroll;
using namespace unroll::testing;

namespace {

std::vector<Index> sizes_of(const Shape& shape) { return {shape.begin(), shape.end()}; }

/// matmul by its definition: vectors become matrices, the axes before the matrices broadcast, and every element of the
/// result is one sum.
Tensor plain_product(const Tensor& a, const Tensor& b) {
  std::vector<Index> p = sizes_of(a.shape()), q = sizes_of(b.shape());
  const bool from_vector = p.size() == 1, to_vector = q.size() == 1;
  if (from_vector) p.insert(p.begin(), 1);
  if (to_vector) q.push_back(1);
  const std::size_t rank = std::max(p.size(), q.size());
  p.insert(p.begin(), rank - p.size(), 1);
  q.insert(q.begin(), rank - q.size(), 1);
  const Index m = p[rank - 2], k = p[rank - 1], n = q[rank - 1];
  std::vector<Index> batch;
  for (std::size_t i = 0; i + 2 < rank; ++i) batch.push_back(p[i] == 1 ? q[i] : p[i]);
  const Index batches = std::accumulate(batch.begin(), batch.end(), Index{1}, std::multiplies<>());

  const std::vector<double> x = a.to_vector(), y = b.to_vector();
  std::vector<double> result;
  for (Index t = 0; t < batches; ++t) {
    Index rest = t, p_at = 0, q_at = 0, p_step = 1, q_step = 1;  // which matrix of a and of b
    for (std::size_t i = batch.size(); i-- > 0; rest /= batch[i]) {
      p_at += p[i] == 1 ? 0 : rest % batch[i] * p_step;
      q_at += q[i] == 1 ? 0 : rest % batch[i] * q_step;
      p_step *= p[i];
      q_step *= q[i];
    }
    for (Index i = 0; i < m; ++i)
      for (Index j = 0; j < n; ++j) {
        double sum = 0;
        for (Index s = 0; s < k; ++s)
          sum +=
              x[static_cast<std::size_t>((p_at * m + i) * k + s)] * y[static_cast<std::size_t>((q_at * k + s) * n + j)];
        result.push_back(sum);
      }
  }
  std::vector<Index> shape = batch;
  if (!from_vector) shape.push_back(m);
  if (!to_vector) shape.push_back(n);
  return Tensor(Shape(std::span<const Index>(shape)), result, float64);
}

Var product(const Vars& v) { return matmul(v[0], v[1]); }

using Shapes = std::vector<Shape>;

/// Every combination of ranks, repeated batch axes on either side, and nothing along any axis.
const std::vector<Shapes>& operands() {
  static const std::vector<Shapes> all{
      {{4}, {4}},  // vectors
      {{1}, {1}},
      {{300}, {300}},  // more than is summed at once
      {{3, 4}, {4}},   // to a vector
      {{2, 3, 4}, {4}},
      {{2, 1, 3, 4}, {4}},
      {{4}, {4, 5}},  // from a vector
      {{4}, {2, 4, 5}},
      {{4}, {3, 2, 4, 1}},
      {{3, 4}, {2, 4, 5}},  // a matrix for all
      {{3, 4}, {2, 3, 4, 5}},
      {{2, 3, 4}, {4, 5}},
      {{2, 3, 4}, {1, 4, 5}},  // ... with rows that become one matrix's
      {{2, 3, 3, 4}, {2, 1, 4, 5}},
      {{2, 3, 3, 4}, {3, 4, 5}},
      {{2, 3, 4}, {2, 4, 5}},  // pair by pair
      {{2, 3, 2, 4}, {2, 3, 4, 3}},
      {{3, 1, 2, 4}, {2, 4, 5}},  // every matrix with every one
      {{3, 1, 2, 4}, {1, 2, 4, 5}},
      {{1, 2, 1, 3, 4}, {3, 1, 2, 4, 2}},
      {{2, 1, 4}, {2, 4, 5}},  // one row, one column, one of each
      {{2, 3, 4}, {2, 4, 1}},
      {{2, 1, 4}, {2, 4, 1}},
      {{2, 3, 1}, {2, 1, 5}},
      {{2, 1, 3, 4}, {1, 4, 5}},
      {{0, 3, 4}, {0, 4, 5}},  // empty: batch, M, K, N
      {{1, 3, 4}, {0, 4, 5}},
      {{0, 1, 3, 4}, {2, 4, 5}},
      {{2, 0, 4}, {2, 4, 5}},
      {{2, 3, 0}, {2, 0, 5}},
      {{2, 3, 4}, {2, 4, 0}},
      {{0}, {0}},
      {{3, 0}, {0}},
      {{0, 3}, {3}},
      {{0}, {2, 0, 3}},
      {{2, 70, 65}, {2, 65, 97}},  // more than one tile of the kernels
      {{3, 17, 600}, {600, 20}},
  };
  return all;
}

}  // namespace

namespace unroll::testing {
std::vector<OperationRow> attention_rows();  // test_attention.cpp
}

std::vector<OperationRow> unroll::testing::linear_algebra_rows() {
  auto by_loops = [](const std::vector<Tensor>& x) { return plain_product(x[0], x[1]); };
  auto row = [](std::string name, std::vector<Shapes> cases, auto call, auto reference) {
    OperationRow result;
    result.name = std::move(name);
    result.cases = std::move(cases);
    result.call = [call](Tape&, const Vars& v) { return call(v); };
    result.reference = reference;
    return result;
  };
  std::vector<Shapes> small;
  for (const Shapes& shapes : operands())
    if (shapes[0].count() + shapes[1].count() < 200) small.push_back(shapes);
  std::vector<OperationRow> rows = attention_rows();
  const std::vector<OperationRow> own{
      row("matmul", small, product, by_loops),
      row(
          "matmul transposed views",
          {{{4, 3}, {5, 4}}, {{2, 4, 3}, {2, 5, 4}}, {{2, 1, 4, 3}, {5, 4}}, {{4, 3}, {2, 5, 4}}},
          [](const Vars& v) { return Var(matmul(transpose(v[0]), transpose(v[1]))); },
          [](const std::vector<Tensor>& x) {
            auto turned = [](const Tensor& t) {  // the last two axes exchanged
              Shape shape = t.shape();
              const int last = shape.rank() - 1;
              const Index rows = shape[last - 1], columns = shape[last];
              std::vector<double> from = t.to_vector(), to(from.size());
              for (std::size_t i = 0; i < from.size(); ++i) {
                const auto at = static_cast<Index>(i), matrix = at / (rows * columns), row = at / columns % rows,
                           column = at % columns;
                to[static_cast<std::size_t>((matrix * columns + column) * rows + row)] = from[i];
              }
              return Tensor(shape.with(last - 1, columns).with(last, rows), to, float64);
            };
            return plain_product(turned(x[0]), turned(x[1]));
          }),
      row(
          "dot", {{{4}, {4}}, {{1}, {1}}, {{0}, {0}}}, [](const Vars& v) { return dot(v[0], v[1]); }, by_loops),
      row(
          "outer", {{{3}, {4}}, {{1}, {5}}, {{0}, {2}}, {{2}, {0}}}, [](const Vars& v) { return outer(v[0], v[1]); },
          [](const std::vector<Tensor>& x) {
            return plain_product(x[0].reshaped({x[0].size(), 1}), x[1].reshaped({1, x[1].size()}));
          }),
  };
  rows.insert(rows.begin(), own.begin(), own.end());
  return rows;
}

namespace {

std::vector<Tensor> draw(const Shapes& shapes) {
  std::vector<Tensor> inputs;
  for (std::size_t i = 0; i < shapes.size(); ++i) inputs.push_back(random_tensor(shapes[i], i + 1, -2, 2));
  return inputs;
}

/// The same values in a layout of their own; every one must give the same result and gradient.
struct Presentation {
  std::string name;
  std::function<Var(Tape&, const Tensor&)> make;
};

/// A Var of the tensor's values: a view of a larger or differently ordered one.
const std::vector<Presentation>& presentations() {
  auto strided = [](Tape& tape, const Tensor& x) {  // every second element of the last axis
    Var wide = stack(std::array{tape.constant(x), tape.constant(Tensor(x.shape(), x.dtype()))});
    for (int axis = 0; axis < x.shape().rank(); ++axis) wide = transpose(wide, axis, axis + 1);
    return select(reshape(wide, wide.shape()), -1, 0);
  };
  auto transposed = [](Tape& tape, const Tensor& x) {
    Var v = tape.constant(x);
    if (v.rank() < 2) return v;
    Var turned = transpose(v);
    return transpose(reshape(turned, turned.shape()));
  };
  auto sliced = [](Tape& tape, const Tensor& x) {
    Var v = tape.constant(x);
    Var wide = concat(std::array{v, v}, -1);
    return slice(wide, -1, 0, v.shape().columns());
  };
  auto batch_last = [](Tape& tape, const Tensor& x) {
    Var v = tape.constant(x);
    if (v.rank() < 3) return v;
    Var turned = transpose(v, 0, -1);
    return transpose(reshape(turned, turned.shape()), 0, -1);
  };
  auto batch_middle = [](Tape& tape, const Tensor& x) {
    Var v = tape.constant(x);
    if (v.rank() < 3) return v;
    Var turned = transpose(v, 0, -2);
    return transpose(reshape(turned, turned.shape()), 0, -2);
  };
  auto turned_round = [](Tape& tape, const Tensor& x) {
    Var v = tape.constant(x);
    const auto turn = [](const Var& y) { return y.rank() < 2 ? y : y.rank() < 3 ? flip(y, {0}) : flip(y, {0, -2}); };
    Var turned = turn(v);
    return turn(turned.rank() < 2 ? turned : Var(turned * 1));
  };
  static const std::vector<Presentation> all{
      {"as it is", [](Tape& tape, const Tensor& x) { return tape.constant(x); }},
      {"transposed", transposed},
      {"sliced", sliced},
      {"batch between", batch_middle},
      {"strided", strided},
      {"batch last", batch_last},
      {"turned round", turned_round},
  };
  return all;
}

}  // namespace

TEST_CASE("matmul agrees with the definition for all ranks, in all types and layouts") {
  for (const Shapes& shapes : operands()) {
    const std::vector<Tensor> x = draw(shapes);
    const Tensor expected = plain_product(x[0], x[1]);
    for (const Presentation& a : presentations())
      for (const Presentation& b : presentations())
        for (DType type : {float32, float64}) {
          CAPTURE(shapes[0]);
          CAPTURE(shapes[1]);
          CAPTURE(a.name);
          CAPTURE(b.name);
          CAPTURE(type);
          Tape tape;
          Var y = matmul(a.make(tape, x[0].to(type)), b.make(tape, x[1].to(type)));
          CHECK(y.dtype() == type);
          CHECK(relative_error(y.value(), expected) < (type == float32 ? 5e-6 : 1e-13));
        }
  }
}

TEST_CASE("matmul: derivatives for all ranks and layouts") {
  for (const Shapes& shapes : operands()) {
    if (shapes[0].count() + shapes[1].count() > 2000) continue;
    CAPTURE(shapes[0]);
    CAPTURE(shapes[1]);
    CHECK(gradient_error([](Tape&, const Vars& v) { return product(v); }, draw(shapes)) < 1e-6);
    // Of a transposed view, whose gradient lies transposed too, and of one whose elements are all apart.
    auto through = [&](auto&& view) {
      std::vector<Tensor> inputs = draw(shapes);
      for (Tensor& x : inputs) {
        Tape tape;
        x = Tensor(view(tape.constant(x)).value());
      }
      return gradient_error([&](Tape&, const Vars& v) { return Var(matmul(view(v[0]), view(v[1]))); }, inputs);
    };
    CHECK(through([](const Var& v) { return v.rank() < 2 ? v : transpose(v); }) < 1e-6);
    CHECK(through([](const Var& v) { return v.rank() < 3 ? v : transpose(v, 0, -2); }) < 1e-6);
    CHECK(through([](const Var& v) { return v.rank() < 3 ? v : transpose(v, 0, -1); }) < 1e-6);
    CHECK(through([](const Var& v) { return v.rank() < 2 ? v : flip(v, {0, -1}); }) < 1e-6);
    CHECK(through([](const Var& v) { return v.rank() < 3 ? v : flip(v, {0, 1}); }) < 1e-6);
  }
}

TEST_CASE("matmul: the gradients of large batches are the definition's") {
  // Sizes that reach every way of arranging factors, and both ways of sharing work among threads.
  for (const Shapes& shapes : std::vector<Shapes>{{{12, 70, 90}, {12, 90, 80}},
                                                  {{3, 200, 130}, {3, 130, 220}},
                                                  {{4, 1, 70, 90}, {5, 90, 20}},
                                                  {{2, 64, 513}, {513, 40}},
                                                  {{6, 64, 513}, {6, 513, 1}},
                                                  {{700, 300}, {300}},
                                                  {{20, 1, 100}, {20, 100, 70}}}) {
    CAPTURE(shapes[0]);
    CAPTURE(shapes[1]);
    for (bool transposes : {false, true}) {
      CAPTURE(transposes);
      const std::vector<Tensor> x = draw(shapes);
      auto turned = [](const Tensor& t) {
        Tape tape;
        return t.shape().rank() < 2 ? t : Tensor(transpose(tape.constant(t)).value());
      };
      Tape tape;
      auto leaf = [&](const Tensor& t) { return tape.variable((transposes ? turned(t) : t).to(float32)); };
      auto view = [&](const Var& v) { return transposes && v.rank() > 1 ? transpose(v) : v; };
      Var a = leaf(x[0]), b = leaf(x[1]), y = matmul(view(a), view(b));
      const Tensor seed = random_tensor(y.shape(), 7);
      tape.backward(y, seed.to(float32));

      // dA = dY B^T and dB = A^T dY by the definition, summed over what was repeated.
      auto matrix = [](const Tensor& t, bool column) {
        return t.shape().rank() > 1 ? t : t.reshaped(column ? Shape{t.size(), 1} : Shape{1, t.size()});
      };
      const Tensor A = matrix(x[0], false), B = matrix(x[1], true);
      Shape whole = y.shape();
      if (shapes[0].rank() == 1) whole = whole.insert(whole.rank(), 1);
      if (shapes[1].rank() == 1) whole = whole.insert(whole.rank(), 1);
      const Tensor dY = seed.reshaped(whole);
      auto summed = [](const Tensor& t, const Shape& shape) {
        Tape inner;
        Var v = inner.constant(t);
        while (v.rank() > std::max(shape.rank(), 2)) v = sum(v, {0});
        for (int axis = 0; axis + 2 < shape.rank(); ++axis)
          if (shape[axis] == 1) v = sum(v, {axis}, true);
        return Tensor(reshape(v, shape).value());
      };
      auto check = [&](const Var& v, const Tensor& expected) {
        CHECK(relative_error(v.grad(), transposes ? turned(expected) : expected) < 1e-5);
      };
      check(a, summed(plain_product(dY, turned(B)), shapes[0]));
      check(b, summed(plain_product(turned(A), dY), shapes[1]));
    }
  }
}

TEST_CASE("matmul: one tensor on both sides, views of one tensor, and gradients that add up") {
  auto error = [](auto&& f, const Shapes& shapes) {
    return gradient_error([&](Tape&, const Vars& v) { return Var(f(v)); }, draw(shapes));
  };
  CHECK(error([](const Vars& v) { return matmul(v[0], transpose(v[0])); }, {{3, 4, 5}}) < 1e-6);
  CHECK(error([](const Vars& v) { return matmul(transpose(v[0]), v[0]); }, {{3, 4, 5}}) < 1e-6);
  CHECK(error([](const Vars& v) { return matmul(v[0], v[0]); }, {{3, 4, 4}}) < 1e-6);
  CHECK(error([](const Vars& v) { return matmul(v[0], v[0]); }, {{5}}) < 1e-6);
  CHECK(error([](const Vars& v) { return matmul(v[0], v[0][1]); }, {{3, 4, 4}}) < 1e-6);
  CHECK(error([](const Vars& v) { return matmul(v[0], v[0][1][2]); }, {{3, 4, 4}}) < 1e-6);
  CHECK(error(
            [](const Vars& v) {
              auto [a, b] = chunk<2>(v[0]);
              return matmul(a, transpose(b)) * sum(v[0]);
            },
            {{3, 4, 6}}) < 1e-6);
  CHECK(error([](const Vars& v) { return matmul(slice(v[0], 1, 0, 3), slice(v[0], -1, 1, 4)) + sum(square(v[0])); },
              {{2, 4, 4}}) < 1e-6);
  CHECK(error([](const Vars& v) { return tanh(matmul(v[0], v[1])) * matmul(v[0], v[1]); }, {{2, 3, 4}, {2, 4, 5}}) <
        1e-6);
  CHECK(error([](const Vars& v) { return matmul(tanh(v[0]), matmul(v[1], v[2])); }, {{2, 3, 4}, {2, 4, 5}, {5, 2}}) <
        1e-6);
}

TEST_CASE("matmul: batches are added to like other products") {
  auto error = [](auto&& f, const Shapes& shapes) {
    return gradient_error([&](Tape&, const Vars& v) { return Var(f(v)); }, draw(shapes));
  };
  CHECK(error([](const Vars& v) { return matmul(v[0], v[1]) + v[2]; }, {{2, 3, 4}, {2, 4, 5}, {5}}) < 1e-6);
  CHECK(error([](const Vars& v) { return v[2] + matmul(v[0], v[1]); }, {{2, 3, 4}, {4}, {2, 3}}) < 1e-6);
  CHECK(error([](const Vars& v) { return matmul(v[0], v[1]) + matmul(v[2], v[3]) + v[4]; },
              {{2, 3, 4}, {2, 4, 5}, {3, 2}, {2, 5}, {2, 1, 5}}) < 1e-6);
  Tape tape;
  auto leaf = [&](const Shape& shape) { return tape.variable(random_tensor(shape, 1)); };
  Var sum = matmul(leaf({2, 3, 4}), leaf({2, 4, 5})) + matmul(leaf({3, 2}), leaf({2, 5})) + leaf({7, 1, 1, 5});
  CHECK(sum.shape() == Shape{7, 2, 3, 5});
}

TEST_CASE("matmul: an operand that needs no gradient gets none, and a Parameter may be either side") {
  const std::vector<Tensor> x = draw({{2, 3, 4}, {2, 4, 5}});
  Tape tape;
  Var a = tape.variable(x[0]), b = tape.constant(x[1]);
  tape.backward(sum(Var(matmul(a, b))));
  const Tensor da(a.grad());
  CHECK_ERROR(b.grad(), "no gradient");
  Tape other;
  Parameter A("A", x[0]), B("B", x[1]);
  B.set_trainable(false);
  other.backward(sum(Var(matmul(other.use(A), B))));
  CHECK(same_bits(A.grad(), da));
  CHECK_FALSE(B.has_grad());
  Parameter v("v", random_tensor({4}, 3));
  Tape third;
  third.backward(dot(third.constant(random_tensor({4}, 4)), v));
  CHECK(relative_error(v.grad(), random_tensor({4}, 4)) == 0);
}

TEST_CASE("matmul: a gradient of nothing is zero") {
  Tape tape;
  Var a = tape.variable(random_tensor({1, 3, 4}, 1)), b = tape.variable(Tensor({0, 4, 5}, float64)),
      c = tape.variable(random_tensor({3, 4}, 2)), d = tape.variable(Tensor({4, 0}, float64)),
      e = tape.variable(random_tensor({2, 4, 1}, 1)), f = tape.variable(Tensor({2, 0, 4}, float64));
  tape.backward(sum(Var(matmul(a, b))) + sum(Var(matmul(c, d))) + sum(Var(matmul(f, e))));
  CHECK(same_bits(a.grad(), Tensor({1, 3, 4}, float64)));
  CHECK(same_bits(c.grad(), Tensor({3, 4}, float64)));
  CHECK(same_bits(e.grad(), Tensor({2, 4, 1}, float64)));
}

TEST_CASE("matmul reads transposed views as they lie") {
  Tape tape;
  Var a = tape.variable(random_tensor({2, 3, 4}, 1)), b = tape.variable(random_tensor({2, 5, 4}, 2));
  std::size_t before = tape.size();
  Var view = transpose(b), y = matmul(a, view);
  CHECK(tape.size() == before + 2);
  before = tape.size();
  y = matmul(transpose(a), slice(a, -1, 1, 3));
  CHECK(tape.size() == before + 3);
  before = tape.size();
  y = matmul(transpose(a, 0, 1), b[0][0]);
  CHECK(tape.size() == before + 4);
}

TEST_CASE("matmul: the same bits on any number of threads") {
  struct Result {
    std::vector<Tensor> tensors;
  };
  auto run = [](const Shape& p, const Shape& q, bool transposes) {
    Tape tape;
    Var a = tape.variable(random_tensor(p, 1, -1, 1, float32)), b = tape.variable(random_tensor(q, 2, -1, 1, float32)),
        y = matmul(a, transposes ? transpose(b) : b);
    tape.backward(y, random_tensor(y.shape(), 3, -1, 1, float32));
    return Result{{Tensor(y.value()), Tensor(a.grad()), Tensor(b.grad())}};
  };
  const std::pair<Shapes, bool> cases[] = {
      {{{16, 64, 64}, {16, 64, 64}}, false},   {{{16, 64, 64}, {16, 80, 64}}, true},
      {{{3, 200, 300}, {3, 300, 100}}, false}, {{{5, 1, 100, 90}, {7, 90, 30}}, false},
      {{{100, 200}, {30, 200, 10}}, false},    {{{900, 400}, {400}}, false},
      {{{40, 1, 400}, {40, 400, 70}}, false}};
  for (const auto& entry : cases) {
    CAPTURE(entry.first[0]);
    CAPTURE(entry.first[1]);
    Result first;
    for (std::size_t threads : {1U, 2U, 4U}) {
      tbb::global_control limit(tbb::global_control::max_allowed_parallelism, threads);
      tbb::task_arena arena(static_cast<int>(threads));
      Result result;
      arena.execute([&] { result = run(entry.first[0], entry.first[1], entry.second); });
      if (threads == 1) first = result;
      for (std::size_t i = 0; i < 3; ++i) CHECK(same_bits(result.tensors[i], first.tensors[i]));
    }
  }
}

TEST_CASE("matmul: a step on a tape used again takes the same memory") {
  Tape tape;
  const Tensor x = random_tensor({4, 30, 20}, 1), w = random_tensor({4, 20, 30}, 2);
  std::size_t held = 0;
  for (int step = 0; step < 5; ++step) {
    tape.clear();
    Var a = tape.variable(x), b = tape.variable(w);
    tape.backward(sum(Var(matmul(a, b))) + sum(Var(matmul(b, a))));
    if (step == 1) held = tape.bytes_held();
    if (step > 1) CHECK(tape.bytes_held() == held);
  }
}

TEST_CASE("the rows: values and gradients") {
  for (const OperationRow& row : linear_algebra_rows()) {
    for (const Shapes& shapes : row.cases) {
      CAPTURE(row.name);
      CAPTURE(shapes[0]);
      CAPTURE(shapes[1]);
      const std::vector<Tensor> x = draw(shapes);
      Tape tape;
      Vars doubles, floats;
      for (const Tensor& t : x) {
        doubles.push_back(tape.constant(t));
        floats.push_back(tape.constant(t.to(float32)));
      }
      CHECK(relative_error(row.call(tape, doubles).value(), row.reference(x)) < 1e-13);
      CHECK(relative_error(row.call(tape, floats).value(), row.reference(x)) < 5e-6);
      CHECK(gradient_error(row.call, x) < 1e-6);
    }
  }
}

TEST_CASE("dot keeps the digits of a long sum") {
  Tape tape;
  const Tensor many = Tensor::full({1 << 20}, 0.1);
  Var v = tape.constant(many);
  const double square_of = static_cast<double>(0.1F) * static_cast<double>(0.1F) * (1 << 20);
  CHECK(dot(v, v).item() == doctest::Approx(square_of).epsilon(1e-6));
}

TEST_CASE("matmul, dot and outer: what is wrong, and where") {
  Tape tape;
  auto leaf = [&](const Shape& shape, DType type = float32) { return tape.constant(Tensor(shape, type)); };
  Var a = leaf({32, 64}), v = leaf({64}), s = leaf({}), batch = leaf({2, 64, 5}), d = leaf({2, 64, 5}, float64);
  Var b = leaf({128, 10}), c = leaf({3, 64, 5}), e = leaf({2, 32, 64}), five = leaf({5});
  const std::size_t before = tape.size();
  CHECK_ERROR_HERE(Var(matmul(a, b)), "a is [32, 64] and b is [128, 10]; a's last axis must equal b's second to last");
  CHECK_ERROR_HERE(Var(matmul(a, five)), "matmul: a is [32, 64] and b is [5]; a's last axis must equal b's only one");
  CHECK_ERROR_HERE(Var(matmul(five, batch)), "matmul: a is [5] and b is [2, 64, 5]; a's last axis must equal");
  CHECK_ERROR_HERE(Var(matmul(batch, a)), "matmul: a is [2, 64, 5] and b is [32, 64]; a's last axis must equal");
  CHECK_ERROR_HERE(Var(matmul(e, c)), "matmul: a is [2, 32, 64] and b is [3, 64, 5]", "[2] and [3], do not broadcast");
  CHECK_ERROR_HERE(Var(matmul(a, s)), "matmul: a is [32, 64] and b is []; each must have at least one axis");
  CHECK_ERROR_HERE(Var(matmul(s, v)), "matmul: a is [] and b is [64]; each must have at least one axis");
  CHECK_ERROR_HERE(Var(matmul(a, d)), "matmul: a is float32 and b is float64");
  CHECK_ERROR_HERE(Var(matmul(a, batch) + v), "matmul's addend", "[2, 32, 5]", "[64]");
  CHECK_ERROR_HERE(Var(matmul(a, batch) + matmul(a, v)), "matmul's addend", "[2, 32, 5]", "[32]");
  CHECK_ERROR_HERE(dot(a, v), "dot: a is [32, 64] and b is [64]; both must be vectors");
  CHECK_ERROR_HERE(dot(five, v), "dot: a is [5] and b is [64]; they must agree");
  CHECK_ERROR_HERE(outer(a, v), "outer: a is [32, 64] and b is [64]; both must be vectors");
  CHECK_ERROR_HERE(outer(s, v), "outer: a is [] and b is [64]; both must be vectors");
  CHECK(tape.size() == before);
  Var w = leaf({64}, float64);
  CHECK_ERROR_HERE(dot(v, w), "dot: a is float32 and b is float64; convert one of them");
  Parameter p("p", Tensor({4}));
  CHECK_ERROR_HERE(dot(p, p), "dot: no operand is a Var, so no tape");
}
