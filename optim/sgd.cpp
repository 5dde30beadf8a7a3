#include <optim/sgd.h>

#include <optim/elementwise_update.h>

#include <cmath>

namespace unroll {

SGD::SGD(std::vector<Parameter*> parameters, Options options)
    : Optimizer(std::move(parameters), options.rate,
                options.momentum > 0 ? std::vector<std::string>{"velocity"} : std::vector<std::string>{}),
      options_(options) {
  if (!(options.momentum >= 0 && options.momentum < 1))
    fail("SGD: momentum is {}; it must be in [0, 1)", options.momentum);
  if (!(options.weight_decay >= 0 && std::isfinite(options.weight_decay)))
    fail("SGD: weight_decay is {}; it must be at least 0", options.weight_decay);
}

// v starts at zero, so the first step's v = momentum * 0 + g = g is PyTorch's.
void SGD::update(Parameter& parameter, std::vector<Tensor>& averages) {
  const double decay = options_.weight_decay, momentum = options_.momentum, rate = this->rate();
  if (momentum == 0) {
    detail::update_elementwise(
        [=]<class A>(A theta, A g) {
          using T = typename A::Scalar;
          theta -= T(rate) * (g + T(decay) * theta);
        },
        parameter.value(), parameter.grad());
    return;
  }
  detail::update_elementwise(
      [=]<class A>(A theta, A g, A v) {
        using T = typename A::Scalar;
        v = T(momentum) * v + (g + T(decay) * theta);
        theta -= T(rate) * v;
      },
      parameter.value(), parameter.grad(), averages[0]);
}

}  // namespace unroll
