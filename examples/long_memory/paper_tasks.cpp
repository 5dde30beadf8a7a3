#include <examples/long_memory/paper_tasks.h>

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string_view>

namespace unroll::examples::paper {

namespace {

/// Symbols in the 1-of-n code: sets what stands for the k-th of them at step t of sequence n.
void set_symbol(Tensor& tensor, Index t, Index n, std::size_t k) { tensor.set({t, n, static_cast<Index>(k)}, 1); }

// --- Experiment 1: the embedded Reber grammar ------------------------------------------------------------------------

constexpr std::string_view reber_symbols = "BTPSXVE";

/// A string of the grammar: B, T or P, a string of the Reber grammar, the same T or P again, E.
struct ReberString {
  std::string symbols;
  std::vector<std::string> successors;  ///< of each symbol but the last: all that are legal
};

/// Where two symbols are legal, each comes with a probability of 1/2.
ReberString draw_reber(Generator& rng) {
  // The inner grammar, as a graph whose edges are symbols; the last node leaves it.
  struct Node {
    const char* symbols;
    std::size_t next[2];
  };
  constexpr Node nodes[] = {{"TP", {1, 2}}, {"SX", {1, 3}}, {"TV", {2, 4}}, {"XS", {2, 5}}, {"PV", {3, 5}}};
  constexpr std::size_t last = std::size(nodes);

  const std::string outer(1, "TP"[rng.below(2)]);
  ReberString s{"B" + outer + "B", {"TP", "B"}};
  for (std::size_t node = 0; node != last;) {
    const auto edge = static_cast<std::size_t>(rng.below(2));
    s.successors.emplace_back(nodes[node].symbols);
    s.symbols += nodes[node].symbols[edge];
    node = nodes[node].next[edge];
  }
  s.symbols += "E" + outer + "E";
  s.successors.insert(s.successors.end(), {"E", outer, "E"});
  return s;
}

/// The next symbol is asked for at every step.
Sequences encode(const std::vector<ReberString>& strings) {
  const auto longest = std::ranges::max(strings, {}, [](const ReberString& s) { return s.successors.size(); });
  const Shape shape{static_cast<Index>(longest.successors.size()), std::ssize(strings), std::ssize(reber_symbols)};
  Sequences all{Tensor(shape), {}, Tensor(shape), Tensor(shape)};
  for (Index n = 0; n < std::ssize(strings); ++n) {
    const auto& [symbols, successors] = strings[static_cast<std::size_t>(n)];
    all.lengths.push_back(std::ssize(successors));
    for (std::size_t i = 0; i < successors.size(); ++i) {
      const auto t = static_cast<Index>(i);
      set_symbol(all.x, t, n, reber_symbols.find(symbols[i]));
      set_symbol(all.targets, t, n, reber_symbols.find(symbols[i + 1]));
      for (char symbol : successors[i]) set_symbol(all.legal, t, n, reber_symbols.find(symbol));
    }
  }
  return all;
}

/// 256 strings to train on, 256 others to test with; success: at every step of all of them, the legal successors have
/// the highest outputs.
Experiment reber(Generator rng) {
  constexpr std::size_t each = 256;
  std::vector<ReberString> strings;
  while (strings.size() < 2 * each) {
    ReberString s = draw_reber(rng);
    const auto trained = strings.begin() + static_cast<std::ptrdiff_t>(std::min(each, strings.size()));
    const bool seen = std::ranges::find(strings.begin(), trained, s.symbols, &ReberString::symbols) != trained;
    if (strings.size() < each || !seen) strings.push_back(std::move(s));
  }
  const Sequences examined = encode(strings);
  strings.resize(each);
  return {.name = "reber",
          .title = "embedded Reber grammar",
          .inputs = std::ssize(reber_symbols),
          .outputs = std::ssize(reber_symbols),
          .draw =
              [strings](Index count, Generator& draws) {
                std::vector<ReberString> some;
                while (std::ssize(some) < count) some.push_back(strings[static_cast<std::size_t>(draws.below(each))]);
                return encode(some);
              },
          .examined = examined,
          .criterion = {.tolerance = 0},
          .paper_sequences = 8440,
          .lag = 7,
          .hidden = 32,
          .batch = 1,
          .rate = 0.02};
}

// --- Experiment 2a: long time lags, no noise -------------------------------------------------------------------------

/// The p + 1 symbols of a sequence are (y, a_1, ..., a_(p-1), y) or (x, a_1, ..., a_(p-1), x); the next one is asked
/// for at every step. `first` of each says whether it is x.
Sequences draw_lag(Index p, const std::vector<Index>& first) {
  const Shape shape{p, std::ssize(first), p + 1};
  Sequences all{Tensor(shape), std::vector<Index>(first.size(), p), Tensor(shape)};
  for (Index n = 0; n < std::ssize(first); ++n) {
    const Index symbol = p - 1 + first[static_cast<std::size_t>(n)];  // after the p - 1 others
    for (Index t = 0; t < p; ++t) {
      all.x.set({t, n, t == 0 ? symbol : t - 1}, 1);
      all.targets.set({t, n, t == p - 1 ? symbol : t}, 1);
    }
  }
  return all;
}

/// Success: in 10,000 random sequences no output is wrong by 0.25. There are two sequences, so these stand for all.
Experiment long_lag(Index p) {
  return {.name = "long-lag",
          .title = "long lag, p = 100",
          .inputs = p + 1,
          .outputs = p + 1,
          .draw =
              [p](Index count, Generator& rng) {
                std::vector<Index> first;
                while (std::ssize(first) < count) first.push_back(rng.below(2));
                return draw_lag(p, first);
              },
          .examined = draw_lag(p, {0, 1}),
          .criterion = {.tolerance = 0.25},
          .paper_sequences = 5040,
          .lag = p,
          .direct = true,
          .hidden = 32,
          .batch = 2,
          .rate = 0.02};
}

// --- Experiments 3 to 6: one answer at the end -----------------------------------------------------------------------

/// Room for `count` sequences of T to T + T/10 steps, with answers to come.
Sequences make_room(Index T, Index count, Index inputs, Index outputs, Generator& rng) {
  std::vector<Index> lengths;
  while (std::ssize(lengths) < count) lengths.push_back(T + rng.below(T / 10 + 1));
  return {Tensor({std::ranges::max(lengths), count, inputs}), lengths, Tensor({count, outputs})};
}

/// Two-sequence problem: of a sequence of numbers the first N = 3 are 1 (target 1) or -1 (target 0), the others noise
/// of variance 0.2.
Sequences draw_two_sequence(Index T, Index count, Generator& rng) {
  Sequences all = make_room(T, count, 1, 1, rng);
  for (Index n = 0; n < count; ++n) {
    const bool first_class = rng.below(2) == 0;
    all.targets.set({n, 0}, first_class ? 1 : 0);
    for (Index t = 0; t < all.lengths[static_cast<std::size_t>(n)]; ++t)
      all.x.set({t, n, 0}, t >= 3 ? std::sqrt(0.2) * rng.normal() : first_class ? 1 : -1);
  }
  return all;
}

/// Success, ST2 in the paper: none of 256 test sequences is misclassified, and their mean error is below 0.01.
Experiment two_sequence(Index T, Generator rng) {
  return {.name = "two-sequence",
          .title = "two-sequence, T = 100, N = 3",
          .inputs = 1,
          .outputs = 1,
          .draw = [T](Index count, Generator& draws) { return draw_two_sequence(T, count, draws); },
          .examined = draw_two_sequence(T, 256, rng),
          .criterion = {.tolerance = 0.5, .mean_error = 0.01},
          .paper_sequences = 39850,
          .paper_wrong = 0.000195 * 2560,
          .lag = T,
          .hidden = 16,
          .batch = 16,
          .rate = 0.02};
}

enum class Combine { add, multiply };

/// Pairs of a number, in [-1, 1] or [0, 1], and a mark: 1 for two of them, -1 for the first and the last, else 0. One
/// of the first ten pairs is marked, and then one of the first T/2 - 1 that are not. If the first pair is, its mark
/// stays -1, and its number is 0 in a sum and 1 in a product, which changes neither.
Sequences draw_marked(Combine combine, Index T, Index count, Generator& rng) {
  const bool add = combine == Combine::add;
  Sequences all = make_room(T, count, 2, 1, rng);
  for (Index n = 0; n < count; ++n) {
    const Index length = all.lengths[static_cast<std::size_t>(n)], one = rng.below(10);
    Index other = rng.below(T / 2 - 1);
    if (other >= one) ++other;
    for (Index t = 0; t < length; ++t) all.x.set({t, n, 0}, rng.uniform(add ? -1 : 0, 1));
    for (Index t : {one, other}) all.x.set({t, n, 1}, 1);
    if (std::min(one, other) == 0) all.x.set({0, n, 0}, add ? 0 : 1);
    for (Index t : {Index{0}, length - 1}) all.x.set({t, n, 1}, -1);
    const double x1 = all.x.at({one, n, 0}), x2 = all.x.at({other, n, 0});
    all.targets.set({n, 0}, add ? 0.5 + (x1 + x2) / 4 : x1 * x2);
  }
  return all;
}

/// Right: an error below 0.04. Success: the 2,000 most recent are right, and their mean error is below 0.01.
Experiment adding(Index T, Index paper_sequences, double paper_wrong) {
  return {.name = fmt::format("adding-{}", T),
          .title = fmt::format("adding, T = {}", T),
          .quick = T == 100,
          .inputs = 2,
          .outputs = 1,
          .draw = [T](Index count, Generator& rng) { return draw_marked(Combine::add, T, count, rng); },
          .criterion = {.tolerance = 0.04, .mean_error = 0.01},
          .paper_sequences = paper_sequences,
          .paper_wrong = paper_wrong,
          .lag = T,
          .hidden = 16,
          .batch = 16,
          .rate = 0.02};
}

/// Success: fewer than n_seq of the 2,000 most recent are wrong.
Experiment multiplication(Index T, Index n_seq, Index paper_sequences, double paper_wrong) {
  return {.name = fmt::format("multiplication-{}", n_seq),
          .title = fmt::format("multiplication, n_seq = {}", n_seq),
          .inputs = 2,
          .outputs = 1,
          .draw = [T](Index count, Generator& rng) { return draw_marked(Combine::multiply, T, count, rng); },
          .criterion = {.tolerance = 0.04, .most_wrong = n_seq - 1},
          .paper_sequences = paper_sequences,
          .paper_wrong = paper_wrong,
          .lag = T,
          .hidden = 16,
          .batch = 16,
          .rate = 0.02};
}

/// E, symbols of a, b, c, d, and B at the end; at one step in each of the places (bounds included), X or Y instead. The
/// class says which they were, in order.
Sequences draw_order(const std::vector<std::pair<Index, Index>>& places, Index count, Generator& rng) {
  constexpr std::string_view symbols = "EBabcdXY";
  Sequences all = make_room(100, count, std::ssize(symbols), Index{1} << places.size(), rng);
  for (Index n = 0; n < count; ++n) {
    const Index length = all.lengths[static_cast<std::size_t>(n)];
    std::string sequence(static_cast<std::size_t>(length), 'E');
    for (std::size_t t = 1; t < sequence.size(); ++t) sequence[t] = "abcd"[rng.below(4)];
    sequence.back() = 'B';
    Index order = 0;
    for (const auto& [first, last] : places) {
      const Index which = rng.below(2);
      sequence[static_cast<std::size_t>(first + rng.below(last - first + 1))] = "XY"[which];
      order = 2 * order + which;
    }
    all.targets.set({n, order}, 1);
    for (Index t = 0; t < length; ++t) set_symbol(all.x, t, n, symbols.find(sequence[static_cast<std::size_t>(t)]));
  }
  return all;
}

/// Right: no output is wrong by 0.3. Success: the 2,000 most recent are right, and their mean error is below 0.1.
Experiment temporal_order(const std::vector<std::pair<Index, Index>>& places, Index paper_sequences,
                          double paper_wrong) {
  const Index classes = Index{1} << places.size();
  return {.name = fmt::format("temporal-order-{}", classes),
          .title = fmt::format("temporal order, {} classes", classes),
          .inputs = 8,
          .outputs = classes,
          .draw = [places](Index count, Generator& rng) { return draw_order(places, count, rng); },
          .criterion = {.tolerance = 0.3, .mean_error = 0.1},
          .paper_sequences = paper_sequences,
          .paper_wrong = paper_wrong,
          .lag = 100,
          .hidden = 32,
          .batch = 16,
          .rate = 0.01};
}

}  // namespace

std::vector<double> errors_of(const TensorView& outputs, const Sequences& sequences) {
  const Index units = outputs.shape().columns(), count = std::ssize(sequences.lengths);
  const std::vector<double> out = outputs.to_vector(), targets = sequences.targets.to_vector(),
                            legal = sequences.legal.to_vector();
  std::vector<double> errors;
  for (Index n = 0; n < count; ++n) {
    const Index steps = sequences.every_step() ? sequences.lengths[static_cast<std::size_t>(n)] : 1;
    double worst = -std::numeric_limits<double>::infinity();
    for (Index t = 0; t < steps; ++t) {
      double illegal_most = -1, legal_least = 2;
      for (Index k = 0; k < units; ++k) {
        const auto at = static_cast<std::size_t>((t * count + n) * units + k);
        if (legal.empty())
          worst = std::max(worst, std::abs(out[at] - targets[at]));
        else if (legal[at] == 1)
          legal_least = std::min(legal_least, out[at]);
        else
          illegal_most = std::max(illegal_most, out[at]);
      }
      if (!legal.empty()) worst = std::max(worst, illegal_most - legal_least);
    }
    errors.push_back(worst);
  }
  return errors;
}

bool Criterion::met(const std::vector<double>& errors) const {
  const auto wrong = std::ranges::count_if(errors, [&](double error) { return !(error < tolerance); });
  return wrong <= most_wrong &&
         std::accumulate(errors.begin(), errors.end(), 0.0) < mean_error * static_cast<double>(errors.size());
}

std::vector<Experiment> experiments(const Generator& rng) {
  return {reber(rng.split(1)),
          long_lag(100),
          two_sequence(100, rng.split(2)),
          adding(100, 74000, 1),
          adding(500, 209000, 0),
          adding(1000, 853000, 1),
          multiplication(100, 140, 482000, 139),
          multiplication(100, 13, 1273000, 14),
          temporal_order({{10, 20}, {50, 60}}, 31390, 1),
          temporal_order({{10, 20}, {33, 43}, {66, 76}}, 571100, 2)};
}

}  // namespace unroll::examples::paper
