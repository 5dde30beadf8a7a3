#pragma once

#include <autograd/matmul.h>
#include <layers/module.h>

namespace unroll {

/// y = x W + b, with x [..., D], W [D, H], b [H] and y [..., H].
///
/// W and b start uniform in +-1/sqrt(D), PyTorch's default (LeCun et al. 1998, "Efficient BackProp").
/// Stored as PyTorch's `weight` (transposed, [H, D]) and `bias`.
class Linear : public Module {
 public:
  struct Options {
    bool bias = true;
  };
  Linear(Index inputs, Index outputs, Generator& rng, Options options);
  Linear(Index inputs, Index outputs, Generator& rng) : Linear(inputs, outputs, rng, Options()) {}

  Var operator()(const Var& x, Source where = Source::here()) const;

  Parameter W, b;

 private:
  bool has_bias_;
};

}  // namespace unroll
