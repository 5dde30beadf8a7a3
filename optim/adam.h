#pragma once

#include <optim/optimizer.h>

namespace unroll {

/// Adam (Kingma and Ba 2015, algorithm 1), with epsilon and bias correction where PyTorch has them:
///
///     g = gradient + weight_decay * theta
///     m = beta1 * m + (1 - beta1) * g
///     v = beta2 * v + (1 - beta2) * g^2
///     theta = theta - rate * (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + epsilon)
///
/// t counts the steps of the optimizer, from 1.
class Adam : public Optimizer {
 public:
  struct Options {
    double rate = 1e-3;       ///< at least 0
    double beta1 = 0.9;       ///< in [0, 1)
    double beta2 = 0.999;     ///< in [0, 1)
    double epsilon = 1e-8;    ///< at least 0
    double weight_decay = 0;  ///< at least 0; added to the gradient (not AdamW)
  };
  /// Throws Error on an option out of range.
  Adam(std::vector<Parameter*> parameters, Options options);
  explicit Adam(std::vector<Parameter*> parameters) : Adam(std::move(parameters), Options()) {}

 private:
  void update(Parameter& parameter, std::vector<Tensor>& averages) override;
  Options options_;
};

}  // namespace unroll
