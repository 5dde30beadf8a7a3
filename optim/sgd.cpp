#include <optim/sgd.h>

namespace unroll {

void SGD::check_options(const Options& options) const {
  check("momentum", options.momentum, 0, 1);
  check("dampening", options.dampening, 0, 1);
  check("weight_decay", options.weight_decay, 0);
  if (options.nesterov && (options.momentum == 0 || options.dampening != 0))
    fail("SGD: Nesterov's momentum needs a momentum above 0 and no dampening; these are {} and {}", options.momentum,
         options.dampening);
}

std::vector<Optimizer::Average> SGD::averages(const Options& options) const {
  if (options.momentum == 0) return {};
  return {{"velocity"}};
}

void SGD::update(Update& u, const Options& o) {
  if (o.momentum == 0) {
    u.elementwise([&]<class A>(A theta, A gradient) {
      using T = typename A::Scalar;
      theta -= T(u.rate) * (gradient + T(o.weight_decay) * theta);
    });
    return;
  }
  const double fresh = u.t == 1 ? 1 : 1 - o.dampening;  // v starts at 0
  // What v and g add to the direction.
  const double of_v = o.nesterov ? o.momentum : 1, of_g = o.nesterov ? 1 : 0;
  u.elementwise(
      [&]<class A>(A theta, A gradient, A v) {
        using T = typename A::Scalar;
        auto g = gradient + T(o.weight_decay) * theta;
        v = T(o.momentum) * v + T(fresh) * g;
        theta -= T(u.rate) * (T(of_v) * v + T(of_g) * g);
      },
      u.averages[0]);
}

}  // namespace unroll
