#include <optim/adagrad.h>

namespace unroll {

void Adagrad::check_options(const Options& options) const {
  check("rate_decay", options.rate_decay, 0);
  check("weight_decay", options.weight_decay, 0);
  check("start", options.start, 0);
  check("epsilon", options.epsilon, 0);
}

std::vector<Optimizer::Average> Adagrad::averages(const Options& options) const {
  return {{.name = "G", .start = options.start}};
}

void Adagrad::update(Update& u, const Options& o) {
  const double rate = u.rate / (1 + (u.t - 1) * o.rate_decay);
  u.elementwise(
      [&]<class A>(A theta, A gradient, A G) {
        using T = typename A::Scalar;
        auto g = gradient + T(o.weight_decay) * theta;
        G += g.square();
        theta -= T(rate) * g / (G.sqrt() + T(o.epsilon));
      },
      u.averages[0]);
}

}  // namespace unroll
