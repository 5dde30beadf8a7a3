#pragma once

#include <autograd/var.h>
#include <layers/module.h>

namespace unroll {

/// y = (x - m) / sqrt(v + epsilon) * gain + bias, with m and v the mean and the variance over the last axis of
/// x [..., D]; gain and bias [D], y [..., D]. The same in training and in evaluation.
///
/// gain starts at 1 and bias at 0. Stored as PyTorch's `weight` and `bias`.
/// Source: Ba, Kiros and Hinton 2016, "Layer normalization", equation 4.
class LayerNorm : public Module {
 public:
  struct Options {
    double epsilon = 1e-5;  ///< above 0
    bool bias = true;
  };
  /// Throws Error unless the size is at least 1 and epsilon above 0.
  LayerNorm(Index size, Options options);
  explicit LayerNorm(Index size) : LayerNorm(size, Options()) {}

  /// Throws Error unless x's last axis is D and its type the parameters'.
  Var operator()(const Var& x, Source where = Source::here()) const;

  Parameter gain, bias;

 private:
  double epsilon_;
  bool has_bias_;
};

/// y = x / sqrt(mean(x^2) + epsilon) * gain, the mean being over the last axis of x [..., D]; gain [D], y [..., D].
///
/// gain starts at 1. Stored as PyTorch's `weight`.
/// Source: Zhang and Sennrich 2019, "Root mean square layer normalization", equation 4.
class RMSNorm : public Module {
 public:
  struct Options {
    double epsilon = 1e-5;  ///< above 0; PyTorch's default is the distance from 1 to the next number of the type
  };
  /// Throws Error unless the size is at least 1 and epsilon above 0.
  RMSNorm(Index size, Options options);
  explicit RMSNorm(Index size) : RMSNorm(size, Options()) {}

  /// Throws Error unless x's last axis is D and its type the parameters'.
  Var operator()(const Var& x, Source where = Source::here()) const;

  Parameter gain;

 private:
  double epsilon_;
};

}  // namespace unroll
