#include <optim/rmsprop.h>

#include <array>

namespace unroll {

void RMSprop::check_options(const Options& options) const {
  check("alpha", options.alpha, 0, 1);
  check("epsilon", options.epsilon, 0);
  check("weight_decay", options.weight_decay, 0);
  check("momentum", options.momentum, 0, 1);
}

std::vector<Optimizer::Average> RMSprop::averages(const Options& options) const {
  std::vector<Average> names = {{"v"}};
  if (options.centred) names.push_back({"a"});
  if (options.momentum > 0) names.push_back({"b"});
  return names;
}

void RMSprop::update(Update& u, const Options& o) {
  const bool centred = o.centred;
  auto pass = [&]<class A, class... As>(A theta, A gradient, A v, As... rest) {
    using T = typename A::Scalar;
    std::array<A*, 3> more{&rest...};
    A *a = centred ? more[0] : nullptr, *b = o.momentum > 0 ? more[centred ? 1 : 0] : nullptr;
    const T alpha = T(o.alpha), epsilon = T(o.epsilon);
    const detail::Piece<T> g = gradient + T(o.weight_decay) * theta;
    v = alpha * v + (T(1) - alpha) * g.square();
    detail::Piece<T> d;
    if (a != nullptr) {
      *a = alpha * *a + (T(1) - alpha) * g;
      d = g / ((v - a->square()).max(T(0)).sqrt() + epsilon);  // the difference may be rounded to below 0
    } else {
      d = g / (v.sqrt() + epsilon);
    }
    if (b != nullptr) d = *b = T(o.momentum) * *b + d;
    theta -= T(u.rate) * d;
  };
  switch (u.averages.size()) {
    case 1:
      return u.elementwise(pass, u.averages[0]);
    case 2:
      return u.elementwise(pass, u.averages[0], u.averages[1]);
    default:
      return u.elementwise(pass, u.averages[0], u.averages[1], u.averages[2]);
  }
}

}  // namespace unroll
