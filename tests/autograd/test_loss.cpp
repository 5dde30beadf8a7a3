#include <autograd/autograd.h>
#include <tests/support.h>

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

using namespace unroll;
using namespace unroll::testing;

namespace {
constexpr double infinity = std::numeric_limits<double>::infinity();
}

TEST_CASE("log_softmax and cross_entropy agree with their definitions") {
  Tensor logits = random_tensor({4, 5}, 1, -3, 3);
  std::vector<std::int32_t> targets{3, 0, 4, 1};
  Tape tape;
  auto y = log_softmax(tape.constant(logits)).value();
  double loss = 0;
  for (Index i = 0; i < 4; ++i) {
    double sum = 0;
    for (Index j = 0; j < 5; ++j) sum += std::exp(logits.at({i, j}));
    for (Index j = 0; j < 5; ++j) CHECK(y.at({i, j}) == doctest::Approx(logits.at({i, j}) - std::log(sum)));
    loss -= y.at({i, targets[static_cast<std::size_t>(i)]}) / 4;
  }
  CHECK(cross_entropy(tape.constant(logits), targets).item() == doctest::Approx(loss));
  CHECK(cross_entropy(tape.constant(logits.to(float32)), targets).item() == doctest::Approx(loss).epsilon(1e-6));
  // Targets may have the leading shape of logits of any rank.
  CHECK(cross_entropy(tape.constant(logits.reshaped({2, 2, 5})), Indices(targets, {2, 2})).item() ==
        doctest::Approx(loss));
}

TEST_CASE("log_softmax and cross_entropy: derivatives") {
  Tensor logits = random_tensor({4, 5}, 1, -3, 3);
  std::vector<std::int32_t> targets{3, 0, 4, 1};
  CHECK(gradient_error([](Tape&, const std::vector<Var>& x) { return log_softmax(x[0]); }, {logits}) < 1e-8);
  CHECK(gradient_error([&](Tape&, const std::vector<Var>& x) { return cross_entropy(x[0], targets); }, {logits}) <
        1e-8);
  CHECK(gradient_error(
            [&](Tape&, const std::vector<Var>& x) { return Var(cross_entropy(x[0], targets) + sum(Var(x[0] * x[0]))); },
            {logits}) < 1e-8);
  CHECK(gradient_error([&](Tape&, const std::vector<Var>& x) { return cross_entropy(transpose(x[0]), targets); },
                       {random_tensor({5, 4}, 2)}) < 1e-8);
  CHECK(gradient_error([](Tape&, const std::vector<Var>& x) { return mse(x[0], x[1]); },
                       {logits, random_tensor({4, 5}, 3)}) < 1e-8);
}

TEST_CASE("huge logits and masked classes stay finite") {
  Tape tape;
  Var x = tape.variable(Tensor({2, 3}, {1e4, 0, -1e4, -infinity, 2, 2}, float64));
  auto y = log_softmax(x).value();
  CHECK(y.at({0, 0}) == 0);
  CHECK(y.at({0, 2}) == -2e4);
  CHECK(y.at({1, 0}) == -infinity);
  CHECK(y.at({1, 1}) == doctest::Approx(-std::log(2)));
  Var loss = cross_entropy(x, std::vector<std::int32_t>{1, 2});
  CHECK(loss.item() == doctest::Approx((1e4 + std::log(2)) / 2));
  tape.backward(loss);
  for (double g : x.grad().to_vector()) CHECK(std::isfinite(g));
  CHECK(x.grad().at({1, 0}) == 0);
  Var nothing = tape.constant(Tensor({1, 2}, {-infinity, -infinity}, float64));
  CHECK(std::isnan(log_softmax(nothing).value().at({0, 0})));
}

TEST_CASE("the mean over two million rows loses no digits to float32") {
  Tape tape;
  std::vector<std::int32_t> targets(2'000'000, 0);
  Var loss = cross_entropy(tape.constant(Tensor({2'000'000, 2})), targets);
  CHECK(std::abs(loss.item() - std::log(2)) < 1e-7);
}

TEST_CASE("wrong targets are refused with their place") {
  Tape tape;
  Var x = tape.constant(Tensor({2, 3}));
  CHECK_ERROR_HERE(cross_entropy(x, std::vector<std::int32_t>{0, 3}), "target 1 is 3", "classes 0 to 2");
  CHECK_ERROR_HERE(cross_entropy(x, std::vector<std::int32_t>{0, -1}), "target 1 is -1");
  CHECK_ERROR_HERE(cross_entropy(x, std::vector<std::int32_t>{0}), "[2, 3]", "[1]");
  CHECK_ERROR_HERE(cross_entropy(tape.constant(Tensor({0, 3})), std::vector<std::int32_t>{}), "no rows");
  CHECK_ERROR_HERE(mse(x, tape.constant(Tensor({3, 2}))), "mse", "[2, 3]", "[3, 2]");
}

TEST_CASE("embedding looks rows up, and its gradient adds up over repeated ids") {
  Parameter table("table", Tensor({3, 2}, {1, 2, 3, 4, 5, 6}));
  Tape tape;
  Var y = embedding(tape, table, Indices(std::vector<std::int32_t>{2, 0, 2, 2}, {2, 2}));
  CHECK(y.shape() == Shape{2, 2, 2});
  CHECK(y.value().to_vector() == std::vector<double>{5, 6, 1, 2, 5, 6, 5, 6});
  tape.backward(sum(Var(y * y)));
  CHECK(table.grad().to_vector() == std::vector<double>{2, 4, 0, 0, 30, 36});
  CHECK_ERROR_HERE(embedding(tape, table, std::vector<std::int32_t>{0, 3}), "id 1 is 3", "rows 0 to 2");
}
