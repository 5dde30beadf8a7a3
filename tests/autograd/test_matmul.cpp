#include <autograd/autograd.h>
#include <tests/support.h>

#include <doctest/doctest.h>

#include <functional>

using namespace unroll;
using namespace unroll::testing;

namespace {

/// The product by three plain loops.
Tensor product(const Tensor& a, const Tensor& b) {
  Tensor y(a.shape().with(a.shape().rank() - 1, b.shape()[1]), float64);
  auto A = a.to(float64), B = b.to(float64);
  for (Index i = 0; i < A.shape().rows(); ++i)
    for (Index j = 0; j < B.shape()[1]; ++j) {
      double sum = 0;
      for (Index k = 0; k < B.shape()[0]; ++k) sum += A.matrix<double>()(i, k) * B.matrix<double>()(k, j);
      y.matrix<double>()(i, j) = sum;
    }
  return y;
}

using Inputs = std::vector<Var>;

}  // namespace

TEST_CASE("products agree with plain loops, in both types and all sizes") {
  for (const auto& size : std::vector<std::array<Index, 3>>{
           {1, 1, 1}, {1, 64, 16}, {3, 5, 7}, {32, 130, 65}, {300, 20, 40}, {2, 3, 0}, {0, 3, 2}, {70, 500, 300}}) {
    const Index m = size[0], n = size[1], k = size[2];
    CAPTURE(m);
    CAPTURE(n);
    CAPTURE(k);
    Tensor a = random_tensor({m, k}, 1), b = random_tensor({k, n}, 2), expected = product(a, b);
    Tape tape;
    CHECK(relative_error(Var(matmul(tape.constant(a), tape.constant(b))).value(), expected) < 1e-13);
    CHECK(relative_error(Var(matmul(tape.constant(a.to(float32)), tape.constant(b.to(float32)))).value(), expected) <
          2e-6);
    CHECK(relative_error(Var(matmul(tape.constant(a), transpose(tape.constant(b.transposed())))).value(), expected) <
          1e-13);
  }
}

TEST_CASE("leading axes of the left factor are rows") {
  Tape tape;
  Var x = tape.constant(random_tensor({2, 3, 4}, 1)), w = tape.constant(random_tensor({4, 5}, 2));
  CHECK(Var(matmul(x, w)).shape() == Shape{2, 3, 5});
  CHECK(Var(matmul(x[0][1], w)).shape() == Shape{5});
  CHECK(relative_error(Var(matmul(x, w))[1].value(), Var(matmul(x[1], w)).value()) < 1e-14);
}

TEST_CASE("sums of products and addends are one node, and agree with separate ones") {
  Tape tape;
  auto leaf = [&](Shape shape, unsigned seed) { return tape.variable(random_tensor(shape, seed)); };
  Var x = leaf({3, 4}, 1), W = leaf({4, 6}, 2), h = leaf({3, 5}, 3), U = leaf({5, 6}, 4), b = leaf({6}, 5),
      c = leaf({3, 6}, 6);
  std::size_t before = tape.size();
  Var fused = c + matmul(x, W) + matmul(h, U) + b;
  CHECK(tape.size() == before + 1);
  Var a1 = matmul(x, W), a2 = matmul(h, U);
  Var apart = c + a1 + a2 + b;
  CHECK(relative_error(fused.value(), apart.value()) < 1e-14);
}

