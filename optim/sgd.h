#pragma once

#include <optim/optimizer.h>

namespace unroll {

/// Stochastic gradient descent with momentum (Sutskever et al. 2013), in PyTorch's form:
///
///     g = gradient + weight_decay * theta
///     v = momentum * v + g                  (v = g at a parameter's first step)
///     theta = theta - rate * v
class SGD : public Optimizer {
 public:
  struct Options {
    double rate = 0.01;       ///< at least 0
    double momentum = 0;      ///< in [0, 1)
    double weight_decay = 0;  ///< at least 0
  };
  /// Throws Error on an option out of range.
  SGD(std::vector<Parameter*> parameters, Options options);

 private:
  void update(Parameter& parameter, std::vector<Tensor>& averages) override;
  Options options_;
};

}  // namespace unroll
