// Operations that a user writes with record: a value and, under it, a derivative, in a file of the user's own.

#include <autograd/autograd.h>
#include <tests/support.h>

using namespace unroll;
using namespace unroll::testing;

namespace {

/// y = x, and dL/dx = -rate dL/dy: what lies before learns to make the loss larger.
/// Source: Ganin et al. 2016, "Domain-adversarial training of neural networks", equation 20.
Var reverse_gradient(const Var& x, double rate, Source where = Source::here()) {
  return record<Duals>(
      "reverse_gradient", {x}, x.shape(), [](auto y, auto values) { y = values; },
      [rate](auto& d) { d.add(0, -rate * d.dy()); }, where);
}

/// y = 1 where x > 0 and 0 elsewhere, with the gradient of y = x.
/// Source: Bengio, Leonard and Courville 2013, "Estimating or propagating gradients through stochastic neurons".
Var straight_through(const Var& x, Source where = Source::here()) {
  return record(
      "straight_through", {x}, x.shape(),
      []<class T>(MatrixMap<T> y, ConstMatrixMap<T> v) { y.array() = (v.array() > T(0)).template cast<T>(); },
      [](auto& d) { d.add(0, d.dy()); }, where);
}

/// y = x a^T with a fixed matrix a [N, K] that is not on the tape, by Eigen's own product.
Var times_transposed(const Var& x, const Tensor& a, Source where = Source::here()) {
  return record(
      "times_transposed", {x}, x.shape().with(x.rank() - 1, a.shape()[0]),
      [&a]<class T>(MatrixMap<T> y, ConstMatrixMap<T> v) { y.noalias() = v * a.matrix<T>().transpose(); },
      [a = &a]<class T>(Derivative<T>& d) { d.add(0, d.dy() * a->matrix<T>()); }, where);
}

}  // namespace

TEST_CASE("gradient reversal is a value and a derivative") {
  Tape tape;
  Var x = tape.variable(Tensor({2}, {1, 2})), y = reverse_gradient(x, 0.5);
  CHECK(y.value().to_vector() == std::vector<double>{1, 2});
  tape.backward(sum(square(y)));
  CHECK(x.grad().to_vector() == std::vector<double>{-1, -2});
  // With Duals it has second derivatives: of -0.5 sum x^2 here, along (1, 0).
  Function f = [](Tape&, const std::vector<Var>& in) { return sum(square(reverse_gradient(in[0], 0.5))); };
  CHECK(hvp(f, {Tensor({2}, {1, 2})}, {Tensor({2}, {1, 0})})[0].to_vector() == std::vector<double>{-1, 0});
}

TEST_CASE("a straight-through step, and the same by detach") {
  Tape tape;
  Var x = tape.variable(Tensor({3}, {-1, 0.5, 2}));
  Var y = straight_through(x);
  CHECK(y.value().to_vector() == std::vector<double>{0, 1, 1});
  tape.backward(sum(Var(3 * y)));
  CHECK(x.grad().to_vector() == std::vector<double>{3, 3, 3});
  Var z = tape.variable(Tensor({3}, {-1, 0.5, 2}));
  Var composed = z + detach(straight_through(z) - z);
  CHECK(composed.value().to_vector() == std::vector<double>{0, 1, 1});
  tape.backward(sum(Var(3 * composed)));
  CHECK(z.grad().to_vector() == std::vector<double>{3, 3, 3});
}

TEST_CASE("an operation of one's own is checked like the library's") {
  Tensor a = random_tensor({4, 5}, 1);
  auto f = [&](Tape&, const std::vector<Var>& x) { return times_transposed(x[0], a); };
  CHECK(check_gradient(f, {random_tensor({2, 3, 5}, 2)}).ok);
}
