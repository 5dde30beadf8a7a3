#include <autograd/ctc.h>

#include <autograd/record.h>

#include <algorithm>
#include <limits>

namespace unroll {

namespace {

using detail::Graph;

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr Index lanes = 8;
template <class W>
using Lanes = Eigen::Array<W, lanes, 1>;
/// e to the power of it is nothing beside 1, and not yet one of the slow subnormal numbers.
constexpr double smallest_exponent = -700;

/// log(e^a + e^b + e^c); minus infinity where all are, NaN where any is.
template <class W>
Lanes<W> log_add(const Lanes<W>& a, const Lanes<W>& b, const Lanes<W>& c) {
  const Lanes<W> none = Lanes<W>::Constant(-infinity), largest = a.max(b).max(c);  // max may drop a NaN
  const Lanes<W> base = (largest == none).select(Lanes<W>::Zero(), largest);
  auto share = [&](const Lanes<W>& x) -> Lanes<W> {
    const Lanes<W> distance = x - base, least = Lanes<W>::Constant(smallest_exponent);
    return Lanes<W>((distance < least).select(least, distance)).exp();
  };
  const Lanes<W> sum = base + (share(a) + share(b) + share(c)).log();  // not within select, which works one by one
  return (largest == none).select(a + b + c, sum);
}

template <class W>
Lanes<W> load(const W* from) {
  return Eigen::Map<const Lanes<W>>(from);
}

/// What is known of a batch before its probabilities: plain data, kept for the backward.
///
/// A sequence's states are the places in l' = blank l_1 blank ... l_S blank. One more before them and one more behind,
/// where every alignment begins and ends, need no rules of their own at the ends of time; so does room for whole Lanes.
struct Batch {
  Index size, width;  ///< N, and the largest room for states
  bool zero_infinity;
  Reduction reduction;
  const std::int32_t* labels;  ///< [N, width]: l'
  const double* skips;         ///< [N, width + 2]: 0 where state s may follow s - 2, else minus infinity
  const Index* steps;          ///< [N]: the inputs' lengths
  const Index* states;         ///< [N]: the lengths of l'
  const Index* starts;         ///< [N + 1]: where each sequence's forward variables begin

  /// dL/d(loss of n), for dL/dL = 1.
  double share(Index n) const {
    return reduction == Reduction::mean ? 1 / static_cast<double>(std::max<Index>(states[n] / 2, 1) * size) : 1;
  }
  template <class W>
  bool leaves_out(W log_sum) const {
    return zero_infinity && log_sum == -infinity;
  }
  /// Sequences handled together: enough of them to be worth a thread.
  template <class F>
  void for_each_sequence(Graph& graph, F&& f) const {
    constexpr Index grain = detail::parallel_grain / 8;  // a variable costs several exponentials
    const Index each = std::max<Index>(1, grain * size / std::max<Index>(starts[size], 1));
    graph.team().for_each_block((size + each - 1) / each, [&](Index block) {
      for (Index n = block * each; n < std::min(size, (block + 1) * each); ++n) f(n);
    });
  }
};

Index room_for(Index states) { return (states + lanes - 1) / lanes * lanes; }

/// The forward and backward variables of one sequence, as logarithms.
template <class T>
class Sequence {
 public:
  using W = Wide<T>;

  Sequence(const Batch& batch, Index n, const ConstMatrixMap<T>& x)
      : batch_(batch),
        n_(n),
        x_(x),
        states_(batch.states[n]),
        width_(room_for(states_)),
        labels_(batch.labels + n * batch.width),
        skips_(batch.skips + n * (batch.width + 2)) {}

  /// The distance between a time step's variables and the next's.
  Index row() const { return width_ + 2; }

  /// The logarithm of the sum over alignments. Row t + 1 of `a` becomes a_t(s) at s + 2, row 0 is where alignments
  /// begin; a `distance` of 0 between rows keeps only the last. `emission` is memory.
  W forward(W* a, Index distance, W* emission) const {
    std::fill_n(a, row(), W(-infinity));
    a[1] = 0;
    for (Index t = 0; t < batch_.steps[n_]; ++t, a += distance) {
      emit(t, emission);
      W* next = a + distance;
      for (Index s = width_ - lanes; s >= 0; s -= lanes) {
        const Lanes<W> skipped = load(a + s) + load(skips_ + s).template cast<W>();
        const Lanes<W> before = log_add<W>(load(a + s + 2), load(a + s + 1), skipped);
        Eigen::Map<Lanes<W>>(next + s + 2) = before + load(emission + s);
      }
      next[0] = next[1] = -infinity;
    }
    auto all = [](W value) -> Lanes<W> { return Lanes<W>::Constant(value); };
    return log_add<W>(all(a[states_ + 1]), all(a[states_]), all(-infinity))[0];
  }

