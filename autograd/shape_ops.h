#pragma once

#include <autograd/expression.h>

#include <vector>

namespace unroll {

// Views: they copy nothing. A view shares its parent's memory, for the value and for the gradient. Axes may
// be negative, counting from the last; a wrong axis, index or size throws Error.

/// The `index`-th slice along an axis, without that axis. A negative index counts from the end.
Var select(const Var& x, int axis, Index index, Source where = Source::here());

/// Elements `begin` to `end` (excluded) along an axis. Negative numbers count from the end.
Var slice(const Var& x, int axis, Index begin, Index end, Source where = Source::here());

/// One of `parts` equal parts along an axis, whose size `parts` must divide.
Var part(const Var& x, int axis, Index parts, Index index, Source where = Source::here());

/// N equal parts along an axis: `auto [i, f, g, o] = chunk<4>(gates);`
template <std::size_t N>
std::array<Var, N> chunk(const Var& x, int axis = -1, Source where = Source::here()) {
  return [&]<std::size_t... K>(std::index_sequence<K...>) {
    return std::array<Var, N>{part(x, axis, N, K, where)...};
  }(std::make_index_sequence<N>{});
}

/// The same elements under another shape; one size may be -1: what is left. Copies only when x is a view
/// whose elements do not lie one after another.
Var reshape(const Var& x, std::initializer_list<Index> sizes, Source where = Source::here());
Var reshape(const Var& x, const Shape& shape, Source where = Source::here());

/// Two axes exchanged.
Var transpose(const Var& x, int axis_a = -2, int axis_b = -1, Source where = Source::here());

/// The value without its history: no gradient flows through.
Var detach(const Var& x, Source where = Source::here());

/// Vars of equal shape put side by side along a new first axis: n of [...] give [n, ...].
Var stack(std::span<const Var> parts, Source where = Source::here());
/// Vars put one after another along an axis; the other sizes must agree.
Var concat(std::span<const Var> parts, int axis = 0, Source where = Source::here());

}  // namespace unroll
