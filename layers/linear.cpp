#include <layers/linear.h>

#include <autograd/views.h>
#include <layers/check_input.h>
#include <layers/initialize.h>

#include <cmath>

namespace unroll {

namespace {

/// The sizes of W, checked before there is memory for it.
Shape weight_shape(Index inputs, Index outputs) {
  if (inputs < 1 || outputs < 1) fail("Linear: {} inputs and {} outputs; each must be at least 1", inputs, outputs);
  return {inputs, outputs};
}

}  // namespace

Linear::Linear(Index inputs, Index outputs, Generator& rng, Options options)
    : W(weight_shape(inputs, outputs)), b({options.bias ? outputs : 0}), has_bias_(options.bias) {
  const double bound = 1 / std::sqrt(static_cast<double>(inputs));
  initialize::uniform(W, rng, -bound, bound);
  add("weight", W, {.transposed = true});
  if (!has_bias_) return;
  initialize::uniform(b, rng, -bound, bound);
  add("bias", b);
}

Var Linear::operator()(const Var& x, Source where) const {
  detail::check_input("Linear", x, W.shape()[0], W, where);
  if (has_bias_) return matmul(x, W, where) + b;
  return matmul(x, W, where);
}

TiedLinear::TiedLinear(Parameter& weight, Options options)
    : W(weight), b({options.bias && weight.shape().rank() > 0 ? weight.shape()[0] : 0}), has_bias_(options.bias) {
  if (W.shape().rank() != 2) fail("TiedLinear: the weight is {}; it must be a table [outputs, inputs]", W.shape());
  b.to(W.dtype());
  add("weight", W);
  if (has_bias_) add("bias", b);
}

Var TiedLinear::operator()(const Var& h, Source where) const {
  detail::check_input("TiedLinear", h, W.shape()[1], W, where);
  detail::Graph& graph = *h.graph();
  const Var transposed = transpose(graph.var(graph.bind(W, where)), -2, -1, where);
  if (has_bias_) return matmul(h, transposed, where) + b;
  return matmul(h, transposed, where);
}

}  // namespace unroll
