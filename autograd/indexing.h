#pragma once

#include <autograd/expression.h>
#include <autograd/indices.h>

namespace unroll {

class Tape;

// Elements chosen by numbers: by Indices, or by their distance from the diagonal. Names and meaning are PyTorch's. Axes
// may be negative, counting from the last; an index must be in [0, size of its axis). All throw Error on a wrong axis,
// shape or index. Where an index occurs several times, contributions are added in the indices' order: the same bits for
// any number of threads.

/// y[..., i, ...] = x[..., indices[i], ...]: slices along an axis. indices [n]; y has n elements along the axis.
Var index_select(const Var& x, int axis, const Indices& indices, Source where = Source::here());

/// y[i, j, ...] = x[i, indices[i, j, ...], ...], the index replacing axis `axis` of x (here 1): an element for each
/// index. indices has the rank of x, and no axis but `axis` may be longer than x's; y has the shape of indices.
Var gather(const Var& x, int axis, const Indices& indices, Source where = Source::here());

/// y = x with source[i, j, ...] added to y[i, indices[i, j, ...], ...], the index replacing axis `axis` of x (here 1).
/// indices has the rank of both; none of its axes may be longer than source's, nor, `axis` aside, than x's. Elements of
/// source beyond the shape of indices count for nothing. dL/dx = dL/dy; dL/dsource = gather(dL/dy).
Var scatter_add(const Var& x, int axis, const Indices& indices, const Var& source, Source where = Source::here());

/// A constant: y[..., k] = 1 where k is the index, else 0. indices [...], each in [0, classes); y [..., classes].
Var one_hot(Tape& tape, const Indices& indices, Index classes, DType dtype = float32, Source where = Source::here());

/// Of each matrix in x [..., n, m] the elements on and below the given diagonal (tril: column - row <= diagonal) or on
/// and above it (triu: column - row >= diagonal); the others become 0, whatever they were. Diagonal 0 is the main one,
/// 1 the one above it. Throws Error unless x has at least two axes.
Var tril(const Var& x, Index diagonal = 0, Source where = Source::here());
Var triu(const Var& x, Index diagonal = 0, Source where = Source::here());

/// Constants [rows, columns]: 1 where tril or triu keeps the element, 0 elsewhere. Throws Error on a negative size.
Var tril_mask(Tape& tape, Index rows, Index columns, Index diagonal = 0, DType dtype = float32,
              Source where = Source::here());
Var triu_mask(Tape& tape, Index rows, Index columns, Index diagonal = 0, DType dtype = float32,
              Source where = Source::here());

namespace detail {

/// index_select with indices of any shape, whose axes take the place of `axis`. Where the index is `without_gradient`,
/// the slice takes part in the value only.
Var select_slices(const char* name, const Var& x, int axis, const Indices& indices, Index without_gradient,
                  Source where);

/// y[i] = x[rows[i]], or zeros where rows[i] is -1. x [R, D], y [n, D].
Var rows_or_zeros(const Var& x, const Indices& rows, Source where);

}  // namespace detail
}  // namespace unroll
