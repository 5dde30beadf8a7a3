#pragma once

// What every recurrent layer shares. A cell is its equations for one step; Recurrent<Cell> is the loop over
// time that makes a layer of it. Back-propagation through time is not written anywhere: it is what the tape's
// reverse walk over that loop is.

#include <autograd/shape_ops.h>
#include <layers/dropout.h>
#include <layers/module.h>
#include <layers/time_loop.h>

#include <algorithm>
#include <concepts>
#include <deque>
#include <optional>

namespace unroll {

/// One step of a recurrent network, split so that the input's part can be computed for all steps at once.
///
///     struct State { Var h, ...; };                          // up to four Vars, each [N, H]; h, the first, is put out
///     Cell(Index inputs, Index hidden, Generator& rng, Options options);
///     Var project(const Var& x) const;                       // x [T, N, D] -> [T, N, G], each row by itself
///     State operator()(const Var& x_t, const State&) const;  // one step; x_t [N, G] is one step of what project gave
///
/// T is time, N the batch, D the input's size, H the hidden size, G what the cell makes of it. A cell may also have
///
///     State operator()(const Var& x_t, const State& s, const Var& h) const;  // h: s.h as recurrent products see it
///     Index state_size(std::size_t k) const;                                 // of the state's k-th Var, if not H
///     struct Gates { Var ...; };                                             // up to four, for Options::watch
///     Gates gates(const Var& x_t, const State& before, const State& after) const;
///     static constexpr std::array<std::string_view, ...> names;              // of the gates, then of the state's Vars
///
/// of which the first is for cells that use h' outside of products too, as a GRU does: recurrent dropout must drop
/// units in its products only.
template <class Cell>
concept RecurrentCell =
    std::derived_from<Cell, Module> && requires(const Cell& cell, const Var& x, const typename Cell::State& state) {
      typename Cell::Options;
      { cell.project(x) } -> std::convertible_to<Var>;
      { cell(x, state) } -> std::same_as<typename Cell::State>;
      { state.h } -> std::convertible_to<Var>;
    };

/// Whether a layer also runs from the end to the start, with weights of its own, and what becomes of the two outputs.
enum class Bidirectional { no, concatenated, summed };

namespace detail {

/// What does not depend on the cell.
void check_sequence(const Var& x, bool batch_first, Index inputs, DType dtype, std::span<const Index> lengths,
                    Source where);
void check_probability(const char* option, double p);
Var zero_state(const Var& x, const Shape& shape, Source where);

}  // namespace detail

/// A recurrent layer of any cell: stacked layers, the outputs of each being the inputs of the next.
///
///     LSTM lstm(64, 256, rng, {.layers = 2});
///     auto [y, next] = lstm(x, state);        // x [T, N, 64] -> y [T, N, 256]
///     state = detach(next);                   // carry it into the next window
///
/// `Options` are the layer's; the cell's own follow. Parameters are named as in PyTorch: weight_ih_l0, ...,
/// weight_ih_l0_reverse, ...
template <RecurrentCell Cell>
class Recurrent : public Module {
 public:
  struct Options {
    Index layers = 1;
    Bidirectional bidirectional = Bidirectional::no;
    /// Adds every layer's input to its output, where their sizes agree.
    bool residual = false;
    /// x and y are [N, T, ...] instead of [T, N, ...].
    bool batch_first = false;
    /// The state to start from is learned, one for all sequences (parameters initial_h_l0, ...), instead of zeros.
    bool learned_state = false;
    /// Dropout between the layers (not after the last), a probability in [0, 1) as all that follow.
    double dropout = 0;
    /// Variational dropout: one mask for all steps of a sequence, on every layer's input, and on h' in the recurrent
    /// products (Gal and Ghahramani 2016, "A theoretically grounded application of dropout in recurrent networks").
    double input_dropout = 0;
    double recurrent_dropout = 0;
    /// Zoneout: in training each unit of h, and of the state's other Vars, keeps its value with this probability; in
    /// evaluation it takes the mean of both (Krueger et al. 2017, "Zoneout", equations 2 to 5).
    double zoneout = 0;
    double zoneout_cell = 0;
    /// Keeps the gates and the state of every step, to be looked at: see `watched`. Changes no result.
    bool watch = false;
    /// Not 0: the tape keeps the state at every so many steps only, and backward computes the steps between anew. T
    /// steps then need memory for T / checkpoint + checkpoint of them (least at sqrt(T)) and one forward pass more;
    /// gradients are the same bits. See autograd/checkpoint.h.
    Index checkpoint = 0;
    typename Cell::Options cell = {};
  };
  struct Output {
    Var y;             ///< the last layer's h at every step [T, N, H], or [T, N, 2H] of both directions concatenated
    FinalState state;  ///< every layer's state after the last step
  };
  using State = RecurrentState;

