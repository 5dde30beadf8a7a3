#pragma once

// What every recurrent layer shares. A cell is its equations for one step; Recurrent<Cell> is the loop over
// time that makes a layer of it. Back-propagation through time is not written anywhere: it is what the tape's
// reverse walk over that loop is.

#include <autograd/checkpoint.h>
#include <autograd/shape_ops.h>
#include <layers/dropout.h>
#include <layers/module.h>

#include <algorithm>
#include <concepts>
#include <deque>

namespace unroll {

namespace detail {

struct AnyMember {
  operator Var() const;  // NOLINT(google-explicit-constructor)
};

/// The number of Vars that a state such as `struct State { Var h, c; }` consists of.
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

/// The Vars of a state, in order.
template <class State>
std::array<Var*, state_size<State>()> members(State& state) {
  constexpr std::size_t n = state_size<std::remove_const_t<State>>();
  if constexpr (n == 4) {
    auto& [a, b, c, d] = state;
    return {&a, &b, &c, &d};
  } else if constexpr (n == 3) {
    auto& [a, b, c] = state;
    return {&a, &b, &c};
  } else if constexpr (n == 2) {
    auto& [a, b] = state;
    return {&a, &b};
  } else {
    auto& [a] = state;
    return {&a};
  }
}

}  // namespace detail

/// One step of a recurrent network, split so that the input's part can be computed for all steps at once.
///
///     struct State { Var h, ...; };                          // up to four Vars, each [N, hidden]; h is the output
///     Cell(Index inputs, Index hidden, Generator& rng, Options options);
///     Var project(const Var& x) const;                       // x [T, N, D] -> [T, N, G]
///     State operator()(const Var& x_t, const State&) const;  // x_t [N, G]: one step of what project gave
///
/// T is time, N the batch, D the input's size, H the hidden size, G what the cell makes of it.
template <class Cell>
concept RecurrentCell =
    std::derived_from<Cell, Module> && requires(const Cell& cell, const Var& x, const typename Cell::State& state) {
      typename Cell::Options;
      { cell.project(x) } -> std::convertible_to<Var>;
      { cell(x, state) } -> std::same_as<typename Cell::State>;
      { state.h } -> std::convertible_to<Var>;
    };

/// The final state of a recurrent layer, by layer and in each by the cell's Vars, on the tape.
struct FinalState {
  std::span<const Var> values;
};

/// A state taken off its tape; what `detach(final_state)` gives, to be assigned to a RecurrentState.
struct DetachedState {
  std::span<const Var> values;
};
inline DetachedState detach(const FinalState& state) { return {state.values}; }

/// A recurrent layer's state between windows (truncated back-propagation through time): plain tensors, one
/// for each Var of the cell's state in each layer. Empty, it stands for zeros.
class RecurrentState {
 public:
  RecurrentState() = default;
  /// Takes the values: no gradient will flow back past this point. Makes no allocation when the shapes are
  /// those of before.
  RecurrentState& operator=(const DetachedState& state);

  bool empty() const { return tensors_.empty(); }
  /// Back to zeros.
  void reset() { tensors_.clear(); }
  std::vector<Tensor>& tensors() { return tensors_; }
  const std::vector<Tensor>& tensors() const { return tensors_; }

 private:
  std::vector<Tensor> tensors_;
};

namespace detail {

/// What does not depend on the cell: the checks of x [T, N, D] and of a state [N, H], and the state to start from.
void check_sequence(const Var& x, Index inputs, DType dtype, Source where);
Var initial_value(const Var& x, Index hidden, const RecurrentState& state, std::size_t index, std::size_t values,
                  Source where);
Var initial_value(const Var& x, Index hidden, const FinalState& state, std::size_t index, std::size_t values,
                  Source where);

}  // namespace detail

/// A recurrent layer of any cell: stacked layers, the outputs of each being the inputs of the next.
///
///     LSTM lstm(64, 256, rng, {.layers = 2});
///     auto [y, next] = lstm(x, state);        // x [T, N, 64] -> y [T, N, 256]
///     state = detach(next);                   // carry it into the next window
///
/// `Options` are the layer's; the cell's own follow. Parameters are named as in PyTorch: weight_ih_l0, ...
template <RecurrentCell Cell>
class Recurrent : public Module {
 public:
  struct Options {
    Index layers = 1;
    /// Dropout between the layers (not after the last), a probability in [0, 1).
    double dropout = 0;
    /// Not 0: the tape keeps the state at every so many steps only, and backward computes the steps between anew. T
    /// steps then need memory for T / checkpoint + checkpoint of them (least at sqrt(T)) and one forward pass more;
    /// gradients are the same bits. See autograd/checkpoint.h.
    Index checkpoint = 0;
    typename Cell::Options cell = {};
  };
  struct Output {
    Var y;             ///< the last layer's h at every step [T, N, H]
    FinalState state;  ///< every layer's state after the last step
  };
  using State = RecurrentState;

