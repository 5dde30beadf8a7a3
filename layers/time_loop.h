#pragma once

#include <autograd/checkpoint.h>
#include <autograd/elementwise.h>
#include <autograd/views.h>
#include <layers/batch.h>
#include <layers/dropout.h>
#include <layers/watched.h>

namespace unroll::detail {

/// Which units keep the value they had (Krueger et al. 2017).
struct Zoneout {
  double h, others;  ///< probabilities, for the state's first Var and the rest
  bool training;
  Generator* rng;

  Var operator()(double p, const Var& before, const Var& after, Source where) const;
};

/// A cell run over some steps of a batch: the loop that makes back-propagation through time. Plain data, of which a
/// copy stays on the tape when the steps are to be computed again.
template <class Cell>
struct TimeLoop {
  using State = typename Cell::State;
  static constexpr std::size_t values = state_size<State>();
  using Inputs = std::array<Var, 2 + values>;  ///< x, the state before, the mask of h'

  const Cell* cell;
  std::size_t number;  ///< of the cell
  Batch batch;
  Zoneout zoneout;
  bool masked, wanted;  ///< there is a mask; every step's h is an output
  Watched* watched;     ///< null: nothing is
  Source where;
  Index begin = 0, end = 0;

  /// Some sequences have ended before step t.
  bool some_end(Index t) const { return batch.running(t) < (t == 0 ? batch.sequences() : batch.running(t - 1)); }

  /// Runs steps `begin` to `end` and returns, for each, the state of the sequences that have ended before it, if there
  /// are any, and h, if it is wanted; at last the state of the others. As one checkpoint, if asked for.
  const Var* run(const Inputs& in, bool checkpointed) const {
    Graph& graph = *in[0].graph();
    std::size_t count = values;
    for (Index t = begin; t < end; ++t) count += (some_end(t) ? values : 0) + (wanted ? 1 : 0);
    auto* out = graph.array<Var>(count);
    if (checkpointed)
      checkpoint(graph, {run_steps, this, sizeof(TimeLoop), in.size() - (masked ? 0 : 1), count}, in.data(), out,
                 where);
    else
      run_steps(this, in.data(), out);
    return out;
  }

 private:
  static void run_steps(const void* self, const Var* in, Var* out) {
    static_cast<const TimeLoop*>(self)->run_steps(in, out);
  }

  void run_steps(const Var* in, Var* out) const {
    const Var* x = apart(cell->project(steps_of(in[0])));
    State state;
    for (std::size_t i = 0; i < values; ++i) *members(state)[i] = in[1 + i];
    for (Index t = begin; t < end; ++t) {
      if (some_end(t)) {
        const Index stay = batch.running(t);
        for (Var* var : members(state)) {
          *out++ = slice(*var, 0, stay, var->size(0), where);
          *var = slice(*var, 0, 0, stay, where);
        }
      }
      state = step(x[t - begin], state, masked ? in[1 + values] : Var(), t);
      if (wanted) *out++ = state.h;
    }
    for (const Var* var : members(state)) *out++ = *var;
  }

  Var steps_of(const Var& x) const {
    if (begin == 0 && end == batch.steps()) return x;
    if (!batch.packed()) return slice(x, 0, begin, end, where);
    return slice(x, 1, batch.offset(begin), batch.offset(end), where);
  }
  /// x by step.
  const Var* apart(const Var& x) const {
    const auto steps = static_cast<std::size_t>(end - begin);
    auto* by_step = x.graph()->array<Var>(steps);
    if (!batch.packed()) {
      all_slices(x, 0, {by_step, steps}, where);
      return by_step;
    }
    const Var rows = select(x, 0, 0, where);
    for (Index t = begin; t < end; ++t) {
      const Index first = batch.offset(t) - batch.offset(begin);
      by_step[t - begin] = slice(rows, 0, first, first + batch.running(t), where);
    }
    return by_step;
  }

  State step(const Var& x_t, const State& before, const Var& mask, Index t) const {
    State after = apply(x_t, before, mask);
    for (std::size_t i = 0; i < values; ++i) {
      const double p = i == 0 ? zoneout.h : zoneout.others;
      Var& value = *members(after)[i];
      if (p > 0) value = zoneout(p, *members(before)[i], value, where);
    }
    if (watched != nullptr) watched->keep(number, t, *cell, x_t, before, after);
    return after;
  }

  State apply(const Var& x_t, const State& before, const Var& mask) const {
    if (!mask) return (*cell)(x_t, before);
    const Var kept = mask.size(0) == before.h.size(0) ? mask : slice(mask, 0, 0, before.h.size(0), where);
    const Var h(before.h * kept, where);
    if constexpr (requires { (*cell)(x_t, before, h); }) {
      return (*cell)(x_t, before, h);
    } else {
      State seen = before;
      seen.h = h;
      return (*cell)(x_t, seen);
    }
  }
};

}  // namespace unroll::detail
