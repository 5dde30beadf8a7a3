#include <autograd/autograd.h>
#include <tests/support.h>

#include <limits>

using namespace unroll;
using namespace unroll::testing;

namespace {

using Inputs = std::vector<Var>;

/// A program with a product, views, statements, reductions and a value used twice.
Var program(Tape&, const Inputs& x) {
  auto [a, b] = chunk<2>(matmul(x[0], x[1]) + x[2]);
  Var h = sigmoid(a) * tanh(b) + 0.5 * b;
  Var all = concat(std::vector<Var>{h, transpose(h)}, 0);
  return mean(Var(square(all) * exp(-square(all))));
}

std::vector<Tensor> at() { return {random_tensor({3, 4}, 1), random_tensor({4, 6}, 2), random_tensor({6}, 3)}; }
std::vector<Tensor> direction() { return {random_tensor({3, 4}, 4), random_tensor({4, 6}, 5), random_tensor({6}, 6)}; }

std::vector<Tensor> moved(std::vector<Tensor> x, const std::vector<Tensor>& v, double step) {
  for (std::size_t k = 0; k < x.size(); ++k)
    for (Index i = 0; i < x[k].size(); ++i) x[k].data<double>()[i] += step * v[k].data<double>()[i];
  return x;
}

double inner(const std::vector<Tensor>& a, const std::vector<Tensor>& b) {
  double sum = 0;
  for (std::size_t k = 0; k < a.size(); ++k)
    for (Index i = 0; i < a[k].size(); ++i) sum += a[k].data<double>()[i] * b[k].data<double>()[i];
  return sum;
}

double value_of(const Function& f, const std::vector<Tensor>& x) {
  return vjp(f, x, Tensor::scalar(1, float64)).value.item();
}
std::vector<Tensor> gradient_of(const Function& f, const std::vector<Tensor>& x) {
  return vjp(f, x, Tensor::scalar(1, float64)).gradients;
}

}  // namespace

TEST_CASE("a jvp is the slope along the direction, and agrees with the vjp") {
  Jvp forward = jvp(program, at(), direction());
  CHECK(forward.value.item() == doctest::Approx(value_of(program, at())).epsilon(1e-15));
  CHECK(forward.tangent.item() == doctest::Approx(inner(gradient_of(program, at()), direction())).epsilon(1e-13));
  double h = 1e-5;
  double slope =
      (value_of(program, moved(at(), direction(), h)) - value_of(program, moved(at(), direction(), -h))) / (2 * h);
  CHECK(forward.tangent.item() == doctest::Approx(slope).epsilon(1e-8));
}

TEST_CASE("a jvp where a factor or a divisor is infinite") {
  auto along = [](const std::function<Var(const Var&)>& f, double x) {
    const Function on_tape = [&](Tape&, const std::vector<Var>& v) { return f(v[0]); };
    return jvp(on_tape, {Tensor::scalar(x, float64)}, {Tensor::scalar(3, float64)}).tangent.item();
  };
  CHECK(along([](const Var& x) { return Var(1 / exp(x)); }, 1000) == 0);
  CHECK(along([](const Var& x) { return Var(2 * x); }, std::numeric_limits<double>::infinity()) == 6);
  CHECK(along([](const Var& x) { return Var(x / 2); }, std::numeric_limits<double>::infinity()) == 1.5);
}

TEST_CASE("an hvp is the change of the gradient along the direction") {
  std::vector<Tensor> product = hvp(program, at(), direction());
  double h = 1e-5;
  std::vector<Tensor> above = gradient_of(program, moved(at(), direction(), h));
  std::vector<Tensor> below = gradient_of(program, moved(at(), direction(), -h));
  for (std::size_t k = 0; k < product.size(); ++k) {
    Tensor difference = above[k];
    for (Index i = 0; i < difference.size(); ++i)
      difference.data<double>()[i] = (above[k].data<double>()[i] - below[k].data<double>()[i]) / (2 * h);
    CHECK(relative_error(product[k], difference) < 1e-7);
  }
}

