#include <layers/gru.h>

#include <autograd/autograd.h>

#include <cmath>

namespace unroll {

GRUCell::GRUCell(Index inputs, Index hidden, Generator& rng, Options)
    : W_ih({inputs, 3 * hidden}), W_hh({hidden, 3 * hidden}), b_ih({3 * hidden}), b_hh({3 * hidden}) {
  double bound = 1 / std::sqrt(static_cast<double>(hidden));
  for (Parameter* p : {&W_ih, &W_hh, &b_ih, &b_hh}) rng.fill_uniform(p->value(), -bound, bound);
  add("weight_ih", W_ih, {.transposed = true});
  add("weight_hh", W_hh, {.transposed = true});
  add("bias_ih", b_ih);
  add("bias_hh", b_hh);
}

Var GRUCell::project(const Var& x) const { return matmul(x, W_ih) + b_ih; }

GRUCell::State GRUCell::operator()(const Var& gates_x, const State& s) const {
  auto [r_x, z_x, n_x] = chunk<3>(gates_x);
  auto [r_h, z_h, n_h] = chunk<3>(matmul(s.h, W_hh) + b_hh);
  Var n = tanh(n_x + sigmoid(r_x + r_h) * n_h);
  Var z = sigmoid(z_x + z_h);
  Var h = (1 - z) * n + z * s.h;
  return {h};
}

}  // namespace unroll
