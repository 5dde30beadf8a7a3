#pragma once

#include <autograd/expression.h>
#include <autograd/indices.h>

namespace unroll {

/// The mean over all rows of -log softmax(logits)[target], a scalar: the negative log-likelihood, in nats.
/// Log-softmax and its derivative (softmax - one-hot) in one stable operation; summed in double.
///
/// logits [..., V]; targets of the leading shape (or as many of them in any shape), each in [0, V).
/// Throws Error when the counts differ, a target is out of range, or there are no rows.
Var cross_entropy(const Var& logits, const Indices& targets, Source where = Source::here());

/// The mean of (x - y)^2 over all elements, a scalar. Throws Error unless the shapes agree.
Var mse(const Var& x, const Var& y, Source where = Source::here());

}  // namespace unroll
