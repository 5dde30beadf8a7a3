#pragma once

// Reductions. Each goes over all elements, or over the axes given: any of them, in any order, negative ones counted
// from the last; an empty list means all. The axes disappear, or stay with size 1 with `keep`. Sums are accumulated in
// double at least, whatever the type, and are the same bits on any number of threads.
//
// All throw Error on an axis out of range or given twice.

#include <autograd/expression.h>

#include <vector>

namespace unroll {

/// y = sum x; 0 of no elements. dL/dx = dL/dy.
Var sum(const Var& x, Source where = Source::here());
Var sum(const Var& x, std::initializer_list<int> axes, bool keep = false, Source where = Source::here());

/// y = sum x / n, over n elements. Throws Error when n is 0.
Var mean(const Var& x, Source where = Source::here());
Var mean(const Var& x, std::initializer_list<int> axes, bool keep = false, Source where = Source::here());

/// y = the product of the elements; 1 of no elements. dL/dx_i = dL/dy prod_{j != i} x_j, right with any number of zeros
/// too: it is not computed by division.
Var prod(const Var& x, Source where = Source::here());
Var prod(const Var& x, std::initializer_list<int> axes, bool keep = false, Source where = Source::here());

/// y = the largest (smallest) element; NaN when there is one. Elements that tie share the gradient equally, as with
/// PyTorch's amax; where y is NaN, the elements that are NaN do. Throws Error when there are no elements to choose
/// from.
Var max(const Var& x, Source where = Source::here());
Var max(const Var& x, std::initializer_list<int> axes, bool keep = false, Source where = Source::here());
Var min(const Var& x, Source where = Source::here());
Var min(const Var& x, std::initializer_list<int> axes, bool keep = false, Source where = Source::here());

/// Where along an axis the largest (smallest) element is: the first of several that tie, the first NaN when there is
/// one. One index for each element of x.shape().without(axis), in row-major order; nothing is recorded:
/// `argmax(logits.value())`. Throws Error on an axis out of range, or of size 0.
std::vector<std::int32_t> argmax(const TensorView& x, int axis = -1, Source where = Source::here());
std::vector<std::int32_t> argmin(const TensorView& x, int axis = -1, Source where = Source::here());

/// y = sum (x - m)^2 / (n - correction), where m is the mean of the n elements: by default the unbiased estimate
/// (Bessel's correction); correction = 0 gives the mean squared distance from the mean. In two passes, so that a large
/// mean does no harm. Throws Error unless n > correction. (PyTorch gives NaN there.)
Var variance(const Var& x, Source where = Source::here());
Var variance(const Var& x, std::initializer_list<int> axes, bool keep = false, double correction = 1,
             Source where = Source::here());
/// y = the square root of `variance`. Where y is 0 (all elements equal) the gradient is taken to be 0.
Var stddev(const Var& x, Source where = Source::here());
Var stddev(const Var& x, std::initializer_list<int> axes, bool keep = false, double correction = 1,
           Source where = Source::here());

/// y = (sum |x|^p)^(1/p), for p = 1 (sum |x|), 2, or infinity (max |x|); the Euclidean norm by default. It neither
/// overflows nor underflows on the way. Where y is 0 the gradient is 0; that of p = 1 is 0 at every 0, and with
/// p = infinity the elements that tie share it. Throws Error on another p, and for infinity when there are no elements.
Var norm(const Var& x, Source where = Source::here());
Var norm(const Var& x, std::initializer_list<int> axes, bool keep = false, double p = 2, Source where = Source::here());

/// y = log sum exp x. Stable for numbers of any size: the largest is subtracted first. Minus infinity when all elements
/// are, or there are none; the gradient is 0 then. With an element of plus infinity it is infinite and the gradient
/// NaN.
Var logsumexp(const Var& x, Source where = Source::here());
Var logsumexp(const Var& x, std::initializer_list<int> axes, bool keep = false, Source where = Source::here());

/// y_i = x_0 + ... + x_i along an axis. Throws Error on an axis out of range.
Var cumsum(const Var& x, int axis = -1, Source where = Source::here());

// A number where `keep` belongs is a correction or a p in the wrong place.
template <Number N>
  requires(!std::same_as<N, bool>)
Var variance(const Var&, std::initializer_list<int>, N) = delete;
template <Number N>
  requires(!std::same_as<N, bool>)
Var stddev(const Var&, std::initializer_list<int>, N) = delete;
template <Number N>
  requires(!std::same_as<N, bool>)
Var norm(const Var&, std::initializer_list<int>, N) = delete;

}  // namespace unroll
