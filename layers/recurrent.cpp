#include <layers/recurrent.h>

namespace unroll {

RecurrentState& RecurrentState::operator=(const DetachedState& state) {
  tensors_.resize(state.values.size());
  for (std::size_t i = 0; i < tensors_.size(); ++i) tensors_[i].assign(state.values[i].value());
  return *this;
}

namespace detail {

void check_sequence(const Var& x, Index inputs, DType dtype, Source where) {
  if (!x) fail_at(where, "Recurrent: the input is an empty Var; assign a value to it first");
  const Shape& shape = x.shape();
  if (shape.rank() != 3 || shape[2] != inputs)
    fail_at(where, "Recurrent: the input is {}; it must be [time, batch, {}]", shape, inputs);
  if (shape[0] == 0) fail_at(where, "Recurrent: the input is {}; at least one step is needed", shape);
  if (x.dtype() != dtype && !x.graph()->dual())
    fail_at(where, "Recurrent: the input is {} and the weights are {}; convert one of them", x.dtype(), dtype);
}

Var initial_value(const Var& x, Index hidden, const RecurrentState& state, std::size_t index, std::size_t values,
                  Source where) {
  Graph& graph = *x.graph();
  Shape shape{x.size(1), hidden};
  if (state.empty()) {
    NodeId id = graph.add_leaf(shape, x.dtype(), where);
    std::fill_n(graph.node(id).value, graph.node(id).bytes(), std::byte{0});
    return graph.var(id);
  }
  const Tensor& tensor = state.tensors()[std::min(index, state.tensors().size() - 1)];
  if (state.tensors().size() != values || tensor.shape() != shape || tensor.dtype() != x.dtype())
    fail_at(where, "Recurrent: the state carried in has {} tensors of {} {}; needed are {} of {} {}; reset() it first",
            state.tensors().size(), tensor.dtype(), tensor.shape(), values, x.dtype(), shape);
  return graph.var(graph.add_leaf(tensor, false, where));
}

Var initial_value(const Var& x, Index hidden, const FinalState& state, std::size_t index, std::size_t values,
                  Source where) {
  if (state.values.size() != values)
    fail_at(where, "Recurrent: the initial state has {} values; {} are needed", state.values.size(), values);
  const Var& value = state.values[index];
  x.graph()->check(value, "Recurrent", where);
  const Shape shape{x.size(1), hidden};
  if (value.shape() != shape || value.dtype() != x.dtype())
    fail_at(where, "Recurrent: a value of the initial state is {} {}; it must be {} {}", value.dtype(), value.shape(),
            x.dtype(), shape);
  return value;
}

}  // namespace detail
}  // namespace unroll
