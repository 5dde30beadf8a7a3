#pragma once

#include <optim/optimizer.h>

namespace unroll {

struct AdamOptions {
  double rate = 1e-3;       ///< at least 0
  double beta1 = 0.9;       ///< in [0, 1)
  double beta2 = 0.999;     ///< in [0, 1)
  double epsilon = 1e-8;    ///< at least 0
  double weight_decay = 0;  ///< at least 0; added to the gradient (AdamW decays the weights themselves)
  bool amsgrad = false;     ///< divide by the largest v so far
};

struct AdamWOptions {
  double rate = 1e-3;          ///< at least 0
  double beta1 = 0.9;          ///< in [0, 1)
  double beta2 = 0.999;        ///< in [0, 1)
  double epsilon = 1e-8;       ///< at least 0
  double weight_decay = 0.01;  ///< at least 0; in a step the weights lose rate * weight_decay of themselves
  bool amsgrad = false;        ///< divide by the largest v so far
};

namespace detail {

/// What Adam and AdamW share, which differ in where the weight decay goes.
template <class Options>
class AdamRule : public GroupedOptimizer<Options> {
 protected:
  using GroupedOptimizer<Options>::GroupedOptimizer;

 private:
  void check_options(const Options& options) const override;
  std::vector<Optimizer::Average> averages(const Options& options) const override;
  void update(Optimizer::Update& update, const Options& options) override;
};

extern template class AdamRule<AdamOptions>;
extern template class AdamRule<AdamWOptions>;

}  // namespace detail

/// Adam (Kingma and Ba 2015, algorithm 1), with bias correction inside the root and epsilon outside it, as in PyTorch:
///
///     g = gradient + weight_decay * theta
///     m = beta1 * m + (1 - beta1) * g
///     v = beta2 * v + (1 - beta2) * g^2
///     theta = theta - rate * (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + epsilon)
///
/// t counts the steps of the parameter, from 1. AMSGrad (Reddi, Kale and Kumar 2018, algorithm 2) takes the largest v
/// so far in place of v in the last line, where it is corrected as v is.
class Adam : public detail::AdamRule<AdamOptions> {
 public:
  /// Throws Error on an option out of range.
  explicit Adam(const std::vector<Parameter*>& parameters, Options options = {}) : AdamRule("Adam") {
    add_group(parameters, options);
  }
};

/// Adam with decoupled weight decay (Loshchilov and Hutter 2019, algorithm 2), in PyTorch's form:
///
///     theta = theta - rate * weight_decay * theta
///
/// and then Adam's step, on the gradient alone.
class AdamW : public detail::AdamRule<AdamWOptions> {
 public:
  /// Throws Error on an option out of range.
  explicit AdamW(const std::vector<Parameter*>& parameters, Options options = {}) : AdamRule("AdamW") {
    add_group(parameters, options);
  }
};

}  // namespace unroll
