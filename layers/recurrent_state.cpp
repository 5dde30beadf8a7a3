#include <layers/recurrent_state.h>

#include <algorithm>

namespace unroll {

RecurrentState& RecurrentState::operator=(const DetachedState& state) {
  tensors_.resize(state.values.size());
  for (std::size_t i = 0; i < tensors_.size(); ++i) tensors_[i].assign(state.values[i].value());
  return *this;
}

std::map<std::string, Tensor> RecurrentState::state_dict() const {
  std::map<std::string, Tensor> state;
  for (std::size_t i = 0; i < tensors_.size(); ++i) state.emplace(fmt::to_string(i), tensors_[i]);
  return state;
}

void RecurrentState::load_state_dict(const std::map<std::string, Tensor>& state) {
  std::vector<Tensor> tensors;
  for (std::size_t i = 0; i < state.size(); ++i) {
    const auto found = state.find(fmt::to_string(i));
    if (found == state.end())
      fail("RecurrentState: of {} saved tensors, none is named \"{}\"; they are not of a state", state.size(), i);
    tensors.push_back(found->second);
  }
  tensors_ = std::move(tensors);
}

Var InitialState::value(const Var& x, const Shape& shape, std::size_t index, std::size_t values, Source where) const {
  detail::Graph& graph = *x.graph();
  if (carried_ != nullptr) {
    const std::vector<Tensor>& tensors = carried_->tensors();
    const Tensor& tensor = tensors[std::min(index, tensors.size() - 1)];
    if (tensors.size() != values || tensor.shape() != shape || tensor.dtype() != x.dtype())
      fail_at(where,
              "Recurrent: the state carried in has {} tensors of {} {}; needed are {} of {} {}; reset() it first",
              tensors.size(), tensor.dtype(), tensor.shape(), values, x.dtype(), shape);
    return graph.var(graph.add_leaf(tensor, false, where));
  }
  if (vars_.size() != values)
    fail_at(where, "Recurrent: the initial state has {} values; {} are needed", vars_.size(), values);
  const Var& value = vars_[index];
  graph.check(value, "Recurrent", where);
  if (value.shape() != shape || value.dtype() != x.dtype())
    fail_at(where, "Recurrent: a value of the initial state is {} {}; it must be {} {}", value.dtype(), value.shape(),
            x.dtype(), shape);
  return value;
}

}  // namespace unroll
