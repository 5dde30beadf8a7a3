#include <layers/gru.h>

#include <autograd/autograd.h>

#include <cmath>

namespace unroll {

GRUCell::GRUCell(Index inputs, Index hidden, Generator& rng, Options options) : options_(options) {
  const Index columns = (options.reset_after ? 3 : 2) * hidden;
  auto add_uniform = [&](std::string_view name, Parameter& p, const Shape& shape, bool transposed) {
    p.value() = Tensor(shape);
    const double bound = 1 / std::sqrt(static_cast<double>(hidden));
    rng.fill_uniform(p.value(), -bound, bound);
    add(name, p, {.transposed = transposed});
  };
  auto add_gain = [&](std::string_view name, Parameter& p, Index size) {
    p.value() = Tensor::full({size}, 1);
    add(name, p);
  };
  add_uniform("weight_ih", W_ih, {inputs, 3 * hidden}, true);
  add_uniform("weight_hh", W_hh, {hidden, columns}, true);
  if (!options.reset_after) add_uniform("weight_hn", W_hn, {hidden, hidden}, true);
  if (options.bias) add_uniform("bias_ih", b_ih, {3 * hidden}, false);
  if (options.bias && options.reset_after) add_uniform("bias_hh", b_hh, {3 * hidden}, false);
  if (!options.layer_norm) return;
  add_gain("gain_ih", gain_ih, 3 * hidden);
  add_gain("gain_hh", gain_hh, columns);
  if (!options.reset_after) add_gain("gain_hn", gain_hn, hidden);
}

Var GRUCell::project(const Var& x) const {
  const Var product = options_.layer_norm ? layer_norm(matmul(x, W_ih), gain_ih) : Var();
  if (!options_.bias) return product ? product : Var(matmul(x, W_ih));
  return product ? Var(product + b_ih) : Var(matmul(x, W_ih) + b_ih);
}

/// What the gates take from the step before.
Var GRUCell::recurrent(const Var& h) const {
  const bool bias = options_.bias && options_.reset_after;
  if (!options_.layer_norm) return bias ? Var(matmul(h, W_hh) + b_hh) : Var(matmul(h, W_hh));
  const Var product = layer_norm(matmul(h, W_hh), gain_hh);
  return bias ? Var(product + b_hh) : product;
}

Var GRUCell::candidate(const Var& reset) const {
  return options_.layer_norm ? layer_norm(matmul(reset, W_hn), gain_hn) : Var(matmul(reset, W_hn));
}

GRUCell::State GRUCell::operator()(const Var& gates_x, const State& s, const Var& h) const {
  auto [r_x, z_x, n_x] = chunk<3>(gates_x);
  if (options_.reset_after) {
    auto [r_h, z_h, n_h] = chunk<3>(recurrent(h));
    Var n = tanh(n_x + sigmoid(r_x + r_h) * n_h);
    Var z = sigmoid(z_x + z_h);
    return {(1 - z) * n + z * s.h};
  }
  auto [r_h, z_h] = chunk<2>(recurrent(h));
  Var reset = sigmoid(r_x + r_h) * h;
  Var n = tanh(n_x + candidate(reset));
  Var z = sigmoid(z_x + z_h);
  return {(1 - z) * n + z * s.h};
}

GRUCell::Gates GRUCell::gates(const Var& gates_x, const State& before, const State&) const {
  auto [r_x, z_x, n_x] = chunk<3>(gates_x);
  const Var a = recurrent(before.h);
  const Index hidden = before.h.size(1);
  Var r = sigmoid(r_x + slice(a, 1, 0, hidden)), z = sigmoid(z_x + slice(a, 1, hidden, 2 * hidden));
  if (!options_.reset_after) return {r, z, tanh(n_x + candidate(r * before.h))};
  return {r, z, tanh(n_x + r * slice(a, 1, 2 * hidden, 3 * hidden))};
}

template class Recurrent<GRUCell>;

}  // namespace unroll
