#pragma once

// The activations of neural networks, element by element. How they are made, and what all of them have in common:
// elementwise.h. (tanh is in elementary.h.)

#include <autograd/elementwise.h>

namespace unroll {

namespace ops {

struct Sigmoid {
  static auto value(const auto& x) { return x.logistic(); }
  static auto derivative(const auto&, const auto& y) { return y * (1 - y); }
};
struct Softplus {
  template <class P>
  static P value(const P& x) {
    return packet::exp(P(-x.abs())).log1p() + packet::larger(x, 0);
  }
  static auto derivative(const auto& x, const auto&) { return x.logistic(); }
};
struct Softsign {
  static auto value(const auto& x) { return x / (1 + x.abs()); }
  static auto derivative(const auto& x, const auto&) { return (1 + x.abs()).square().inverse(); }
};
struct Relu {
  static auto value(const auto& x) { return packet::larger(x, 0); }
  static auto derivative(const auto& x, const auto&) { return Masked{packet::less(0, x)}; }
};
struct LeakyRelu {
  template <class P>
  static P value(const P& x, const P& slope) {
    return packet::select(packet::less(0, x), x, P(slope * x));
  }
  static auto derivative(const auto& x, const auto& slope, const auto&) {
    return std::tuple{packet::select(packet::less(0, x), 1, slope), None{}};
  }
};
struct Elu {
  template <class P>
  static P value(const P& x, const P& alpha) {
    return packet::select(packet::less(0, x), x, P(alpha * x.expm1()));
  }
  template <class P>
  static auto derivative(const P& x, const P& alpha, const P& y) {
    return std::tuple{packet::select(packet::less(0, x), 1, P(y + alpha)), None{}};
  }
};
struct Celu {
  template <class P>
  static P value(const P& x, const P& alpha) {
    return packet::select(packet::less(0, x), x, P(alpha * (x / alpha).expm1()));
  }
  template <class P>
  static auto derivative(const P& x, const P& alpha, const P& y) {
    return std::tuple{packet::select(packet::less(0, x), 1, P(y / alpha + 1)), None{}};
  }
};
/// x / (1 + e^-u). Of Duals, the tangent would overflow sooner than the value.
template <class P>
UNROLL_INLINE P times_logistic(const P& x, const P& u) {
  if constexpr (std::is_same_v<P, Packet<Dual>>)
    return x * u.logistic();
  else
    return x / (1 + packet::exp(P(-u)));
}

struct Silu {
  template <class P>
  static P value(const P& x) {
    return times_logistic(x, x);
  }
  template <class P>
  static P derivative(const P& x, const P& y) {
    const P s = x.logistic();
    return s + y * (1 - s);
  }
};
struct Gelu {
  template <class P>
  static P value(const P& x) {
    return x * distribution(x);
  }
  template <class P>
  static P derivative(const P& x, const P&) {
    return distribution(x) + x * (density_at_0 * packet::exp(P(-0.5 * x * x)));
  }
  /// Of the standard normal distribution.
  template <class P>
  static P distribution(const P& x) {
    return 0.5 + 0.5 * packet::erf(P(root_half * x));
  }
  static constexpr double root_half = 0.7071067811865476, density_at_0 = 0.3989422804014327;
};
struct GeluTanh {
  template <class P>
  static P value(const P& x) {
    return times_logistic(x, P(x * (a + b * x * x)));
  }
  template <class P>
  static P derivative(const P& x, const P& y) {
    const P s = P(x * (a + b * x * x)).logistic();
    return s + y * (1 - s) * (a + (3 * b) * P(packet::smaller(P(x * x), 1e4)));  // beyond, s is 0 or 1
  }
  static constexpr double a = 1.5957691216057308, b = 0.044715 * a;  // twice sqrt(2 / pi): 1 + tanh(u) = 2 sigmoid(2u)
};

}  // namespace ops

/// y = 1 / (1 + e^-x), in [0, 1]; y' = y (1 - y). In float32 within 2e-7, not in proportion to y: for the logarithm of
/// small ones there is log_sigmoid.
template <class X>
  requires Operands<X>
auto sigmoid(const X& x) {
  return apply<ops::Sigmoid>(x);
}
/// y = ln(1 + e^x), computed as max(x, 0) + log1p(e^-|x|), which does not overflow; y' = sigmoid(x).
template <class X>
  requires Operands<X>
auto softplus(const X& x) {
  return apply<ops::Softplus>(x);
}
/// y = ln sigmoid(x) = -softplus(-x), exact where sigmoid(x) is 0 or 1 in floating point too.
template <class X>
  requires Operands<X>
auto log_sigmoid(const X& x) {
  return -softplus(-x);
}
/// y = x / (1 + |x|), in [-1, 1]; y' = 1 / (1 + |x|)^2.
template <class X>
  requires Operands<X>
auto softsign(const X& x) {
  return apply<ops::Softsign>(x);
}
/// y = max(x, 0); y' is 1 for x > 0 and 0 elsewhere, at 0 too.
template <class X>
  requires Operands<X>
auto relu(const X& x) {
  return apply<ops::Relu>(x);
}
/// y = x for x > 0, slope x elsewhere (Maas et al. 2013); y' at 0 is the slope.
template <class X>
  requires Operands<X>
auto leaky_relu(const X& x, double slope = 0.01) {
  return apply<ops::LeakyRelu>(x, slope);
}
/// y = x for x > 0, alpha (e^x - 1) elsewhere (Clevert et al. 2016, equation 15); y' at 0 is alpha.
template <class X>
  requires Operands<X>
auto elu(const X& x, double alpha = 1) {
  return apply<ops::Elu>(x, alpha);
}
/// y = lambda elu(x, alpha) with the numbers that keep mean 0 and variance 1 (Klambauer et al. 2017, equation 14).
template <class X>
  requires Operands<X>
auto selu(const X& x) {
  return 1.0507009873554805 * elu(x, 1.6732632423543772);
}
/// y = x for x > 0, alpha (e^(x / alpha) - 1) elsewhere, whose derivative has no jump (Barron 2017, equation 2).
/// Throws Error when alpha is 0.
template <class X>
  requires Operands<X>
auto celu(const X& x, double alpha = 1, Source where = Source::here()) {
  if (alpha == 0) fail_at(where, "celu: alpha is 0, by which x is divided; use relu");
  return apply<ops::Celu>(x, alpha);
}
/// y = x sigmoid(x) (Elfwing et al. 2018; "swish").
template <class X>
  requires Operands<X>
auto silu(const X& x) {
  return apply<ops::Silu>(x);
}
/// y = x P(Z <= x) for a standard normal Z, = x (1 + erf(x / sqrt(2))) / 2 (Hendrycks and Gimpel 2016).
template <class X>
  requires Operands<X>
auto gelu(const X& x) {
  return apply<ops::Gelu>(x);
}
/// y = x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2: its approximation in the same paper.
template <class X>
  requires Operands<X>
auto gelu_tanh(const X& x) {
  return apply<ops::GeluTanh>(x);
}

}  // namespace unroll
