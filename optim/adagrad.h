#pragma once

#include <optim/optimizer.h>

namespace unroll {

struct AdagradOptions {
  double rate = 0.01;       ///< at least 0
  double rate_decay = 0;    ///< at least 0
  double weight_decay = 0;  ///< at least 0; added to the gradient
  double start = 0;         ///< of the sum of squares; at least 0
  double epsilon = 1e-10;   ///< at least 0
};

/// Adagrad (Duchi, Hazan and Singer 2011, figure 1, with the diagonal of G), with epsilon outside the root, as in
/// PyTorch:
///
///     g = gradient + weight_decay * theta
///     G = G + g^2
///     theta = theta - rate / (1 + (t - 1) * rate_decay) * g / (sqrt(G) + epsilon)
///
/// t counts the steps of the parameter, from 1.
class Adagrad : public GroupedOptimizer<AdagradOptions> {
 public:
  /// Throws Error on an option out of range.
  explicit Adagrad(const std::vector<Parameter*>& parameters, Options options = {}) : GroupedOptimizer("Adagrad") {
    add_group(parameters, options);
  }

 private:
  void check_options(const Options& options) const override;
  std::vector<Average> averages(const Options& options) const override;
  void update(Update& update, const Options& options) override;
};

}  // namespace unroll
