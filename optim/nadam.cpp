#include <optim/nadam.h>

#include <cmath>

namespace unroll {

void NAdam::check_options(const Options& options) const {
  check("beta1", options.beta1, 0, 1);
  check("beta2", options.beta2, 0, 1);
  check("epsilon", options.epsilon, 0);
  check("weight_decay", options.weight_decay, 0);
  check("momentum_decay", options.momentum_decay, 0);
}

std::vector<Optimizer::Average> NAdam::averages(const Options&) const {
  return {{"m"}, {"v"}, {.name = "M", .start = 1, .number = true}};
}

void NAdam::update(Update& u, const Options& o) {
  auto mu = [&](double t) { return o.beta1 * (1 - std::pow(0.96, t * o.momentum_decay) / 2); };
  double& M = *u.averages[2].data<double>();
  M *= mu(u.t);
  const double of_g = u.rate * (1 - mu(u.t)) / (1 - M);
  const double of_m = u.rate * mu(u.t + 1) / (1 - M * mu(u.t + 1));
  const double correction = 1 / std::sqrt(1 - std::pow(o.beta2, u.t));
  u.elementwise(
      [&]<class A>(A theta, A gradient, A m, A v) {
        using T = typename A::Scalar;
        auto g = gradient + T(o.weight_decay) * theta;
        m = T(o.beta1) * m + T(1 - o.beta1) * g;
        v = T(o.beta2) * v + T(1 - o.beta2) * g.square();
        theta -= (T(of_g) * g + T(of_m) * m) / (v.sqrt() * T(correction) + T(o.epsilon));
      },
      u.averages[0], u.averages[1]);
}

}  // namespace unroll
