#pragma once

#include <autograd/random.h>

namespace unroll::examples {

/// Sequences of random numbers in [-1, 1], the first of them marked, which is to be told when all is read.
///
/// The answer must change as much as the first number does: d answer / dx_1 = 1. So what solves this task has a
/// gradient that reaches the first step. A choice among few answers would not demand that: a network can keep it by
/// settling in one of as many stable states, through which no gradient flows (Bengio, Simard and Frasconi 1994,
/// "Learning long-term dependencies with gradient descent is difficult"). Who remembers nothing answers 0, with a root
/// mean square error of 1 / sqrt(3) = 0.577; who knows the sign, and no more, has 1 / sqrt(12) = 0.289.
struct Recall {
  Tensor x;      ///< [T, N, 2]: the number, and 1 where it is the first, else 0
  Tensor first;  ///< [N, 1]

  Recall(Index steps, Index batch, Generator& rng) : x({steps, batch, 2}), first({batch, 1}) {
    for (Index t = 0; t < steps; ++t)
      for (Index n = 0; n < batch; ++n) x.set({t, n, 0}, rng.uniform(-1, 1));
    for (Index n = 0; n < batch; ++n) {
      x.set({0, n, 1}, 1);
      first.set({n, 0}, x.at({0, n, 0}));
    }
  }
};

}  // namespace unroll::examples
