#include <layers/lstm.h>

#include <autograd/autograd.h>

#include <cmath>

namespace unroll {

LSTMCell::LSTMCell(Index inputs, Index hidden, Generator& rng, Options options) : hidden_(hidden), options_(options) {
  if (options.projection < 0 || options.projection >= hidden)
    fail("LSTM: a projection of {} to {} units; it must be to fewer, or 0 for none", hidden, options.projection);
  const Index columns = (options.coupled ? 3 : 4) * hidden;
  auto add_uniform = [&](std::string_view name, Parameter& p, const Shape& shape, Stored stored) {
    p.value() = Tensor(shape);
    const double bound = 1 / std::sqrt(static_cast<double>(hidden));
    rng.fill_uniform(p.value(), -bound, bound);
    add(name, p, stored);
  };
  auto add_constant = [&](std::string_view name, Parameter& p, const Shape& shape, double value) {
    p.value() = Tensor::full(shape, value);
    add(name, p);
  };
  add_uniform("weight_ih", W_ih, {inputs, columns}, {.transposed = true});
  add_uniform("weight_hh", W_hh, {state_size(0), columns}, {.transposed = true});
  if (options.bias) {
    add_uniform("bias_ih", b, {columns}, {.summed_with = "bias_hh"});
    const Index f = options.coupled ? 0 : hidden;  // the forget gate's columns
    for (Index j = f; j < f + hidden; ++j) b.value().set({j}, options.forget_bias);
  }
  if (options.projection > 0) add_uniform("weight_hr", W_hr, {hidden, options.projection}, {.transposed = true});
  if (options.peepholes) {
    if (!options.coupled) add_constant("peephole_i", peephole_i, {hidden}, 0);
    add_constant("peephole_f", peephole_f, {hidden}, 0);
    add_constant("peephole_o", peephole_o, {hidden}, 0);
  }
  if (options.layer_norm) {
    add_constant("gain_ih", gain_ih, {columns}, 1);
    add_constant("gain_hh", gain_hh, {columns}, 1);
    add_constant("gain_c", gain_c, {hidden}, 1);
    add_constant("bias_c", bias_c, {hidden}, 0);
  }
}

Var LSTMCell::project(const Var& x) const {
  const Var product = options_.layer_norm ? layer_norm(matmul(x, W_ih), gain_ih) : Var();
  if (!options_.bias) return product ? product : Var(matmul(x, W_ih));
  return product ? Var(product + b) : Var(matmul(x, W_ih) + b);
}

/// What the gates are functions of; of o without its peephole, which waits for c.
LSTMCell::Gates LSTMCell::sums(const Var& gates_x, const State& s) const {
  const Var a =
      options_.layer_norm ? Var(gates_x + layer_norm(matmul(s.h, W_hh), gain_hh)) : Var(gates_x + matmul(s.h, W_hh));
  if (options_.coupled) {
    auto [f, g, o] = chunk<3>(a);
    if (options_.peepholes) f = f + peephole_f * s.c;
    return {-f, f, g, o};  // s(-f) = 1 - s(f)
  }
  auto [i, f, g, o] = chunk<4>(a);
  if (!options_.peepholes) return {i, f, g, o};
  return {i + peephole_i * s.c, f + peephole_f * s.c, g, o};
}

LSTMCell::State LSTMCell::operator()(const Var& gates_x, const State& s) const {
  auto [i, f, g, o] = sums(gates_x, s);
  Var c = sigmoid(f) * s.c + sigmoid(i) * tanh(g);
  if (options_.peepholes) o = o + peephole_o * c;
  Var h = sigmoid(o) * tanh(options_.layer_norm ? layer_norm(c, gain_c, bias_c) : c);
  if (options_.projection > 0) h = matmul(h, W_hr);
  return {h, c};
}

LSTMCell::Gates LSTMCell::gates(const Var& gates_x, const State& before, const State& after) const {
  auto [i, f, g, o] = sums(gates_x, before);
  if (options_.peepholes) o = o + peephole_o * after.c;
  return {sigmoid(i), sigmoid(f), tanh(g), sigmoid(o)};
}

template class Recurrent<LSTMCell>;

}  // namespace unroll