  /// Throws Error unless the sizes and the number of layers are at least 1 and the probabilities in [0, 1).
  Recurrent(Index inputs, Index hidden, Generator& rng, Options options);
  Recurrent(Index inputs, Index hidden, Generator& rng) : Recurrent(inputs, hidden, rng, Options()) {}

  /// Runs over x [T, N, D] from `initial` (none: zeros).
  ///
  /// `lengths` gives the steps of each of the N sequences, in [0, T]; none: all have T. What x holds past them counts
  /// for nothing, y is 0 there, the final state is that after each sequence's own last step, and the reverse direction
  /// begins there. No time is spent on padding. Throws Error when a shape, type or length does not fit.
  Output operator()(const Var& x, const InitialState& initial = {}, std::span<const Index> lengths = {},
                    Source where = Source::here()) {
    return unroll(x, initial, lengths, true, where);
  }

  /// Only the state after the last step, for those who need no more: every step's output is not kept.
  FinalState final_state(const Var& x, const InitialState& initial = {}, std::span<const Index> lengths = {},
                         Source where = Source::here()) {
    return unroll(x, initial, lengths, false, where).state;
  }

  /// With Options::watch, the gates and states of the last run, until its tape is cleared.
  const Watched& watched() const { return watched_; }

  Index inputs() const { return inputs_; }
  Index hidden() const { return hidden_; }
  /// The size of y.
  Index outputs() const {
    const Index size = state_size(cells_.front(), 0);
    return options_.bidirectional == Bidirectional::concatenated ? 2 * size : size;
  }
  /// By layer, in each by direction.
  const std::deque<Cell>& cells() const { return cells_; }

 private:
  using Loop = detail::TimeLoop<Cell>;
  static constexpr std::size_t state_values = Loop::values;

  std::size_t directions() const { return options_.bidirectional == Bidirectional::no ? 1 : 2; }

  Index state_size(const Cell& cell, std::size_t k) const {
    if constexpr (requires { cell.state_size(k); })
      return cell.state_size(k);
    else
      return hidden_;
  }

  void check_options() const {
    if (inputs_ < 1 || hidden_ < 1 || options_.layers < 1)
      fail("Recurrent: {} inputs, {} hidden units and {} layers; each must be at least 1", inputs_, hidden_,
           options_.layers);
    if (options_.checkpoint < 0)
      fail("Recurrent: a checkpoint every {} steps; it must be 0 or more", options_.checkpoint);
    if (options_.watch && options_.checkpoint > 0)
      fail("Recurrent: with checkpoints nothing of the steps is kept that could be watched; choose one of both");
    detail::check_probability("dropout", options_.dropout);
    detail::check_probability("input_dropout", options_.input_dropout);
    detail::check_probability("recurrent_dropout", options_.recurrent_dropout);
    detail::check_probability("zoneout", options_.zoneout);
    detail::check_probability("zoneout_cell", options_.zoneout_cell);
  }

  void add_initial(const std::string& suffix) {
    for (std::size_t k = 0; k < state_values; ++k) {
      Parameter& start = initial_.emplace_back(Shape{state_size(cells_.back(), k)});
      add(fmt::format("initial_{}{}", Watched::state_name<Cell>(k), suffix), start);
    }
  }