  /// dL/dlog p from dL/dloss = g: `a` and `log_sum` are the results of `forward`, `memory` is of 3 rows.
  void backward(const W* a, W log_sum, T g, MatrixMap<T>& dx, W* memory) const {
    W *b = memory, *emission = b + row(), *occupancy = emission + row();  // b: b_{t+1}(s) p_{t+1}(s)
    std::fill_n(b, row(), W(-infinity));
    b[states_] = 0;
    const Lanes<W> least = Lanes<W>::Constant(smallest_exponent), none = Lanes<W>::Zero();
    for (Index t = batch_.steps[n_] - 1; t >= 0; --t) {
      emit(t, emission);
      const W* at = a + (t + 1) * row() + 2;
      for (Index s = 0; s < width_; s += lanes) {
        const Lanes<W> skipping = load(b + s + 2) + load(skips_ + s + 2).template cast<W>();
        const Lanes<W> after = log_add<W>(load(b + s), load(b + s + 1), skipping);
        const Lanes<W> log_share = load(at + s) + after - log_sum, share = log_share.exp();
        Eigen::Map<Lanes<W>>(occupancy + s) = (log_share < least).select(none, share);
        Eigen::Map<Lanes<W>>(b + s) = after + load(emission + s);
      }
      T* to = dx.row(t * batch_.size + n_).data();
      for (Index s = 0; s < states_; ++s) to[labels_[s]] -= g * static_cast<T>(occupancy[s]);
    }
  }

 private:
  /// log p_t(l'_s) of every state, minus infinity in the room behind them.
  void emit(Index t, W* to) const {
    const T* from = x_.row(t * batch_.size + n_).data();
    for (Index s = 0; s < states_; ++s) to[s] = static_cast<W>(from[labels_[s]]);
    std::fill(to + states_, to + width_, W(-infinity));
  }

  const Batch& batch_;
  Index n_;
  const ConstMatrixMap<T>& x_;
  Index states_, width_;
  const std::int32_t* labels_;
  const double* skips_;
};

/// The sequences' labels, as they lie among the targets.
struct Labels {
  const Indices& targets;
  const Indices& lengths;
  Index row = targets.shape().rank() == 2 ? targets.shape()[1] : -1;  ///< padded to it; -1: one after another

