#include <layers/rnn.h>

#include <autograd/autograd.h>

#include <cmath>

namespace unroll {

RNNCell::RNNCell(Index inputs, Index hidden, Generator& rng, Options)
    : W_xh({inputs, hidden}), W_hh({hidden, hidden}), b({hidden}) {
  double bound = 1 / std::sqrt(static_cast<double>(hidden));
  for (Parameter* p : {&W_xh, &W_hh, &b}) rng.fill_uniform(p->value(), -bound, bound);
  add("weight_ih", W_xh, {.transposed = true});
  add("weight_hh", W_hh, {.transposed = true});
  add("bias_ih", b, {.summed_with = "bias_hh"});
}

Var RNNCell::project(const Var& x) const { return matmul(x, W_xh) + b; }

RNNCell::State RNNCell::operator()(const Var& x, const State& s) const {
  Var h = tanh(x + matmul(s.h, W_hh));
  return {h};
}

}  // namespace unroll