  /// The state that the k-th of all the layers' cells starts from.
  void start(const Var& x, const InitialState& initial, Index sequences, std::size_t k, Var* state, Source where) {
    for (std::size_t i = 0; i < state_values; ++i) {
      const Shape shape{sequences, state_size(cells_[k], i)};
      const std::size_t at = k * state_values + i;
      if (initial.given())
        state[i] = initial.value(x, shape, at, state_values * cells_.size(), where);
      else if (options_.learned_state)
        state[i] = broadcast_to(x.graph()->var(x.graph()->bind(initial_[at], where)), shape, where);
      else
        state[i] = detail::zero_state(x, shape, where);
    }
  }

  Output unroll(const Var& x, const InitialState& initial, std::span<const Index> lengths, bool wanted, Source where);

  /// Runs the k-th cell over x from `state`, which becomes the last one, and returns every step's output, if it is
  /// wanted; x and it as the batch has them.
  Var run_cell(std::size_t k, bool reverse, const detail::Batch& batch, Var x, Var* state, bool wanted, Source where) {
    if (training() && options_.input_dropout > 0) {
      const Var mask = draw_mask(x, {batch.sequences(), x.size(2)}, options_.input_dropout, where);
      x = Var(x * batch.repeat(mask, where), where);
    }
    const bool masked = training() && options_.recurrent_dropout > 0;
    typename Loop::Inputs in{reverse ? batch.mirror(x, where) : x};
    for (std::size_t i = 0; i < state_values; ++i) in[1 + i] = batch.sort(state[i], where);
    if (masked) in[1 + state_values] = draw_mask(x, state[0].shape(), options_.recurrent_dropout, where);
    const detail::Zoneout zoneout{options_.zoneout, options_.zoneout_cell, training(), rng_ ? &*rng_ : nullptr};
    const Loop loop{&cells_[k], k, batch, zoneout, masked, wanted, options_.watch ? &watched_ : nullptr, where};
    return run_segments(loop, in, reverse, state);
  }

  /// The loop in segments, of which `in` is the first one's; what they give is put together.
  Var run_segments(Loop loop, typename Loop::Inputs& in, bool reverse, Var* state) const {
    detail::Graph& graph = *in[0].graph();
    const detail::Batch& batch = loop.batch;
    const Index steps = batch.steps(), each = options_.checkpoint == 0 ? steps : options_.checkpoint;
    auto* outputs = graph.array<Var>(static_cast<std::size_t>(steps));
    // The final state in pieces, the longest sequences' first: found from the last to the first.
    std::size_t pieces = 1;
    for (Index t = 0; t < steps; ++t) pieces += loop.some_end(t) ? 1 : 0;
    auto* ends = graph.array<Var>(state_values * pieces);
    std::size_t left = pieces;
    for (; loop.begin < steps; loop.begin = loop.end) {
      loop.end = std::min(loop.begin + each, steps);
      const Var* out = loop.run(in, options_.checkpoint > 0);
      for (Index t = loop.begin; t < loop.end; ++t) {
        if (loop.some_end(t)) {
          --left;
          for (std::size_t i = 0; i < state_values; ++i) ends[i * pieces + left] = *out++;
        }
        if (loop.wanted) outputs[reverse && !batch.packed() ? steps - 1 - t : t] = *out++;
      }
      std::copy_n(out, state_values, in.begin() + 1);
    }
    for (std::size_t i = 0; i < state_values; ++i) {
      ends[i * pieces] = in[1 + i];
      const Var sorted = pieces == 1 ? in[1 + i] : concat({ends + i * pieces, pieces}, 0, loop.where);
      state[i] = batch.unsort(sorted, loop.where);
    }
    return loop.wanted ? join({outputs, static_cast<std::size_t>(steps)}, batch, reverse, state[0], loop.where) : Var();
  }

  /// Every step's output as one value.
  static Var join(std::span<const Var> outputs, const detail::Batch& batch, bool reverse, const Var& h, Source where) {
    if (!batch.packed()) return stack(outputs, where);
    if (outputs.empty()) return detail::zero_state(h, {1, 0, h.size(1)}, where);
    const Var y = unsqueeze(concat(outputs, 0, where), 0, where);
    return reverse ? batch.mirror(y, where) : y;
  }