  bool padded() const { return row >= 0; }
  /// Calls f(n, first label, their number) for every sequence.
  template <class F>
  void for_each(F&& f) const {
    for (Index n = 0, sum = 0; n < lengths.size(); sum += lengths[n++])
      f(n, targets.values().data() + (padded() ? n * row : sum), lengths[n]);
  }
};

void check_lengths(const char* what, const Indices& lengths, Index size, Index most, Source where) {
  if (lengths.size() != size)
    fail_at(where, "ctc: {} are {} and the batch has {} sequences; one is needed for each", what, lengths.shape(),
            size);
  for (Index n = 0; n < size; ++n)
    if (lengths[n] < 0 || lengths[n] > most)
      fail_at(where, "ctc: number {} of the {} is {}; it must be in [0, {}]", n, what, lengths[n], most);
}

void check(const Shape& x, const Labels& labels, const Indices& input_lengths, const CtcOptions& options,
           Source where) {
  if (x.rank() != 3) fail_at(where, "ctc: log_probabilities are {}; they must be [time, batch, classes]", x);
  const Shape& shape = labels.targets.shape();
  const Index steps = x[0], size = x[1], classes = x[2];
  if (options.reduction == Reduction::mean && size == 0)
    fail_at(where, "ctc: log_probabilities are {}; there are no sequences to average over", x);
  if (options.blank < 0 || options.blank >= classes)
    fail_at(where, "ctc: the blank is {}; log_probabilities of shape {} have classes 0 to {}", options.blank, x,
            classes - 1);
  if (shape.rank() > 2 || (labels.padded() && shape[0] != size))
    fail_at(where, "ctc: targets are {}; they must be [{}, longest], or [sum of target_lengths]", shape, size);
  check_lengths("input_lengths", input_lengths, size, steps, where);
  check_lengths("target_lengths", labels.lengths, size, labels.padded() ? labels.row : labels.targets.size(), where);
  Index sum = 0;
  for (std::int32_t length : labels.lengths.values()) sum += length;
  if (!labels.padded() && sum != labels.targets.size())
    fail_at(where, "ctc: target_lengths add up to {} and there are {} targets, which are one after another", sum,
            labels.targets.size());
  labels.for_each([&](Index n, const std::int32_t* label, Index count) {
    for (Index i = 0; i < count; ++i) {
      if (label[i] < 0 || label[i] >= classes)
        fail_at(where, "ctc: label {} of sequence {} is {}; log_probabilities of shape {} have classes 0 to {}", i, n,
                label[i], x, classes - 1);
      if (label[i] == options.blank)
        fail_at(where, "ctc: label {} of sequence {} is {}, the blank; blanks are put between labels by ctc itself", i,
                n, label[i]);
    }
  });
}

Batch make_batch(Graph& graph, const Labels& sequences, const Indices& input_lengths, const CtcOptions& options) {
  const Index size = sequences.lengths.size();
  Index longest = 0;
  for (std::int32_t length : sequences.lengths.values()) longest = std::max<Index>(longest, length);
  const Index width = room_for(2 * longest + 1);
  auto* labels = graph.array<std::int32_t>(static_cast<std::size_t>(size * width));
  auto* skips = graph.array<double>(static_cast<std::size_t>(size * (width + 2)));
  auto* steps = graph.array<Index>(static_cast<std::size_t>(size));
  auto* states = graph.array<Index>(static_cast<std::size_t>(size));
  auto* starts = graph.array<Index>(static_cast<std::size_t>(size + 1));
  std::fill_n(labels, size * width, options.blank);
  std::fill_n(skips, size * (width + 2), -infinity);
  starts[0] = 0;
  sequences.for_each([&](Index n, const std::int32_t* label, Index count) {
    for (Index i = 0; i < count; ++i) {
      labels[n * width + 2 * i + 1] = label[i];
      if (i == 0 || label[i] != label[i - 1]) skips[n * (width + 2) + 2 * i + 1] = 0;
    }
    skips[n * (width + 2) + 2 * count + 1] = 0;  // to where alignments end
    steps[n] = input_lengths[n];
    states[n] = 2 * count + 1;
    starts[n + 1] = starts[n] + (steps[n] + 1) * (room_for(states[n]) + 2);
  });
  return {size, width, options.zero_infinity, options.reduction, labels, skips, steps, states, starts};
}

}  // namespace

Var ctc(const Var& log_probabilities, const Indices& targets, const Indices& input_lengths,
        const Indices& target_lengths, const CtcOptions& options, Source where) {
  if (log_probabilities.graph() == nullptr) fail_at(where, "ctc: an empty Var; assign a value to it first");
  Graph& graph = *log_probabilities.graph();
  graph.check(log_probabilities, "ctc", where);
  const Labels labels{targets, target_lengths};
  check(log_probabilities.shape(), labels, input_lengths, options, where);

  const Batch batch = make_batch(graph, labels, input_lengths, options);
  const bool keep = log_probabilities.needs_grad();
  const auto row = static_cast<std::size_t>(batch.width + 2), size = static_cast<std::size_t>(batch.size);
  const std::size_t variables = keep ? static_cast<std::size_t>(batch.starts[batch.size]) : size * row;
  const std::size_t doubles = graph.dual() ? 2 : 1;  // in a Wide<T>
  double* memory = graph.array<double>(doubles * variables);
  double* log_sums = graph.array<double>(doubles * size);
  return record<Duals>(
      "ctc", {log_probabilities}, options.reduction == Reduction::none ? Shape{batch.size} : Shape{},
      [=, &graph]<class T>(MatrixMap<T> y, ConstMatrixMap<T> x) {
        using W = Wide<T>;
        auto scratch = graph.scratch();
        W *a = reinterpret_cast<W*>(memory), *sums = reinterpret_cast<W*>(log_sums),
          *emission = graph.array<W>(size * row);
        batch.for_each_sequence(graph, [&](Index n) {
          const Sequence<T> sequence(batch, n, x);
          const Index own = n * static_cast<Index>(row);
          sums[n] = sequence.forward(a + (keep ? batch.starts[n] : own), keep ? sequence.row() : 0, emission + own);
        });
        W sum = 0;
        for (Index n = 0; n < batch.size; ++n) {
          const W loss = batch.leaves_out(sums[n]) ? W(0) : -sums[n];
          if (batch.reduction == Reduction::none)
            y.data()[n] = static_cast<T>(loss);
          else
            sum += batch.share(n) * loss;
        }
        if (batch.reduction != Reduction::none) y(0, 0) = static_cast<T>(sum);
      },
      [=]<class T>(Derivative<T>& d) {
        using W = Wide<T>;
        auto scratch = d.graph().scratch();
        const W *a = reinterpret_cast<const W*>(memory), *sums = reinterpret_cast<const W*>(log_sums);
        W* rows = d.graph().template array<W>(3 * size * row);
        const T* dy = d.dy().data();
        const auto x = d.x(0);
        auto dx = d.dx(0);
        batch.for_each_sequence(d.graph(), [&](Index n) {
          if (batch.leaves_out(sums[n])) return;
          const T g = dy[batch.reduction == Reduction::none ? n : 0] * static_cast<T>(batch.share(n));
          Sequence<T>(batch, n, x)
              .backward(a + batch.starts[n], sums[n], g, dx, rows + 3 * n * static_cast<Index>(row));
        });
      },
      where);
}

}  // namespace unroll
