#pragma once

// The states of recurrent layers: as a cell sees them, as a layer takes and returns them, and off the tape.

#include <autograd/var.h>

#include <array>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace unroll {

namespace detail {

struct AnyMember {
  operator Var() const;  // NOLINT(google-explicit-constructor)
};

/// The number of Vars that a struct such as `struct State { Var h, c; }` consists of.
template <class State>
constexpr std::size_t state_size() {
  using A = AnyMember;
  if constexpr (requires { State{A{}, A{}, A{}, A{}}; })
    return 4;
  else if constexpr (requires { State{A{}, A{}, A{}}; })
    return 3;
  else if constexpr (requires { State{A{}, A{}}; })
    return 2;
  else
    return 1;
}

/// The Vars of such a struct, in order.
template <class State>
auto members(State& state) {
  constexpr std::size_t n = state_size<std::remove_const_t<State>>();
  if constexpr (n == 4) {
    auto& [a, b, c, d] = state;
    return std::array{&a, &b, &c, &d};
  } else if constexpr (n == 3) {
    auto& [a, b, c] = state;
    return std::array{&a, &b, &c};
  } else if constexpr (n == 2) {
    auto& [a, b] = state;
    return std::array{&a, &b};
  } else {
    auto& [a] = state;
    return std::array{&a};
  }
}

}  // namespace detail

/// A recurrent layer's state on the tape: by layer, in each by direction, and in each the Vars of the cell's state.
struct FinalState {
  std::span<const Var> values;
};

/// A state taken off its tape; what `detach(final_state)` gives, to be assigned to a RecurrentState.
struct DetachedState {
  std::span<const Var> values;
};
inline DetachedState detach(const FinalState& state) { return {state.values}; }

/// A recurrent layer's state between windows (truncated back-propagation through time): plain tensors, in the order of
/// FinalState. Empty, it stands for no state: the layer starts as if none had been given.
class RecurrentState {
 public:
  RecurrentState() = default;
  /// Takes the values: no gradient will flow back past this point. Makes no allocation when the shapes are
  /// those of before.
  RecurrentState& operator=(const DetachedState& state);

  bool empty() const { return tensors_.empty(); }
  /// Back to none.
  void reset() { tensors_.clear(); }
  std::vector<Tensor>& tensors() { return tensors_; }
  const std::vector<Tensor>& tensors() const { return tensors_; }

  /// The tensors under the names "0", "1", ...; for a checkpoint.
  std::map<std::string, Tensor> state_dict() const;
  /// Throws Error, and changes nothing, when the names are others.
  void load_state_dict(const std::map<std::string, Tensor>& state);

 private:
  std::vector<Tensor> tensors_;
};

/// Where a recurrent layer starts: nowhere in particular (zeros, or the state it has learned), where a window before
/// ended, or at Vars through which the gradient flows, such as an encoder's final state.
class InitialState {
 public:
  InitialState() = default;
  InitialState(const RecurrentState& carried)  // NOLINT(google-explicit-constructor)
      : carried_(carried.empty() ? nullptr : &carried) {}
  InitialState(const FinalState& vars) : vars_(vars.values), on_tape_(true) {}  // NOLINT(google-explicit-constructor)

  bool given() const { return carried_ != nullptr || on_tape_; }
  /// Value `index` of `values`, which must have this shape and x's type. Throws Error when it has not.
  Var value(const Var& x, const Shape& shape, std::size_t index, std::size_t values, Source where) const;

 private:
  const RecurrentState* carried_ = nullptr;
  std::span<const Var> vars_;
  bool on_tape_ = false;
};

}  // namespace unroll
