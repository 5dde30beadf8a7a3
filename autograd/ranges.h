#pragma once

#include <autograd/graph.h>

#include <algorithm>

namespace unroll::detail {

/// Elements to copy that are worth handing to another thread: some microseconds.
inline constexpr Index copy_grain = 8 * parallel_grain;

/// Calls `f(begin, end)` for ranges that together are 0 to `count`, perhaps on several threads. `each` is the number of
/// elements that one of them stands for. The cut follows from these alone.
template <class F>
void for_each_range(Graph& graph, Index count, Index each, F&& f) {
  const Index length = std::max<Index>(copy_grain / std::max<Index>(each, 1), 1);
  if (count <= length) return count > 0 ? f(Index{0}, count) : void();
  graph.team().for_each_block((count + length - 1) / length,
                              [&](Index block) { f(block * length, std::min((block + 1) * length, count)); });
}

}  // namespace unroll::detail
