#pragma once

#include <autograd/views.h>

namespace unroll {

// Tensors put together and made larger; beside these, shape_ops.h has the views of views.h. Names and meaning are
// PyTorch's. Axes may be negative, counting from the last; a wrong axis or shape throws Error.

/// Vars of equal shape put side by side along a new axis, which is axis `axis` of the result: n of [...] give [n, ...].
Var stack(std::span<const Var> parts, Source where = Source::here());
Var stack(std::span<const Var> parts, int axis, Source where = Source::here());
Var stack(std::initializer_list<Var> parts, int axis = 0, Source where = Source::here());

/// Vars put one after another along an axis; the other sizes must agree.
Var concat(std::span<const Var> parts, int axis = 0, Source where = Source::here());
Var concat(std::initializer_list<Var> parts, int axis = 0, Source where = Source::here());

/// x repeated to a larger shape: a size of 1, or an axis that x lacks on the left, becomes any size. dL/dx is the sum
/// over the repeats. x itself when it has that shape. Throws Error when another size would have to change.
/// (An element-wise expression broadcasts by itself.)
Var broadcast_to(const Var& x, const Shape& shape, Source where = Source::here());

/// x put counts[k] times one after another along each axis k; counts beyond the rank of x are for new axes on the left.
/// dL/dx is the sum over the repeats. Throws Error on a negative count or fewer counts than axes.
Var repeat(const Var& x, std::initializer_list<Index> counts, Source where = Source::here());

/// How many elements `pad` adds along an axis: both >= 0.
struct Padding {
  Index before = 0, after = 0;
};

/// x with elements of a constant value around it: `pad(x, {{0, 2}, {1, 1}})` adds two rows below and a column on either
/// side. One entry for each axis, from the first on (PyTorch's `pad` takes them flat and from the last axis on). Throws
/// Error on another number of entries or a negative amount: `slice` takes away.
Var pad(const Var& x, std::initializer_list<Padding> amounts, double value = 0, Source where = Source::here());

}  // namespace unroll
