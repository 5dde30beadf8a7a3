#pragma once

#include <optim/optimizer.h>

namespace unroll {

struct RMSpropOptions {
  double rate = 0.01;       ///< at least 0
  double alpha = 0.99;      ///< in [0, 1)
  double epsilon = 1e-8;    ///< at least 0
  double weight_decay = 0;  ///< at least 0; added to the gradient
  double momentum = 0;      ///< in [0, 1)
  bool centred = false;     ///< divide by the deviation instead of the root mean square
};

/// RMSprop (Tieleman and Hinton 2012, lecture 6.5), with epsilon outside the root, as in PyTorch:
///
///     g = gradient + weight_decay * theta
///     v = alpha * v + (1 - alpha) * g^2
///     d = g / (sqrt(v) + epsilon)
///     b = momentum * b + d
///     theta = theta - rate * b
///
/// Centred (Graves 2013, "Generating sequences with recurrent neural networks", equations 38 to 41):
///
///     a = alpha * a + (1 - alpha) * g
///     d = g / (sqrt(v - a^2) + epsilon)
class RMSprop : public GroupedOptimizer<RMSpropOptions> {
 public:
  /// Throws Error on an option out of range.
  explicit RMSprop(const std::vector<Parameter*>& parameters, Options options = {}) : GroupedOptimizer("RMSprop") {
    add_group(parameters, options);
  }

 private:
  void check_options(const Options& options) const override;
  std::vector<Average> averages(const Options& options) const override;
  void update(Update& update, const Options& options) override;
};

}  // namespace unroll
