#include <optim/adam.h>

#include <optim/elementwise_update.h>

#include <cmath>

namespace unroll {

Adam::Adam(std::vector<Parameter*> parameters, Options options)
    : Optimizer(std::move(parameters), options.rate, {"m", "v"}), options_(options) {
  for (double beta : {options.beta1, options.beta2})
    if (!(beta >= 0 && beta < 1)) fail("Adam: beta is {}; it must be in [0, 1)", beta);
  if (!(options.epsilon >= 0 && std::isfinite(options.epsilon)))
    fail("Adam: epsilon is {}; it must be at least 0", options.epsilon);
  if (!(options.weight_decay >= 0 && std::isfinite(options.weight_decay)))
    fail("Adam: weight_decay is {}; it must be at least 0", options.weight_decay);
}

void Adam::update(Parameter& parameter, std::vector<Tensor>& averages) {
  const auto t = static_cast<double>(steps());
  const double beta1 = options_.beta1, beta2 = options_.beta2, epsilon = options_.epsilon;
  const double decay = options_.weight_decay;
  const double step = rate() / (1 - std::pow(beta1, t));
  const double correction = 1 / std::sqrt(1 - std::pow(beta2, t));
  detail::update_elementwise(
      [=]<class A>(A theta, A gradient, A m, A v) {
        using T = typename A::Scalar;
        auto g = gradient + T(decay) * theta;
        m = T(beta1) * m + T(1 - beta1) * g;
        v = T(beta2) * v + T(1 - beta2) * g.square();
        theta -= T(step) * m / (v.sqrt() * T(correction) + T(epsilon));
      },
      parameter.value(), parameter.grad(), averages[0], averages[1]);
}

}  // namespace unroll