TEST_CASE("products: derivatives of every operand") {
  auto error = [](auto&& f, std::vector<Shape> shapes) {
    std::vector<Tensor> inputs;
    for (std::size_t i = 0; i < shapes.size(); ++i) inputs.push_back(random_tensor(shapes[i], i + 1));
    return gradient_error([&](Tape&, const Inputs& v) { return Var(f(v)); }, inputs);
  };
  CHECK(error([](const Inputs& v) { return matmul(v[0], v[1]); }, {{3, 4}, {4, 5}}) < 1e-8);
  CHECK(error([](const Inputs& v) { return matmul(v[0], v[1]) + v[2]; }, {{2, 3, 4}, {4, 5}, {5}}) < 1e-8);
  CHECK(error([](const Inputs& v) { return v[2] + matmul(v[0], v[1]) + v[3]; }, {{3, 4}, {4, 5}, {3, 5}, {5}}) < 1e-8);
  CHECK(error([](const Inputs& v) { return matmul(v[0], v[1]) + matmul(v[2], v[3]); },
              {{3, 4}, {4, 5}, {3, 2}, {2, 5}}) < 1e-8);
  CHECK(error([](const Inputs& v) { return matmul(v[0], v[0]); }, {{4, 4}}) < 1e-8);
  CHECK(error([](const Inputs& v) { return matmul(v[0], transpose(v[0])) + matmul(transpose(v[1]), v[1]); },
              {{4, 3}, {2, 4}}) < 1e-8);
  CHECK(error([](const Inputs& v) { return matmul(v[0], v[1]) + v[2]; }, {{3, 4}, {4, 5}, {3, 1}}) < 1e-8);  // column
  CHECK(error([](const Inputs& v) { return matmul(v[0], v[1]) + v[2]; }, {{3, 4}, {4, 5}, {2, 3, 5}}) <
        1e-8);  // larger
  CHECK(error([](const Inputs& v) { return matmul(v[0], v[1]) + v[0]; }, {{4, 4}, {4, 4}}) < 1e-8);
  CHECK(error([](const Inputs& v) { return matmul(tanh(v[0]), v[1]) + v[2] * v[2]; }, {{3, 4}, {4, 5}, {3, 5}}) < 1e-8);
  CHECK(error(
            [](const Inputs& v) {
              auto [a, b] = chunk<2>(v[0]);
              return matmul(a, b) + transpose(b);
            },
            {{3, 6}}) < 1e-8);
}

TEST_CASE("a weight used at many steps gathers its gradient over them") {
  // Few rows at a time, many steps: more rows in all than are gathered before a flush, and gathered ones left over.
  for (Index steps : {1, 2, 7, 40}) {
    CAPTURE(steps);
    auto f = [&](Tape&, const Inputs& v) {
      Var h = v[0];
      for (Index t = 0; t < steps; ++t) h = tanh(matmul(h, v[1]) + v[2]);
      return h;
    };
    CHECK(gradient_error(f, {random_tensor({20, 3}, 1), random_tensor({3, 3}, 2), random_tensor({3}, 3)}) < 1e-7);
  }
  // The weight itself computed, and a view.
  auto f = [](Tape&, const Inputs& v) {
    Var w = tanh(v[1]);
    auto [u, z] = chunk<2>(w);
    Var h = v[0];
    for (int t = 0; t < 5; ++t) h = tanh(matmul(h, u) + matmul(h, z));
    return h;
  };
  CHECK(gradient_error(f, {random_tensor({2, 3}, 1), random_tensor({3, 6}, 2)}) < 1e-7);
}

TEST_CASE("an empty batch has a gradient: zeros") {
  Parameter W("W", Tensor::full({3, 2}, 1)), b("b", Tensor({2}));
  for (bool trainable : {true, false}) {
    W.set_trainable(trainable);
    Tape tape;
    Var x = tape.variable(Tensor({0, 3}));
    tape.backward(sum(Var(matmul(x, W) + b)));
    CHECK(W.has_grad() == trainable);
    CHECK(W.grad().to_vector() == std::vector<double>(6, 0));
    CHECK(b.has_grad());
    CHECK(x.grad().shape() == Shape{0, 3});
    W.use_up_grad();
    b.use_up_grad();
  }
}

