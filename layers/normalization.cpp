#include <layers/normalization.h>

#include <autograd/normalize.h>
#include <layers/check_input.h>
#include <layers/initialize.h>

#include <cmath>

namespace unroll {

namespace {

/// The shape of a gain, checked before there is memory for it.
Shape gain_shape(const char* layer, Index size, double epsilon) {
  if (size < 1) fail("{}: the size is {}; it must be at least 1", layer, size);
  if (!(epsilon > 0 && std::isfinite(epsilon))) fail("{}: epsilon is {}; it must be above 0", layer, epsilon);
  return {size};
}

}  // namespace

LayerNorm::LayerNorm(Index size, Options options)
    : gain(gain_shape("LayerNorm", size, options.epsilon)),
      bias({options.bias ? size : 0}),
      epsilon_(options.epsilon),
      has_bias_(options.bias) {
  initialize::constant(gain, 1);
  add("weight", gain);
  if (has_bias_) add("bias", bias);
}

Var LayerNorm::operator()(const Var& x, Source where) const {
  detail::check_input("LayerNorm", x, gain.size(), gain, where);
  return has_bias_ ? layer_norm(x, gain, bias, epsilon_, where) : layer_norm(x, gain, epsilon_, where);
}

RMSNorm::RMSNorm(Index size, Options options)
    : gain(gain_shape("RMSNorm", size, options.epsilon)), epsilon_(options.epsilon) {
  initialize::constant(gain, 1);
  add("weight", gain);
}

Var RMSNorm::operator()(const Var& x, Source where) const {
  detail::check_input("RMSNorm", x, gain.size(), gain, where);
  return rms_norm(x, gain, epsilon_, where);
}

}  // namespace unroll
