#pragma once

#include <autograd/parameter.h>

#include <vector>

namespace unroll {

// Each of these leaves out frozen parameters and those without a gradient since the last step, and counts a parameter
// that is listed twice once. Gradients within the limit keep their bits. The results are the same bits on any number of
// threads, and nothing is allocated for up to a thousand parameters.

/// What to do when a gradient is infinite or not a number.
enum class NonFinite {
  error,  ///< throw Error, naming the first parameter it is so with, and change nothing
  skip    ///< use all these gradients up, so that the optimizer's next step leaves their parameters alone
};

struct ClipOptions {
  double p = 2;  ///< at least 1; infinity is the largest magnitude
  NonFinite non_finite = NonFinite::error;
};

/// Scales all gradients together so that their norm, (sum |g|^p)^(1/p), is at most `max_norm`: the cure for exploding
/// gradients. Returns the norm before, which is infinite or NaN when the step is to be skipped. With a max_norm of
/// infinity it only measures. Summed in double and without overflow, whatever p is.
///
/// Throws Error when max_norm is not above 0 or p is below 1. Source: Pascanu, Mikolov and Bengio 2013, "On the
/// difficulty of training recurrent neural networks", algorithm 1. Unlike PyTorch's, nothing is added to the norm.
double clip_grad_norm(const std::vector<Parameter*>& parameters, double max_norm, ClipOptions options = {});

/// Limits every element of every gradient to [-max, max]. Returns the largest magnitude before, which is infinite or
/// NaN when the step is to be skipped. Throws Error when max is not above 0.
double clip_grad_value(const std::vector<Parameter*>& parameters, double max, NonFinite non_finite = NonFinite::error);

/// Adaptive clipping: limits the gradient of each unit in proportion to the unit's weights,
///
///     G_i = clipping max(||W_i||, epsilon) / ||G_i|| G_i   where   ||G_i|| > clipping max(||W_i||, epsilon).
///
/// A unit is a column, all that one output is computed from (weights are [inputs, outputs]); a vector or a scalar, such
/// as a bias, is one unit as a whole. The authors clip all layers but the last.
///
/// Throws Error as with NonFinite::error, and unless clipping and epsilon are finite and above 0. Source: Brock, De,
/// Smith and Simonyan 2021, "High-performance large-scale image recognition without normalization", equation 3.
void clip_grad_adaptive(const std::vector<Parameter*>& parameters, double clipping = 0.01, double epsilon = 1e-3);

}  // namespace unroll
