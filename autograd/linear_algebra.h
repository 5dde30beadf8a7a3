#pragma once

// Products beyond those with one matrix (matmul.h): the engine of `matmul` for batches of matrices and for vectors, and
// products of vectors under their own names.

#include <autograd/expression.h>

namespace unroll {

/// y = sum_k a_k b_k, a scalar: a [K], b [K]; 0 for K = 0. Partial sums are added in double.
/// Throws Error unless a and b are vectors of one length and type.
Var dot(const Argument& a, const Argument& b, Source where = Source::here());

/// y_ij = a_i b_j: a [M], b [N], y [M, N]. Throws Error unless a and b are vectors of one type.
Var outer(const Argument& a, const Argument& b, Source where = Source::here());

namespace detail {

/// The shape of matmul(a, b). Throws Error when there is no such product.
Shape product_shape(const Shape& a, const Shape& b, Source where);

/// y = matmul(a, b), of layout `y`, for a and b of any rank from 1. A matrix is read as it lies when its rows or its
/// columns are contiguous; else a copy is.
NodeId record_batches(Graph& graph, NodeId a, NodeId b, const NodeLayout* y, Source where);

}  // namespace detail
}  // namespace unroll
