#pragma once

#include <layers/batch.h>
#include <layers/recurrent_state.h>

#include <string_view>

namespace unroll {

/// What a recurrent layer with Options::watch kept of its last run: at every step the gates that the cell names (of an
/// LSTM i, f, g, o; of a GRU r, z, n) and the Vars of its state (h, c). Valid until the tape is cleared.
///
///     lstm.watched().values("f");           // [T, N, H]: what the forget gate let through
///     tape.backward(loss);
///     lstm.watched().gradient_norms("c");   // [T]: |dL/dc_t|, how far back the gradient survives
///
/// `layer` and `direction` (1: from the end) choose among several. Steps are those of the input, whatever the
/// direction.
class Watched {
 public:
  Watched() = default;
  /// Throws Error when there is no such name, layer or direction, or nothing was watched.
  Tensor values(std::string_view name, Index layer = 0, Index direction = 0, Source where = Source::here()) const;
  /// sqrt(sum over the batch and the units of (dL/dv_t)^2) for a Var v of the state. Throws Error also for a gate, and
  /// before `backward`.
  std::vector<double> gradient_norms(std::string_view name, Index layer = 0, Index direction = 0,
                                     Source where = Source::here()) const;

  /// For Recurrent: an empty record of so many cells.
  template <class Cells>
  Watched(const detail::Batch& batch, const Cells& cells, std::size_t directions, detail::Graph& graph)
      : batch_(batch), directions_(directions), cells_(cells.size()), gates_(gate_count<typename Cells::value_type>()) {
    using Cell = typename Cells::value_type;
    const std::size_t values = gates_ + detail::state_size<typename Cell::State>();
    auto* names = graph.array<std::string_view>(values);
    for (std::size_t i = 0; i < values; ++i) names[i] = i < gates_ ? gate_name<Cell>(i) : state_name<Cell>(i - gates_);
    names_ = {names, values};
    vars_ = graph.array<Var>(cells_ * static_cast<std::size_t>(batch.steps()) * values);
  }
  /// Keeps step t of the k-th cell.
  template <class Cell, class State>
  void keep(std::size_t k, Index t, const Cell& cell, const Var& x_t, const State& before, const State& after) {
    Var* next = vars_ + (k * static_cast<std::size_t>(batch_.steps()) + static_cast<std::size_t>(t)) * names_.size();
    if constexpr (requires { typename Cell::Gates; }) {
      typename Cell::Gates gates = cell.gates(x_t, before, after);
      for (const Var* gate : detail::members(gates)) *next++ = *gate;
    }
    for (const Var* var : detail::members(after)) *next++ = var->needs_grad() ? var->keep_grad() : *var;
  }

  /// The name of a cell's k-th Var of the state.
  template <class Cell>
  static std::string_view state_name(std::size_t k) {
    static constexpr std::array<std::string_view, 4> unnamed{"h", "state1", "state2", "state3"};
    if constexpr (requires { Cell::names; })
      return Cell::names[gate_count<Cell>() + k];
    else
      return unnamed[k];
  }

 private:
  template <class Cell>
  static constexpr std::size_t gate_count() {
    if constexpr (requires { typename Cell::Gates; })
      return detail::state_size<typename Cell::Gates>();
    else
      return 0;
  }
  template <class Cell>
  static std::string_view gate_name([[maybe_unused]] std::size_t i) {
    if constexpr (gate_count<Cell>() > 0)
      return Cell::names[i];
    else
      return {};
  }

  /// Where a name's Vars are: one for each step of the loop, which is counted from the end in the other direction.
  struct Track {
    const Var* first;
    bool reverse, of_state;
  };
  Track track(std::string_view name, Index layer, Index direction, Source where) const;
  const Var& at(const Track& track, Index step) const {
    return track.first[static_cast<std::size_t>(step) * names_.size()];
  }

  detail::Batch batch_{0, 0};
  std::size_t directions_ = 0, cells_ = 0, gates_ = 0;
  std::span<const std::string_view> names_;
  Var* vars_ = nullptr;  ///< [cells, steps, names]
};

}  // namespace unroll
