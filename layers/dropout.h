#pragma once

#include <autograd/var.h>
#include <layers/module.h>

namespace unroll {

/// In training, each element becomes 0 with probability p and x / (1 - p) otherwise, so that its mean stays;
/// in evaluation y = x. Every call draws a new mask from the layer's own stream of random numbers, which
/// depends on neither threads nor platform.
/// Source: Srivastava et al. 2014, "Dropout: a simple way to prevent neural networks from overfitting".
class Dropout : public Module {
 public:
  /// p in [0, 1). The stream is split off from `rng`. Throws Error on another p.
  Dropout(double p, Generator& rng);

  Var operator()(const Var& x, Source where = Source::here());
  double p() const { return p_; }

 private:
  double p_;
  Generator rng_;
};

namespace detail {

/// Zeros, and `one` with probability p; drawn again by a checkpoint's second run.
Var draw(Graph& graph, Generator& rng, const Shape& shape, DType dtype, double p, double one, Source where);

}  // namespace detail
}  // namespace unroll
