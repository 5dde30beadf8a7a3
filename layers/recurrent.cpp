#include <layers/recurrent.h>

namespace unroll {

RecurrentState& RecurrentState::operator=(const DetachedState& state) {
  tensors_.resize(state.values.size());
  for (std::size_t i = 0; i < tensors_.size(); ++i) tensors_[i].assign(state.values[i].value());
  return *this;
}

namespace detail {

void check_sequence(const Var& x, Index inputs, const char* layer, Source where) {
  if (x.graph() == nullptr) fail_at(where, "{}: the input is an empty Var; assign a value to it first", layer);
  const Shape& shape = x.shape();
  if (shape.rank() != 3 || shape[2] != inputs)
    fail_at(where, "{}: the input is {}; it must be [time, batch, {}]", layer, shape, inputs);
  if (shape[0] == 0) fail_at(where, "{}: the input is {}; at least one step is needed", layer, shape);
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

}  // namespace detail
}  // namespace unroll