TEST_CASE("an addend's gradient may be the sum's own, unless somebody else adds to it") {
  using Program = std::function<Var(const Inputs&)>;
  auto add = [](const Var& x, const Inputs& v) { return Var(matmul(v[1], v[2]) + x); };
  const std::pair<std::string, Program> programs[] = {
      {"alone",
       [&](const Inputs& v) {
         Var x = v[0] * 2;
         return Var(tanh(add(x[1], v)));
       }},
      {"the whole is used later",
       [&](const Inputs& v) {
         Var x = v[0] * 2, y = tanh(add(x[1], v));
         return Var(y * sum(x));
       }},
      {"the whole is used between",
       [&](const Inputs& v) {
         Var x = v[0] * 2, y = add(x[1], v), s = sum(square(x)), z = tanh(y);
         return Var(z * s);
       }},
      {"the part is used between",
       [&](const Inputs& v) {
         Var x = v[0] * 2, y = add(x[1], v), s = sum(square(x[1])), z = tanh(y);
         return Var(z * s);
       }},
      {"the part is used by the same statement",
       [&](const Inputs& v) {
         Var x = v[0] * 2, p = x[1], y = add(p, v);
         return Var(tanh(y) * p * p);
       }},
      {"another division overlaps",
       [&](const Inputs& v) {
         Var x = v[0] * 2, y = add(x[1], v);
         auto [a, b] = chunk<2>(x);
         Var s = sum(a * b), z = tanh(y);
         return Var(z * s);
       }},
      {"a slice overlaps",
       [&](const Inputs& v) {
         Var x = v[0] * 2, y = add(x[1], v), s = sum(square(slice(x, 0, 0, 2))), z = tanh(y);
         return Var(z * s);
       }},
      {"in both factor and addend",
       [&](const Inputs& v) {
         Var x = v[1] * 2;
         return Var(tanh(matmul(x, v[2]) + slice(v[0] * 1, 0, 1, 2) + matmul(v[1], v[2])));
       }},
      {"twice",
       [&](const Inputs& v) {
         Var x = v[0] * 2, p = x[1];
         return Var(tanh(matmul(v[1], v[2]) + p + p));
       }},
      {"its own factor",
       [&](const Inputs& v) {
         Var x = v[3] * 2;
         return Var(tanh(matmul(x, v[3]) + x));
       }},
      {"a chain",
       [&](const Inputs& v) {
         Var y = v[0][0] * 2;
         for (int t = 0; t < 5; ++t) y = add(y, v);
         return Var(y * y);
       }},
      {"steps backwards",
       [&](const Inputs& v) {
         Var x = v[0] * 2, y = tanh(add(x[2], v));
         for (int t = 1; t >= 0; --t) y = tanh(add(x[t], v)) * y;
         return y;
       }},
      {"gradient kept",
       [&](const Inputs& v) {
         Var x = v[0] * 2, y = add(x[1], v).keep_grad();
         return Var(tanh(y) * y);
       }},
  };
  for (const auto& entry : programs) {
    CAPTURE(entry.first);
    const Program& run = entry.second;
    auto f = [&](Tape&, const Inputs& v) {
      return Var(run(v) + sum(v[0]) + sum(v[1]) + sum(v[2]) + sum(v[3]));  // every input is used
    };
    CHECK(gradient_error(f, {random_tensor({3, 2, 4}, 1), random_tensor({2, 5}, 2), random_tensor({5, 4}, 3),
                             random_tensor({4, 4}, 4)}) < 1e-7);
  }
}