  /// Throws Error unless the sizes and the number of layers are at least 1.
  Recurrent(Index inputs, Index hidden, Generator& rng, Options options)
      : inputs_(inputs), hidden_(hidden), checkpoint_(options.checkpoint) {
    if (options.checkpoint < 0) fail("Recurrent: a checkpoint every {} steps; it must be 0 or more", checkpoint_);
    if (inputs < 1 || hidden < 1 || options.layers < 1)
      fail("Recurrent: {} inputs, {} hidden units and {} layers; each must be at least 1", inputs, hidden,
           options.layers);
    for (Index layer = 0; layer < options.layers; ++layer) {
      cells_.emplace_back(layer == 0 ? inputs : hidden, hidden, rng, options.cell);
      add("", cells_.back(), fmt::format("_l{}", layer));
      if (layer + 1 < options.layers) {
        dropouts_.emplace_back(options.dropout, rng);
        add(fmt::format("dropout_l{}", layer), dropouts_.back());
      }
    }
  }
  Recurrent(Index inputs, Index hidden, Generator& rng) : Recurrent(inputs, hidden, rng, Options()) {}

  /// Runs over x [T, N, D] from `initial` (empty: zeros). Throws Error when a shape or type does not fit.
  Output operator()(const Var& x, const RecurrentState& initial = {}, Source where = Source::here()) {
    return unroll(x, initial, where);
  }
  /// The same from Vars, through which the gradient flows: an encoder's final state, a learned one.
  Output operator()(const Var& x, const FinalState& initial, Source where = Source::here()) {
    return unroll(x, initial, where);
  }

  /// Only the state after the last step, for those who need no more: every step's output is not kept.
  FinalState final_state(const Var& x, const RecurrentState& initial = {}, Source where = Source::here()) {
    return unroll(x, initial, where, false).state;
  }
  FinalState final_state(const Var& x, const FinalState& initial, Source where = Source::here()) {
    return unroll(x, initial, where, false).state;
  }

  Index inputs() const { return inputs_; }
  Index hidden() const { return hidden_; }
  const std::deque<Cell>& cells() const { return cells_; }

 private:
  using CellState = typename Cell::State;
  static constexpr std::size_t state_values = detail::state_size<CellState>();

  template <class Initial>
  Output unroll(Var x, const Initial& initial, Source where, bool outputs = true) {
    detail::check_sequence(x, inputs_, parameters().empty() ? x.dtype() : parameters().front()->dtype(), where);
    const std::size_t values = state_values * cells_.size();
    auto* last = x.graph()->template array<Var>(values);
    for (std::size_t layer = 0; layer < cells_.size(); ++layer) {
      Var* state = last + layer * state_values;
      for (std::size_t i = 0; i < state_values; ++i)
        state[i] = detail::initial_value(x, hidden_, initial, layer * state_values + i, values, where);
      x = run_layer(cells_[layer], x, state, outputs || layer + 1 < cells_.size(), where);
      if (layer < dropouts_.size()) x = dropouts_[layer](x, where);
    }
    return {x, {{last, values}}};
  }

  /// Runs over x [T, N, D] from `state`, which becomes the last one, and returns every step's output, if it is wanted.
  Var run_layer(const Cell& cell, const Var& x, Var* state, bool wanted, Source where) const {
    const Index steps = x.size(0), each = checkpoint_ == 0 ? steps : checkpoint_;
    auto* outputs = x.graph()->template array<Var>((wanted ? static_cast<std::size_t>(steps) : 0) + state_values);
    Var* next = outputs;
    for (Index begin = 0; begin < steps; begin += each) {
      const Segment segment{&cell, begin, std::min(begin + each, steps), wanted, where};
      const std::size_t some = wanted ? static_cast<std::size_t>(segment.end - begin) : 0;
      std::array<Var, 1 + state_values> in{x};
      std::copy_n(state, state_values, in.begin() + 1);
      if (checkpoint_ == 0)
        Segment::run(&segment, in.data(), next);
      else
        detail::checkpoint(*x.graph(), {Segment::run, &segment, sizeof(Segment), in.size(), some + state_values},
                           in.data(), next, where);
      next += some;
      std::copy_n(next, state_values, state);
    }
    return wanted ? stack({outputs, static_cast<std::size_t>(steps)}, where) : Var();
  }

  /// Some of the steps. Inputs are x and the state before them, outputs every step's h, if wanted, and the state after.
  struct Segment {
    const Cell* cell;
    Index begin, end;
    bool wanted;
    Source where;

    static void run(const void* self, const Var* in, Var* out) {
      const auto& [cell, begin, end, wanted, where] = *static_cast<const Segment*>(self);
      const bool all = begin == 0 && end == in[0].size(0);
      const Var inputs = cell->project(all ? in[0] : slice(in[0], 0, begin, end, where));
      CellState state;
      for (std::size_t i = 0; i < state_values; ++i) *detail::members(state)[i] = in[1 + i];
      for (Index t = 0; t < end - begin; ++t) {
        state = (*cell)(inputs[t], state);
        if (wanted) *out++ = state.h;
      }
      for (std::size_t i = 0; i < state_values; ++i) *out++ = *detail::members(state)[i];
    }
  };

  Index inputs_, hidden_, checkpoint_;
  std::deque<Cell> cells_;
  std::deque<Dropout> dropouts_;
};

}  // namespace unroll
