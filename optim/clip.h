#pragma once

#include <autograd/parameter.h>

#include <vector>

namespace unroll {

/// Scales all gradients together so that their norm, sqrt(sum of all squares), is at most `max_norm`: the
/// cure for exploding gradients. Returns the norm before. Summed in double, so that it cannot overflow.
///
/// Parameters without a gradient since the last step are left out. Throws Error, naming the parameter, and
/// changes nothing, when a gradient is infinite or not a number; or when max_norm is not above 0.
/// Source: Pascanu, Mikolov and Bengio 2013, "On the difficulty of training recurrent neural networks",
/// algorithm 1. Unlike PyTorch's, nothing is added to the norm, and gradients below it keep their bits.
double clip_grad_norm(const std::vector<Parameter*>& parameters, double max_norm);

/// Limits every element of every gradient to [-max, max]. Throws Error like `clip_grad_norm`.
void clip_grad_value(const std::vector<Parameter*>& parameters, double max);

}  // namespace unroll
