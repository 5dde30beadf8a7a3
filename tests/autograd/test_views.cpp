#include <autograd/autograd.h>
#include <tests/support.h>

#include <doctest/doctest.h>

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

TEST_CASE("detach stops the gradient and keeps the value") {
  Tape tape;
  Var x = tape.variable(Tensor({2}, {3, 4}));
  Var y = x * x;
  tape.backward(sum(Var(x * detach(y))));
  CHECK(x.grad().to_vector() == std::vector<double>{9, 16});
  CHECK_FALSE(detach(y).needs_grad());
}

TEST_CASE("wrong axes, indices and sizes name the operation, the shape and the line") {
  Tape tape;
  Var x = tape.constant(Tensor({2, 6}));
  CHECK_ERROR(x[2], "select", "index 2", "[2, 6]");
  CHECK_ERROR_HERE(select(x, 2, 0), "select", "axis 2", "[2, 6]");
  CHECK_ERROR_HERE(slice(x, 1, 4, 3), "slice", "4 to 3", "[2, 6]");
  CHECK_ERROR_HERE(slice(x, 1, 0, 7), "slice", "[2, 6]");
  CHECK_ERROR_HERE(chunk<4>(x), "chunk", "4 equal parts", "[2, 6]");
  CHECK_ERROR_HERE(reshape(x, {5, -1}), "reshape", "[2, 6]");
  CHECK_ERROR_HERE(reshape(x, {-1, -1}), "reshape", "only one");
  CHECK_ERROR_HERE(transpose(x, 0, 2), "transpose", "[2, 6]");
}
