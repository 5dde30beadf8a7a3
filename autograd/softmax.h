#pragma once

#include <autograd/expression.h>

namespace unroll {

// Along one axis, the last by default; another costs copies that bring it there and back. All throw Error on an axis
// out of range. Sums are accumulated in double at least.

/// y_j = exp(x_j) / sum_k exp(x_k), in [0, 1]: probabilities. dL/dx_j = y_j (dL/dy_j - sum_k y_k dL/dy_k).
///
/// Stable for logits of any size: the largest is subtracted first. Entries of minus infinity have probability 0; a row
/// of nothing else, or with an infinite entry, gives NaN, as in PyTorch.
Var softmax(const Var& x, int axis = -1, Source where = Source::here());

/// y_j = x_j - log sum_k exp(x_k) = log softmax(x)_j, with as many digits as the logits have, also where the
/// probability is next to 0. dL/dx_j = dL/dy_j - exp(y_j) sum_k dL/dy_k. The same rows as for softmax give NaN.
Var log_softmax(const Var& x, int axis = -1, Source where = Source::here());

/// Softmax over the entries whose mask is not 0. The others have probability 0 and gradient 0, whatever the logit (NaN
/// too); a row in which all are masked, or whose other logits are all minus infinity, is all 0 with gradient 0.
///
/// The mask has a shape that broadcasts to that of x, and its type; attention of N sequences of lengths up to T, logits
/// [N, T, T]: a mask [N, 1, T] of ones up to each length. Throws Error when shape or type do not fit, or when the mask
/// is a Var that needs a gradient: there is none.
Var masked_softmax(const Var& x, const Var& mask, int axis = -1, Source where = Source::here());
Var masked_softmax(const Var& x, const Tensor& mask, int axis = -1, Source where = Source::here());

}  // namespace unroll
