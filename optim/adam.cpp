#include <optim/adam.h>

#include <cmath>

namespace unroll::detail {

template <class Options>
void AdamRule<Options>::check_options(const Options& options) const {
  this->check("beta1", options.beta1, 0, 1);
  this->check("beta2", options.beta2, 0, 1);
  this->check("epsilon", options.epsilon, 0);
  this->check("weight_decay", options.weight_decay, 0);
}

template <class Options>
std::vector<Optimizer::Average> AdamRule<Options>::averages(const Options& options) const {
  if (options.amsgrad) return {{"m"}, {"v"}, {"v_max"}};
  return {{"m"}, {"v"}};
}

template <class Options>
void AdamRule<Options>::update(Optimizer::Update& u, const Options& o) {
  constexpr bool decoupled = std::is_same_v<Options, AdamWOptions>;
  const double decay = decoupled ? 0 : o.weight_decay, kept = decoupled ? 1 - u.rate * o.weight_decay : 1;
  const double step = u.rate / (1 - std::pow(o.beta1, u.t));
  const double correction = 1 / std::sqrt(1 - std::pow(o.beta2, u.t));
  auto average = [&]<class A>(A theta, A gradient, A m, A v) {
    using T = typename A::Scalar;
    auto g = gradient + T(decay) * theta;
    m = T(o.beta1) * m + T(1 - o.beta1) * g;
    v = T(o.beta2) * v + T(1 - o.beta2) * g.square();
  };
  auto move = [&]<class A>(A theta, A m, A v) {
    using T = typename A::Scalar;
    theta = T(kept) * theta - T(step) * m / (v.sqrt() * T(correction) + T(o.epsilon));
  };
  if (!o.amsgrad) {
    u.elementwise(
        [&]<class A>(A theta, A gradient, A m, A v) {
          average(theta, gradient, m, v);
          move(theta, m, v);
        },
        u.averages[0], u.averages[1]);
    return;
  }
  u.elementwise(
      [&]<class A>(A theta, A gradient, A m, A v, A v_max) {
        average(theta, gradient, m, v);
        v_max = v_max.max(v);
        move(theta, m, v_max);
      },
      u.averages[0], u.averages[1], u.averages[2]);
}

template class AdamRule<AdamOptions>;
template class AdamRule<AdamWOptions>;

}  // namespace unroll::detail
