#pragma once

#include <autograd/expression.h>

#include <vector>

namespace unroll {

// Names and meaning are PyTorch's. Axes may be negative, counting from the last; a wrong axis, index or size, and an
// axis given twice, throw Error.
//
// Views come first: they copy nothing. A view shares its parent's memory, for the value and for the gradient, and sees
// no element twice, so that what flows into it is where it belongs at once.

/// The `index`-th slice along an axis, without that axis. A negative index counts from the end.
Var select(const Var& x, int axis, Index index, Source where = Source::here());

/// Elements `begin` to `end` (excluded) along an axis, of which every `step`-th, step >= 1. Negative numbers count from
/// the end; `x.size(axis)` is the end. Throws Error on numbers out of range, where PyTorch would shorten the slice.
/// (The gradient is cheapest for one of several equal parts; those of other slices begin with zeros everywhere.)
Var slice(const Var& x, int axis, Index begin, Index end, Source where = Source::here());
Var slice(const Var& x, int axis, Index begin, Index end, Index step, Source where = Source::here());

/// One of `parts` equal parts along an axis, whose size `parts` must divide.
Var part(const Var& x, int axis, Index parts, Index index, Source where = Source::here());

/// The slices along an axis, without that axis, one for every index: `select` for all of them in less time.
std::vector<Var> unbind(const Var& x, int axis = 0, Source where = Source::here());

namespace detail {
/// Throws Error unless there is room for as many slices as the axis is long.
void all_slices(const Var& x, int axis, std::span<Var> slices, Source where);
void all_parts(const Var& x, int axis, std::span<Var> parts, Source where);
}  // namespace detail
/// N equal parts along an axis: `auto [i, f, g, o] = chunk<4>(gates);`
template <std::size_t N>
std::array<Var, N> chunk(const Var& x, int axis = -1, Source where = Source::here()) {
  std::array<Var, N> parts;
  detail::all_parts(x, axis, parts, where);
  return parts;
}

/// Parts of the given sizes along an axis, one after another. Throws Error unless the sizes add up to the axis's.
std::vector<Var> split(const Var& x, std::span<const Index> sizes, int axis = 0, Source where = Source::here());
std::vector<Var> split(const Var& x, std::initializer_list<Index> sizes, int axis = 0, Source where = Source::here());

/// Two axes exchanged.
Var transpose(const Var& x, int axis_a = -2, int axis_b = -1, Source where = Source::here());

/// The axes in another order: axis k of the result is axis `axes[k]` of x. Throws Error unless every axis is named
/// once.
Var permute(const Var& x, std::initializer_list<int> axes, Source where = Source::here());

/// The elements in reverse order along the given axes. (PyTorch's makes a copy.)
Var flip(const Var& x, std::initializer_list<int> axes, Source where = Source::here());

/// Without the axes of size 1, or without those of the given ones that have size 1: the others stay.
Var squeeze(const Var& x, Source where = Source::here());
Var squeeze(const Var& x, int axis, Source where = Source::here());
Var squeeze(const Var& x, std::initializer_list<int> axes, Source where = Source::here());

/// With a new axis of size 1, which is axis `axis` of the result: from -rank - 1 to rank of x.
Var unsqueeze(const Var& x, int axis, Source where = Source::here());

/// One axis taken apart into several, of sizes whose product is its own; one may be -1: what is left.
Var unflatten(const Var& x, int axis, std::initializer_list<Index> sizes, Source where = Source::here());

/// The same elements in row-major order under another shape; one size may be -1: what is left. The result's elements
/// lie one after another: copies only when x is a view whose elements do not. Throws Error when the counts differ, or
/// when what is left could be any number because another size is 0.
Var reshape(const Var& x, std::initializer_list<Index> sizes, Source where = Source::here());
Var reshape(const Var& x, const Shape& shape, Source where = Source::here());

/// Axes `first` to `last` (included) as one: a `reshape`. A scalar becomes [1].
Var flatten(const Var& x, int first = 0, int last = -1, Source where = Source::here());

/// The value without its history: no gradient flows through.
Var detach(const Var& x, Source where = Source::here());

namespace detail {

/// An operand, checked: what a view looks at.
struct Parent {
  Graph& graph;
  NodeId id;
  const NodeLayout& layout;

  const Shape& shape() const { return layout.shape; }
};
/// Throws Error for an empty Var and one whose tape has been cleared.
Parent parent_of(const Var& x, const char* function, Source where);

/// Where a new axis is put in: like Shape::axis, but of the shape with it.
int new_axis(const Shape& shape, int axis, const char* function, Source where);

}  // namespace detail
}  // namespace unroll
