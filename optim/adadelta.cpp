#include <optim/adadelta.h>

namespace unroll {

void Adadelta::check_options(const Options& options) const {
  check("rho", options.rho, 0, 1);
  check("epsilon", options.epsilon, 0);
  check("weight_decay", options.weight_decay, 0);
}

std::vector<Optimizer::Average> Adadelta::averages(const Options&) const { return {{"v"}, {"u"}}; }

void Adadelta::update(Update& one, const Options& o) {
  one.elementwise(
      [&]<class A>(A theta, A gradient, A v, A u) {
        using T = typename A::Scalar;
        const T rho = T(o.rho), epsilon = T(o.epsilon);
        const detail::Piece<T> g = gradient + T(o.weight_decay) * theta;
        v = rho * v + (T(1) - rho) * g.square();
        const detail::Piece<T> d = ((u + epsilon) / (v + epsilon)).sqrt() * g;
        u = rho * u + (T(1) - rho) * d.square();
        theta -= T(one.rate) * d;
      },
      one.averages[0], one.averages[1]);
}

}  // namespace unroll
