#pragma once

// For operations along the last axis: a row as an array, sums of rows that lose nothing, rows shared among threads.
// Not for users.

#include <autograd/graph.h>

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
