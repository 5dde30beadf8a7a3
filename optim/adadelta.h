#pragma once

#include <optim/optimizer.h>

namespace unroll {

struct AdadeltaOptions {
  double rate = 1;          ///< at least 0
  double rho = 0.9;         ///< in [0, 1)
  double epsilon = 1e-6;    ///< at least 0
  double weight_decay = 0;  ///< at least 0; added to the gradient
};

/// Adadelta (Zeiler 2012, algorithm 1), with epsilon inside both roots:
///
///     g = gradient + weight_decay * theta
///     v = rho * v + (1 - rho) * g^2
///     d = sqrt(u + epsilon) / sqrt(v + epsilon) * g
///     u = rho * u + (1 - rho) * d^2
///     theta = theta - rate * d
class Adadelta : public GroupedOptimizer<AdadeltaOptions> {
 public:
  /// Throws Error on an option out of range.
  explicit Adadelta(const std::vector<Parameter*>& parameters, Options options = {}) : GroupedOptimizer("Adadelta") {
    add_group(parameters, options);
  }

 private:
  void check_options(const Options& options) const override;
  std::vector<Average> averages(const Options& options) const override;
  void update(Update& update, const Options& options) override;
};

}  // namespace unroll
