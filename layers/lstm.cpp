#include <layers/lstm.h>

#include <autograd/autograd.h>

#include <cmath>

namespace unroll {

LSTMCell::LSTMCell(Index inputs, Index hidden, Generator& rng, Options options)
    : W_ih({inputs, 4 * hidden}), W_hh({hidden, 4 * hidden}), b({4 * hidden}) {
  double bound = 1 / std::sqrt(static_cast<double>(hidden));
  for (Parameter* p : {&W_ih, &W_hh, &b}) rng.fill_uniform(p->value(), -bound, bound);
  for (Index j = hidden; j < 2 * hidden; ++j) b.value().set({j}, options.forget_bias);
  add("weight_ih", W_ih, {.transposed = true});
  add("weight_hh", W_hh, {.transposed = true});
  add("bias_ih", b, {.summed_with = "bias_hh"});
}

Var LSTMCell::project(const Var& x) const { return matmul(x, W_ih) + b; }

LSTMCell::State LSTMCell::operator()(const Var& gates_x, const State& s) const {
  auto [i, f, g, o] = chunk<4>(gates_x + matmul(s.h, W_hh));
  Var c = sigmoid(f) * s.c + sigmoid(i) * tanh(g);
  Var h = sigmoid(o) * tanh(c);
  return {h, c};
}

}  // namespace unroll
