#pragma once

#include <optim/optimizer.h>

namespace unroll {

struct NAdamOptions {
  double rate = 2e-3;            ///< at least 0
  double beta1 = 0.9;            ///< in [0, 1)
  double beta2 = 0.999;          ///< in [0, 1)
  double epsilon = 1e-8;         ///< at least 0
  double weight_decay = 0;       ///< at least 0; added to the gradient
  double momentum_decay = 4e-3;  ///< psi, at least 0
};

/// Adam with Nesterov's momentum (Dozat 2016, "Incorporating Nesterov momentum into Adam", algorithm 2, with the
/// schedule of its section 4.1 for the momentum), in PyTorch's form:
///
///     g    = gradient + weight_decay * theta
///     mu_t = beta1 * (1 - 0.96^(t * psi) / 2),   M_t = mu_1 * mu_2 * ... * mu_t
///     m    = beta1 * m + (1 - beta1) * g
///     v    = beta2 * v + (1 - beta2) * g^2
///     d    = (1 - mu_t) / (1 - M_t) * g + mu_(t+1) / (1 - M_(t+1)) * m
///     theta = theta - rate * d / (sqrt(v / (1 - beta2^t)) + epsilon)
///
/// t counts the steps of the parameter, from 1.
class NAdam : public GroupedOptimizer<NAdamOptions> {
 public:
  /// Throws Error on an option out of range.
  explicit NAdam(const std::vector<Parameter*>& parameters, Options options = {}) : GroupedOptimizer("NAdam") {
    add_group(parameters, options);
  }

 private:
  void check_options(const Options& options) const override;
  std::vector<Average> averages(const Options& options) const override;
  void update(Update& update, const Options& options) override;
};

}  // namespace unroll