  /// For every unit of every sequence 0 with probability p, else 1 / (1 - p).
  Var draw_mask(const Var& x, const Shape& shape, double p, Source where) {
    return detail::draw(*x.graph(), *rng_, shape, x.dtype(), 1 - p, 1 / (1 - p), where);
  }

  Index inputs_, hidden_;
  Options options_;
  std::deque<Cell> cells_;
  std::deque<Parameter> initial_;
  std::deque<Dropout> dropouts_;
  std::optional<Generator> rng_;
  Watched watched_;
};

// Not defined in the class, where they would be inline: a program that uses the library's own layers would compile all
// of them again.

template <RecurrentCell Cell>
Recurrent<Cell>::Recurrent(Index inputs, Index hidden, Generator& rng, Options options)
    : inputs_(inputs), hidden_(hidden), options_(options) {
  check_options();
  if (options.input_dropout > 0 || options.recurrent_dropout > 0 || options.zoneout > 0 || options.zoneout_cell > 0)
    add("generator", rng_.emplace(rng.split(rng.bits())));
  for (Index layer = 0; layer < options.layers; ++layer) {
    for (std::size_t direction = 0; direction < directions(); ++direction) {
      const std::string suffix = fmt::format("_l{}{}", layer, direction == 0 ? "" : "_reverse");
      cells_.emplace_back(layer == 0 ? inputs : outputs(), hidden, rng, options.cell);
      add("", cells_.back(), suffix);
      if (options.learned_state) add_initial(suffix);
    }
    if (layer + 1 < options.layers) {
      dropouts_.emplace_back(options.dropout, rng);
      add(fmt::format("dropout_l{}", layer), dropouts_.back());
    }
  }
}

template <RecurrentCell Cell>
typename Recurrent<Cell>::Output Recurrent<Cell>::unroll(const Var& x, const InitialState& initial,
                                                         std::span<const Index> lengths, bool wanted, Source where) {
  detail::check_sequence(x, options_.batch_first, inputs_, cells_.front().parameters().front()->dtype(), lengths,
                         where);
  const Var in_time = options_.batch_first ? transpose(x, 0, 1, where) : x;
  const Index steps = in_time.size(0), sequences = in_time.size(1);
  const bool equal = std::ranges::all_of(lengths, [&](Index length) { return length == steps; });
  const detail::Batch batch =
      equal ? detail::Batch(steps, sequences) : detail::Batch(*x.graph(), steps, lengths, where);
  if (options_.watch) watched_ = Watched(batch, cells_, directions(), *x.graph());

  Var y = batch.pack(in_time, where);
  auto* last = x.graph()->template array<Var>(state_values * cells_.size());
  for (std::size_t layer = 0; layer < static_cast<std::size_t>(options_.layers); ++layer) {
    const bool final_layer = layer + 1 == static_cast<std::size_t>(options_.layers);
    std::array<Var, 2> out;
    for (std::size_t direction = 0; direction < directions(); ++direction) {
      const std::size_t k = layer * directions() + direction;
      Var* state = last + k * state_values;
      start(in_time, initial, sequences, k, state, where);
      out[direction] = run_cell(k, direction == 1, batch, y, state, wanted || !final_layer, where);
    }
    if (!wanted && final_layer) return {Var(), {{last, state_values * cells_.size()}}};
    Var joined = out[0];
    if (options_.bidirectional == Bidirectional::concatenated) joined = concat({out[0], out[1]}, -1, where);
    if (options_.bidirectional == Bidirectional::summed) joined = Var(out[0] + out[1], where);
    if (options_.residual && joined.size(2) == y.size(2)) joined = Var(joined + y, where);
    y = final_layer ? joined : dropouts_[layer](joined, where);
  }
  y = batch.unpack(y, where);
  return {options_.batch_first ? transpose(y, 0, 1, where) : y, {{last, state_values * cells_.size()}}};
}

}  // namespace unroll
