#pragma once

#include <autograd/tensor.h>

#include <concepts>
#include <map>
#include <string>

namespace unroll {

/// What can be saved and put back as tensors by name: a Module, an Optimizer, a RecurrentState, EarlyStopping, ...
/// `load_state_dict` throws Error, and changes nothing, when the dictionary does not fit.
template <class T>
concept Stateful = requires(T& to, const T& from, const std::map<std::string, Tensor>& state) {
  { from.state_dict() } -> std::convertible_to<std::map<std::string, Tensor>>;
  to.load_state_dict(state);
};

}  // namespace unroll
