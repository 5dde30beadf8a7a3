#pragma once

// For operations along the last axis: a row as an array, sums of rows that lose nothing, rows shared among threads.
// Not for users.

#include <autograd/statement.h>

#include <algorithm>

namespace unroll::detail {

template <class T>
using Row = Eigen::Map<const Eigen::Array<T, Eigen::Dynamic, 1>>;
template <class T>
using MutableRow = Eigen::Map<Eigen::Array<T, Eigen::Dynamic, 1>>;

/// The sum of term(0) to term(n - 1), each a Wide<T>. Many sums side by side, which the compiler turns into vectors;
/// their number is fixed, so that the result is the same everywhere.
template <class T, class Term>
Wide<T> wide_sum(Index n, Term&& term) {
  constexpr Index lanes = 32;
  Wide<T> sums[lanes] = {};
  Index k = 0;
  for (; k + lanes <= n; k += lanes)
    for (Index lane = 0; lane < lanes; ++lane) sums[lane] += term(k + lane);
  for (Index lane = 0; lane < n - k; ++lane) sums[lane] += term(k + lane);
  for (Index half = lanes / 2; half > 0; half /= 2)
    for (Index lane = 0; lane < half; ++lane) sums[lane] += sums[lane + half];
  return sums[0];
}
template <class T>
Wide<T> wide_sum(const T* x, Index n) {
  return wide_sum<T>(n, [=](Index k) { return Wide<T>(x[k]); });
}
/// sum_k a_k b_k.
template <class T>
Wide<T> wide_dot(const T* a, const T* b, Index n) {
  return wide_sum<T>(n, [=](Index k) { return Wide<T>(a[k]) * Wide<T>(b[k]); });
}

/// The last `count` elements of a row; the lanes beyond repeat the last.
template <class T>
Packet<T> load_part(const T* from, Index count) {
  Packet<T> packet = splat(from[count - 1]);
  for (Index i = 0; i + 1 < count; ++i) packet[i] = from[i];
  return packet;
}

/// to_k (+)= f(x_k...), packet by packet. (Eigen's own loops compute the ends of a row by other instructions, and which
/// elements those are depends on where in memory the row lies.)
template <class T, class F, class... From>
void map_row(T* to, bool fresh, Index n, F&& f, const From*... x) {
  using P = Packet<T>;
  constexpr Index width = P::SizeAtCompileTime;
  Index at = 0;
  for (; at + width <= n; at += width) {
    const P y = f(P(Eigen::Map<const P>(x + at))...);
    Eigen::Map<P> result(to + at);
    result = fresh ? y : P(result + y);
  }
  if (const Index rest = n - at; rest > 0) {
    const P y = f(load_part(x + at, rest)...);
    for (Index k = 0; k < rest; ++k) to[at + k] = fresh ? y[k] : to[at + k] + y[k];
  }
}

/// Rows handled together: enough of them to be worth a thread.
inline Index rows_each(Index columns) { return std::max<Index>(1, parallel_grain / std::max<Index>(columns, 1)); }

/// Calls f(row) for every row, on several threads when there are many.
template <class F>
void for_each_row(Graph& graph, Index rows, Index columns, F&& f) {
  const Index each = rows_each(columns);
  graph.team().for_each_block((rows + each - 1) / each, [&](Index block) {
    for (Index row = block * each; row < std::min(rows, (block + 1) * each); ++row) f(row);
  });
}

}  // namespace unroll::detail
