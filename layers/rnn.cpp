#include <layers/rnn.h>

#include <autograd/autograd.h>

#include <cmath>

namespace unroll {

RNNCell::RNNCell(Index inputs, Index hidden, Generator& rng, Options options)
    : W_xh({inputs, hidden}), W_hh({hidden, hidden}), b({options.bias ? hidden : 0}), options_(options) {
  const double bound = 1 / std::sqrt(static_cast<double>(hidden));
  for (Parameter* p : {&W_xh, &W_hh, &b}) rng.fill_uniform(p->value(), -bound, bound);
  add("weight_ih", W_xh, {.transposed = true});
  add("weight_hh", W_hh, {.transposed = true});
  if (options.bias) add("bias_ih", b, {.summed_with = "bias_hh"});
  if (!options.layer_norm) return;
  gain_ih.value() = gain_hh.value() = Tensor::full({hidden}, 1);
  add("gain_ih", gain_ih);
  add("gain_hh", gain_hh);
}

Var RNNCell::project(const Var& x) const {
  const Var product = options_.layer_norm ? layer_norm(matmul(x, W_xh), gain_ih) : Var();
  if (!options_.bias) return product ? product : Var(matmul(x, W_xh));
  return product ? Var(product + b) : Var(matmul(x, W_xh) + b);
}

RNNCell::State RNNCell::operator()(const Var& x, const State& s) const {
  const Var a = options_.layer_norm ? Var(x + layer_norm(matmul(s.h, W_hh), gain_hh)) : Var(x + matmul(s.h, W_hh));
  Var h = options_.nonlinearity == Nonlinearity::relu ? Var(relu(a)) : Var(tanh(a));
  return {h};
}

template class Recurrent<RNNCell>;

}  // namespace unroll
