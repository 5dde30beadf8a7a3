#include <layers/linear.h>

#include <cmath>

namespace unroll {

Linear::Linear(Index inputs, Index outputs, Generator& rng, Options options)
    : W({inputs, outputs}), b({options.bias ? outputs : 0}), has_bias_(options.bias) {
  double bound = 1 / std::sqrt(static_cast<double>(inputs));
  rng.fill_uniform(W.value(), -bound, bound);
  add("weight", W, {.transposed = true});
  if (!has_bias_) return;
  rng.fill_uniform(b.value(), -bound, bound);
  add("bias", b);
}

Var Linear::operator()(const Var& x, Source where) const {
  if (has_bias_) return matmul(x, W, where) + b;
  return matmul(x, W, where);
}

}  // namespace unroll
