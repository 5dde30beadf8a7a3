#pragma once

#include <autograd/expression.h>

namespace unroll {

/// y = the sum of all elements, a scalar. Accumulated in double.
Var sum(const Var& x, Source where = Source::here());
/// y = the sum over the given axes, which disappear (or stay with size 1: `keep`). Negative axes count from
/// the last. Throws Error on an axis out of range or given twice.
Var sum(const Var& x, std::initializer_list<int> axes, bool keep = false, Source where = Source::here());

/// y = the mean of all elements, a scalar. Throws Error when there are none.
Var mean(const Var& x, Source where = Source::here());
/// y = the mean over the given axes. Throws Error like `sum`, and when an axis is empty.
Var mean(const Var& x, std::initializer_list<int> axes, bool keep = false, Source where = Source::here());

}  // namespace unroll