TEST_CASE("an hvp through parameters leaves their gradients alone") {
  Parameter W("W", random_tensor({4, 6}, 2)), b("b", random_tensor({6}, 3));
  Tensor x = random_tensor({3, 4}, 1);
  auto loss = [&](Tape& tape) { return program(tape, {tape.constant(x), tape.use(W), tape.use(b)}); };
  std::vector<Tensor> of_parameters = hvp(loss, {&W, &b}, {direction()[1], direction()[2]});
  CHECK_FALSE(W.has_grad());
  auto fixed = [&](Tape& tape, const Inputs& p) { return program(tape, {tape.constant(x), p[0], p[1]}); };
  std::vector<Tensor> of_inputs = hvp(fixed, {at()[1], at()[2]}, {direction()[1], direction()[2]});
  CHECK(same_bits(of_parameters[0], of_inputs[0]));
  CHECK(same_bits(of_parameters[1], of_inputs[1]));
}

TEST_CASE("a Jacobian and a Hessian known by hand") {
  // y = [x0 x1, x1^2]
  Function f = [](Tape&, const Inputs& x) {
    return stack(std::vector<Var>{Var(x[0][0] * x[0][1]), Var(square(x[0][1]))});
  };
  Tensor x({2}, {3, 5}, float64);
  CHECK(jacobian(f, {x})[0].to_vector() == std::vector<double>{5, 3, 0, 10});
  // y = x0^2 x1
  Function g = [](Tape&, const Inputs& in) { return Var(square(in[0][0]) * in[0][1]); };
  CHECK(hessian(g, x).to_vector() == std::vector<double>{10, 6, 6, 0});
  CHECK(hessian(g, x).shape() == Shape{2, 2});
}

TEST_CASE("derivatives refuse a direction that does not fit, and a Hessian of what is not a scalar") {
  CHECK_ERROR(jvp(program, at(), {}), "jvp: 3 inputs and 0 tensors of direction");
  CHECK_ERROR(hvp(program, at(), {at()[1], at()[1], at()[2]}), "hvp: input 0 is [3, 4] and its direction [4, 6]");
  Function f = [](Tape&, const Inputs& x) { return Var(square(x[0])); };
  CHECK_ERROR(hvp(f, {at()[2]}, {at()[2]}), "hvp: the function's value has shape [6]");
  Function own = [](Tape&, const Inputs& x) {
    return record(
        "twice", {x[0]}, x[0].shape(), [](auto y, auto v) { y = 2 * v; }, [](auto& d) { d.add(0, 2 * d.dy()); });
  };
  CHECK_ERROR(jvp(own, {at()[2]}, {at()[2]}), "twice: recorded for float32 and float64 only", "record<Duals>");
}

TEST_CASE("gradients of a list touch nothing else") {
  Parameter W("W", random_tensor({4, 6}, 2));
  Tape tape;
  Var x = tape.variable(random_tensor({3, 4}, 1)), w = tape.use(W);
  Var h = tanh(matmul(x, W));
  Var y = mean(Var(square(h)));
  tape.backward(y);
  Tensor dx(x.grad()), dw(W.grad());
  std::vector<Tensor> some = tape.gradients(y, std::vector<Var>{x, w, h});
  CHECK(same_bits(some[0], dx));
  CHECK(same_bits(some[1], dw));
  CHECK(same_bits(x.grad(), dx));
  CHECK(same_bits(W.grad(), dw));
  // An intermediate value: 2 h / n.
  Tensor expected(h.value());
  for (Index i = 0; i < expected.size(); ++i) expected.data<double>()[i] *= 2.0 / 18;
  CHECK(relative_error(some[2], expected) < 1e-15);
  // A second backward adds up as if nothing had been asked for in between.
  tape.backward(y);
  for (Index i = 0; i < dx.size(); ++i)
    CHECK(x.grad().to_vector()[static_cast<std::size_t>(i)] == 2 * dx.data<double>()[i]);
  // Something that y does not depend on.
  Var other = tape.variable(Tensor({2}, float64));
  CHECK(tape.gradients(y, std::vector<Var>{other})[0].to_vector() == std::vector<double>{0, 0});
  Var constant = tape.constant(Tensor({2}, float64));
  CHECK_ERROR_HERE(tape.gradients(y, std::vector<Var>{constant}),
                   "gradients: a value of shape [2] in the list needs no gradient");
}