TEST_CASE("a backward that an exception ends leaves nothing wrong behind for the next") {
  bool throws = true;
  Tape tape;
  Var v = tape.variable(random_tensor({2, 1, 4}, 1)), a = tape.constant(random_tensor({1, 5}, 2)),
      w = tape.constant(random_tensor({5, 4}, 3));
  const Tape::Mark inputs = tape.mark();
  Var x = v * 2, y = matmul(a, w) + x[1];
  Var between = record(
      "between", {v}, v.shape(), [](auto to, auto from) { to = from; },
      [&throws](auto& d) {
        if (throws) throw std::runtime_error("no");
        d.add(0, d.dy());
      });
  Var loss = sum(tanh(y)) + sum(between);
  CHECK_THROWS_AS(tape.backward(loss), std::runtime_error);
  throws = false;
  tape.backward(loss);
  const Tensor value(y.value()), grad(v.grad());
  for (Index j = 0; j < 4; ++j) {
    const double t = std::tanh(value.at({0, j}));
    CHECK(grad.at({1, 0, j}) == doctest::Approx(1 + 2 * (1 - t * t)));
    CHECK(grad.at({0, 0, j}) == doctest::Approx(1));
  }
  tape.rewind_to(inputs);
}

TEST_CASE("a weight that changes between uses is used as it is") {
  Parameter W("W", random_tensor({6, 40}, 1).to(float32));
  const Tensor rows = random_tensor({8, 6}, 2).to(float32);
  Tape tape;
  Var x = tape.constant(rows);
  auto sum_of = [&] { return Var(sum(Var(matmul(x, W)))).item(); };
  const double before = sum_of();
  CHECK(sum_of() == before);  // by now the tape keeps a copy
  CHECK(sum_of() == before);
  for (Index i = 0; i < 6; ++i)
    for (Index j = 0; j < 40; ++j) W.value().set({i, j}, 0.5);
  Tape fresh;
  x = fresh.constant(rows);
  const double after = sum_of();
  x = tape.constant(rows);
  CHECK(sum_of() == after);
  CHECK(after != before);
}

TEST_CASE("rewinding the tape leaves no weight behind that it has arranged since") {
  Parameter W("W", random_tensor({6, 40}, 1).to(float32));
  const Tensor rows = random_tensor({8, 6}, 2).to(float32);
  Tape tape;
  Var x = tape.constant(rows), w = tape.use(W);
  auto product = [&] { return Tensor(Var(matmul(x, w)).value()); };
  const Tape::Mark unused = tape.mark();
  const Tensor expected = product();
  const Tape::Mark used = tape.mark();
  for (const Tape::Mark& mark : {used, unused}) {
    std::size_t bytes = 0;
    for (int round = 0; round < 5; ++round) {
      for (int use = 0; use < 3; ++use) CHECK(same_bits(product(), expected));
      if (round == 1) bytes = tape.bytes_in_use();
      if (round > 1) CHECK(tape.bytes_in_use() == bytes);
      tape.rewind_to(mark);
      tape.constant(Tensor::full({64, 64}, 7));  // what the tape forgot is written over
      CHECK(same_bits(product(), expected));
      tape.rewind_to(mark);
    }
  }
}

TEST_CASE("only gradients that somebody wants are computed") {
  Parameter W("W", random_tensor({4, 5}, 1)), U("U", random_tensor({4, 5}, 2));
  U.set_trainable(false);
  Tape tape;
  Var x = tape.constant(random_tensor({3, 4}, 3));
  tape.backward(sum(Var(matmul(x, W) + matmul(x, U))));
  CHECK(W.has_grad());
  CHECK_FALSE(U.has_grad());
}

TEST_CASE("wrong products name both shapes and the line") {
  Tape tape;
  Var a = tape.constant(Tensor({32, 64})), b = tape.constant(Tensor({128, 10})), v = tape.constant(Tensor({64}));
  CHECK_ERROR_HERE(Var(matmul(a, b)), "a is [32, 64] and b is [128, 10]; a's last axis must equal b's second to last");
  CHECK_ERROR_HERE(Var(matmul(a, tape.constant(Tensor({64, 2}, float64)))), "matmul", "float32", "float64");
  CHECK_ERROR_HERE(Var(matmul(a, tape.constant(Tensor({64, 2}))) + v), "matmul's addend", "[32, 2]", "[64]");
  Parameter W("W", Tensor({2, 2}));
  CHECK_ERROR_HERE(Var(matmul(W, W)), "no tape");
}
