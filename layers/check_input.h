#pragma once

#include <autograd/parameter.h>
#include <autograd/var.h>

namespace unroll::detail {

/// For layers that map the last axis: throws Error, in the layer's name, unless x has a value, its last axis is `size`
/// and its type that of the layer's parameter.
void check_input(const char* layer, const Var& x, Index size, const Parameter& parameter, Source where);

}  // namespace unroll::detail
