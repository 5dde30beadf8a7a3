#include <autograd/derivatives.h>

namespace unroll {

namespace {

void check_direction(const char* function, const std::vector<Shape>& shapes, const std::vector<Tensor>& direction) {
  if (shapes.size() != direction.size())
    fail("{}: {} inputs and {} tensors of direction; each input needs one", function, shapes.size(), direction.size());
  for (std::size_t k = 0; k < shapes.size(); ++k)
    if (shapes[k] != direction[k].shape())
      fail("{}: input {} is {} and its direction {}; they must agree", function, k, shapes[k], direction[k].shape());
}

std::vector<Shape> shapes_of(const std::vector<Tensor>& inputs) {
  std::vector<Shape> shapes;
  for (const Tensor& input : inputs) shapes.push_back(input.shape());
  return shapes;
}

/// The inputs on a dual tape, with the direction as their tangents.
std::vector<Var> moving(Tape& tape, const std::vector<Tensor>& inputs, const std::vector<Tensor>& direction) {
  std::vector<Var> x;
  for (std::size_t k = 0; k < inputs.size(); ++k) {
    x.push_back(tape.variable(inputs[k]));
    tape.graph().set_tangent(tape.graph().check(x[k], "jvp", {}), direction[k]);
  }
  return x;
}

void check_scalar(const Var& y) {
  if (y.shape().count() != 1) fail("hvp: the function's value has shape {}; it must be a scalar", y.shape());
}

std::vector<Tensor> tangents_of_gradients(const std::vector<Var>& x) {
  std::vector<Tensor> result;
  for (const Var& v : x) {
    const detail::Graph& graph = *v.graph();
    detail::NodeId id = graph.check(v, "hvp", {});
    // An input that f does not use has no gradient.
    if (graph.node(graph.node(id).base).grad == nullptr)
      result.emplace_back(v.shape(), float64);
    else
      result.emplace_back(graph.shown(graph.grad(id, {}), true));
  }
  return result;
}

/// The part of a larger tensor that begins at element `at`.
void put(Tensor& whole, Index at, const Tensor& part) {
  with_type(part.dtype(), [&]<class T>(T) { std::copy_n(part.data<T>(), part.size(), whole.data<T>() + at); });
}

Shape joined(const Shape& a, const Shape& b) {
  std::vector<Index> sizes(a.begin(), a.end());
  sizes.insert(sizes.end(), b.begin(), b.end());
  return Shape(std::span<const Index>(sizes));
}

}  // namespace

Jvp jvp(const Function& f, const std::vector<Tensor>& inputs, const std::vector<Tensor>& direction) {
  check_direction("jvp", shapes_of(inputs), direction);
  Tape tape = Tape::dual(false);
  Var y = f(tape, moving(tape, inputs, direction));
  return {Tensor(y.value()), Tensor(y.graph()->shown(y.graph()->view(y.graph()->check(y, "jvp", {})), true))};
}

Vjp vjp(const Function& f, const std::vector<Tensor>& inputs, const Tensor& seed) {
  Tape tape;
  std::vector<Var> x;
  for (const Tensor& input : inputs) x.push_back(tape.variable(input));
  Var y = f(tape, x);
  return {Tensor(y.value()), tape.gradients(y, seed, x)};
}

std::vector<Tensor> jacobian(const Function& f, const std::vector<Tensor>& inputs) {
  Tape tape;
  std::vector<Var> x;
  for (const Tensor& input : inputs) x.push_back(tape.variable(input));
  Var y = f(tape, x);
  std::vector<Tensor> result;
  for (const Tensor& input : inputs) result.emplace_back(joined(y.shape(), input.shape()), input.dtype());
  for (Index i = 0; i < y.shape().count(); ++i) {
    Tensor seed(Shape{y.shape().count()}, y.dtype());
    seed.set({i}, 1);
    std::vector<Tensor> row = tape.gradients(y, seed.reshaped(y.shape()), x);
    for (std::size_t k = 0; k < x.size(); ++k) put(result[k], i * row[k].size(), row[k]);
  }
  return result;
}

std::vector<Tensor> hvp(const Function& f, const std::vector<Tensor>& inputs, const std::vector<Tensor>& direction) {
  check_direction("hvp", shapes_of(inputs), direction);
  Tape tape = Tape::dual(true);
  std::vector<Var> x = moving(tape, inputs, direction);
  Var y = f(tape, x);
  check_scalar(y);
  tape.backward(y);
  return tangents_of_gradients(x);
}

std::vector<Tensor> hvp(const std::function<Var(Tape&)>& loss, const std::vector<Parameter*>& parameters,
                        const std::vector<Tensor>& direction) {
  std::vector<Shape> shapes;
  for (const Parameter* parameter : parameters) shapes.push_back(parameter->shape());
  check_direction("hvp", shapes, direction);
  Tape tape = Tape::dual(true);
  std::vector<Var> x;
  for (std::size_t k = 0; k < parameters.size(); ++k) {
    x.push_back(tape.use(*parameters[k]));
    tape.graph().set_tangent(tape.graph().check(x[k], "hvp", {}), direction[k]);
  }
  Var y = loss(tape);
  check_scalar(y);
  tape.backward(y);
  return tangents_of_gradients(x);
}

Tensor hessian(const Function& f, const Tensor& input) {
  Tensor result(joined(input.shape(), input.shape()), float64);
  for (Index i = 0; i < input.size(); ++i) {
    Tensor unit(Shape{input.size()}, float64);
    unit.set({i}, 1);
    put(result, i * input.size(), hvp(f, {input}, {unit.reshaped(input.shape())})[0]);
  }
  return result;
}

}  // namespace unroll
