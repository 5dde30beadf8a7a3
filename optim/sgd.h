#pragma once

#include <optim/optimizer.h>

namespace unroll {

struct SGDOptions {
  double rate = 0.01;       ///< at least 0
  double momentum = 0;      ///< in [0, 1)
  double dampening = 0;     ///< in [0, 1)
  double weight_decay = 0;  ///< at least 0; added to the gradient
  bool nesterov = false;    ///< needs a momentum, and no dampening
};

/// Stochastic gradient descent with momentum, in PyTorch's form:
///
///     g = gradient + weight_decay * theta
///     v = momentum * v + (1 - dampening) * g    (v = g at a parameter's first step)
///     d = g + momentum * v  with Nesterov's momentum, else  v
///     theta = theta - rate * d
///
/// Source: Sutskever, Martens, Dahl and Hinton 2013, "On the importance of initialization and momentum in deep
/// learning", equations 1 to 4, where the rate is inside v.
class SGD : public GroupedOptimizer<SGDOptions> {
 public:
  /// Throws Error on an option out of range.
  explicit SGD(const std::vector<Parameter*>& parameters, Options options = {}) : GroupedOptimizer("SGD") {
    add_group(parameters, options);
  }

 private:
  void check_options(const Options& options) const override;
  std::vector<Average> averages(const Options& options) const override;
  void update(Update& update, const Options& options) override;
};

}  // namespace unroll
