#pragma once

#include <autograd/expression.h>

namespace unroll {

// Over the last axis: x [..., D], gain [D], bias [D]. Mean and root are computed in double at least, the mean first.
// All throw Error when x has no axis, a gain or bias is not [D], or epsilon is negative.

/// y = (x - m) / sqrt(v + epsilon) * gain + bias, where m is the mean of a row and v = sum (x - m)^2 / D its variance.
/// Without gain and bias they are 1 and 0. (Ba, Kiros & Hinton 2016, Layer Normalization, equation 4.) In one node.
///
/// With z = (x - m) / s, s = sqrt(v + epsilon) and g = gain dL/dy, row by row: dL/dx = (g - mean(g) - z mean(g z)) / s;
/// dL/dgain = sum over the rows of z dL/dy, dL/dbias = sum over the rows of dL/dy.
Var layer_norm(const Var& x, const Argument& gain, const Argument& bias, double epsilon = 1e-5,
               Source where = Source::here());
Var layer_norm(const Var& x, const Argument& gain, double epsilon = 1e-5, Source where = Source::here());
Var layer_norm(const Var& x, double epsilon = 1e-5, Source where = Source::here());

/// y = x / sqrt(mean(x^2) + epsilon) * gain. (Zhang & Sennrich 2019, Root Mean Square Layer Normalization, equation 4,
/// with the epsilon that implementations add; PyTorch's default one is the distance from 1 to the next number.)
/// dL/dx = (g - z mean(g z)) / s, with z = x / s, s the root and g as above.
Var rms_norm(const Var& x, const Argument& gain, double epsilon = 1e-5, Source where = Source::here());
Var rms_norm(const Var& x, double epsilon = 1e-5, Source where = Source::here());

}  // namespace unroll