TEST_CASE("check_gradient accepts what is right and names what is wrong") {
  CHECK(check_gradient(program, at()).ok);
  CHECK(check_gradient(program, at()).error < 1e-8);
  // An operation with one wrong entry in its derivative.
  Function wrong = [](Tape&, const Inputs& x) {
    return record(
        "square", {x[0]}, x[0].shape(), [](auto y, auto v) { y = v.cwiseAbs2(); },
        [](auto& d) {
          auto dx = d.dx(0);
          dx += 2 * d.x(0).cwiseProduct(d.dy());
          dx(1, 2) *= 1.001;
        });
  };
  GradientCheck check = check_gradient(wrong, {random_tensor({3, 4}, 1)});
  CHECK_FALSE(check);
  CHECK(check.worst.find("input 0 of shape [3, 4], element [1, 2]:") == 0);
  GradientCheck large = check_gradient(wrong, {random_tensor({300, 40}, 1)});
  CHECK_FALSE(large);
  CHECK(large.worst.find("input 0 of shape [300, 40], element [1, 2]:") == 0);
  Function fine = [](Tape&, const Inputs& x) { return Var(square(x[0])); };
  CHECK(check_gradient(fine, {random_tensor({300, 40}, 1)}).ok);
}

TEST_CASE("check_gradient understands kinks and refuses randomness") {
  Function kinked = [](Tape&, const Inputs& x) { return Var(relu(x[0])); };
  GradientCheck check = check_gradient(kinked, {Tensor({4}, {-1, 0, 1e-7, 1})});
  CHECK(check.ok);
  CHECK(check.kinks == 2);  // 0, and 1e-7, which no step of use is smaller than
  // A wrong slope at a kink is not excused.
  Function wrong = [](Tape&, const Inputs& x) {
    return record(
        "abs", {x[0]}, x[0].shape(), [](auto y, auto v) { y = v.cwiseAbs(); }, [](auto& d) { d.add(0, 1.5 * d.dy()); });
  };
  CHECK_FALSE(check_gradient(wrong, {Tensor({1}, {0.0})}));
  Generator random(1);
  Function noisy = [&](Tape&, const Inputs& x) { return Var(x[0] * random.uniform()); };
  CHECK_ERROR_HERE(check_gradient(noisy, {Tensor({1}, {1.0})}), "check_gradient: the function gave");
  Parameter single("W", Tensor({2}));
  CHECK_ERROR_HERE(check_gradient(kinked, {Tensor({1})}, {&single}), "check_gradient: parameter 'W' is float32");
}

TEST_CASE("check_gradient covers parameters") {
  Parameter W("W", random_tensor({4, 6}, 2));
  Function f = [&](Tape&, const Inputs& x) { return Var(tanh(matmul(x[0], W))); };
  CHECK(check_gradient(f, {random_tensor({3, 4}, 1)}, {&W}).ok);
  Function wrong = [&](Tape& tape, const Inputs& x) { return Var(tanh(matmul(x[0], detach(tape.use(W))))); };
  GradientCheck check = check_gradient(wrong, {random_tensor({3, 4}, 1)}, {&W});
  CHECK_FALSE(check);
  CHECK(check.worst.find("W of shape [4, 6]") == 0);
}
