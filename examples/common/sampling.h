#pragma once

#include <autograd/random.h>
#include <autograd/tensor.h>

namespace unroll::examples {

/// Draws a class from softmax(logits / temperature), among the `top_k` likeliest only (0: among all). A
/// temperature of 0 always takes the likeliest. logits: float32, any shape; its elements are the classes.
Index draw(const TensorView& logits, double temperature, Index top_k, Generator& rng);

}  // namespace unroll::examples
