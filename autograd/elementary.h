#pragma once

// The elementary functions, element by element. How they are made, and what all of them have in common: elementwise.h.

#include <autograd/expression.h>

namespace unroll {

namespace ops {

struct Exp {
  static auto value(const auto& x) { return packet::exp(x); }
  static const auto& derivative(const auto&, const auto& y) { return y; }
};
struct Expm1 {
  static auto value(const auto& x) { return x.expm1(); }
  static auto derivative(const auto&, const auto& y) { return y + 1; }
};
struct Log {
  static auto value(const auto& x) { return x.log(); }
  static auto derivative(const auto& x, const auto&) { return x.inverse(); }
};
struct Log1p {
  static auto value(const auto& x) { return x.log1p(); }
  static auto derivative(const auto& x, const auto&) { return (x + 1).inverse(); }
};
struct Sqrt {
  static auto value(const auto& x) { return packet::sqrt(x); }
  static auto derivative(const auto&, const auto& y) { return (y + y).inverse(); }
};
struct Rsqrt {
  static auto value(const auto& x) { return packet::sqrt(x).inverse().eval(); }
  static auto derivative(const auto&, const auto& y) { return -0.5 * y * y * y; }
};
struct Square {
  static auto value(const auto& x) { return x * x; }
  static auto derivative(const auto& x, const auto&) { return x + x; }
};
struct Pow {
  static auto value(const auto& x, const auto& n) { return x.pow(n); }
  template <class P>
  static auto derivative(const P& x, const P& n, const P& y) {
    using namespace packet;
    return std::tuple{drop(equal(n, 0), P(n * x.pow(P(n - 1)))),
                      drop(both(equal(x, 0), less_equal(0, n)), P(y * x.log()))};
  }
};
namespace constant_exponent {  // which leaves out a logarithm
struct Pow : ops::Pow {
  static auto derivative(const auto& x, const auto& n, const auto& y) {
    return std::tuple{std::get<0>(ops::Pow::derivative(x, n, y)), None{}};
  }
};
}  // namespace constant_exponent
struct Abs {
  static auto value(const auto& x) { return x.abs(); }
  template <class P>
  static P derivative(const P& x, const P&) {
    return packet::keep(packet::less(0, x), 1) - packet::keep(packet::less(x, 0), 1);
  }
};
struct Sign {
  static auto value(const auto& x) { return Abs::derivative(x, x); }
  static auto derivative(const auto&, const auto&) { return Zero{}; }
};
struct Floor {
  static auto value(const auto& x) { return x.floor(); }
  static auto derivative(const auto&, const auto&) { return Zero{}; }
};
struct Ceil {
  static auto value(const auto& x) { return x.ceil(); }
  static auto derivative(const auto&, const auto&) { return Zero{}; }
};
struct Round {
  static auto value(const auto& x) { return x.rint(); }
  static auto derivative(const auto&, const auto&) { return Zero{}; }
};
struct Sin {
  static auto value(const auto& x) { return x.sin(); }
  static auto derivative(const auto& x, const auto&) { return x.cos(); }
};
struct Cos {
  static auto value(const auto& x) { return x.cos(); }
  static auto derivative(const auto& x, const auto&) { return -x.sin(); }
};
struct Tan {
  static auto value(const auto& x) { return x.tan(); }
  static auto derivative(const auto&, const auto& y) { return y * y + 1; }
};
struct Asin {
  static auto value(const auto& x) { return x.asin(); }
  template <class P>
  static P derivative(const P& x, const P&) {
    return packet::sqrt(P((1 - x) * (1 + x))).inverse();
  }
};
struct Acos {
  static auto value(const auto& x) { return x.acos(); }
  template <class P>
  static P derivative(const P& x, const P& y) {
    return -Asin::derivative(x, y);
  }
};
struct Atan {
  static auto value(const auto& x) { return x.atan(); }
  static auto derivative(const auto& x, const auto&) { return (x * x + 1).inverse(); }
};
struct Sinh {
  static auto value(const auto& x) { return x.sinh(); }
  static auto derivative(const auto& x, const auto&) { return x.cosh(); }
};
struct Cosh {
  static auto value(const auto& x) { return x.cosh(); }
  static auto derivative(const auto& x, const auto&) { return x.sinh(); }
};
struct Tanh {
  static auto value(const auto& x) { return x.tanh(); }
  static auto derivative(const auto&, const auto& y) { return 1 - y * y; }
};
struct Erf {
  static auto value(const auto& x) { return packet::erf(x); }
  template <class P>
  static P derivative(const P& x, const P&) {
    return two_over_root_pi * packet::exp(P(-x * x));
  }
  static constexpr double two_over_root_pi = 1.1283791670955126;
};

}  // namespace ops

/// y = e^x; y' = y.
template <class X>
  requires Operands<X>
auto exp(const X& x) {
  return apply<ops::Exp>(x);
}
/// y = e^x - 1, exact for x near 0; y' = y + 1.
template <class X>
  requires Operands<X>
auto expm1(const X& x) {
  return apply<ops::Expm1>(x);
}
/// y = ln x, for x > 0 (minus infinity at 0, NaN below); y' = 1 / x.
template <class X>
  requires Operands<X>
auto log(const X& x) {
  return apply<ops::Log>(x);
}
/// y = ln(1 + x), exact for x near 0, for x > -1 (minus infinity at -1, NaN below); y' = 1 / (1 + x).
template <class X>
  requires Operands<X>
auto log1p(const X& x) {
  return apply<ops::Log1p>(x);
}
/// y = the square root of x, for x >= 0 (NaN below). The derivative at 0 is infinite.
template <class X>
  requires Operands<X>
auto sqrt(const X& x) {
  return apply<ops::Sqrt>(x);
}
/// y = 1 / sqrt(x), for x > 0 (infinite at 0, NaN below); y' = -y^3 / 2.
template <class X>
  requires Operands<X>
auto rsqrt(const X& x) {
  return apply<ops::Rsqrt>(x);
}
/// y = x^2.
template <class X>
  requires Operands<X>
auto square(const X& x) {
  return apply<ops::Square>(x);
}
/// y = |x|; y' = sign(x): 0 at 0.
template <class X>
  requires Operands<X>
auto abs(const X& x) {
  return apply<ops::Abs>(x);
}
/// y = 1 for x > 0, -1 for x < 0, and 0 for 0 and NaN. The gradient is 0.
template <class X>
  requires Operands<X>
auto sign(const X& x) {
  return apply<ops::Sign>(x);
}
/// y = x^n. 0^0 = 1 and NaN^0 = 1; of a negative x only whole powers are no NaN.
/// dy/dx = n x^(n-1), which is 0 everywhere for n = 0; dy/dn = y ln x, and 0 where x = 0 and n >= 0.
template <class X, class N>
  requires Operands<X, N>
auto pow(const X& x, const N& n) {
  if constexpr (Number<N>)
    return apply<ops::constant_exponent::Pow>(x, n);
  else
    return apply<ops::Pow>(x, n);
}
/// y = the largest whole number not above x. The gradient is 0.
template <class X>
  requires Operands<X>
auto floor(const X& x) {
  return apply<ops::Floor>(x);
}
/// y = the smallest whole number not below x. The gradient is 0.
template <class X>
  requires Operands<X>
auto ceil(const X& x) {
  return apply<ops::Ceil>(x);
}
/// y = the whole number closest to x, of two the even one: 0.5 and 2.5 become 0 and 2. The gradient is 0.
template <class X>
  requires Operands<X>
auto round(const X& x) {
  return apply<ops::Round>(x);
}
/// y = sin x, x in radians.
template <class X>
  requires Operands<X>
auto sin(const X& x) {
  return apply<ops::Sin>(x);
}
/// y = cos x, x in radians.
template <class X>
  requires Operands<X>
auto cos(const X& x) {
  return apply<ops::Cos>(x);
}
/// y = tan x, x in radians; y' = 1 + y^2.
template <class X>
  requires Operands<X>
auto tan(const X& x) {
  return apply<ops::Tan>(x);
}
/// y = arcsin x in [-pi/2, pi/2], for |x| <= 1 (NaN beyond); y' = 1 / sqrt(1 - x^2), infinite at the ends.
template <class X>
  requires Operands<X>
auto asin(const X& x) {
  return apply<ops::Asin>(x);
}
/// y = arccos x in [0, pi], for |x| <= 1 (NaN beyond); y' = -1 / sqrt(1 - x^2), infinite at the ends.
template <class X>
  requires Operands<X>
auto acos(const X& x) {
  return apply<ops::Acos>(x);
}
/// y = arctan x in [-pi/2, pi/2]; y' = 1 / (1 + x^2).
template <class X>
  requires Operands<X>
auto atan(const X& x) {
  return apply<ops::Atan>(x);
}
/// y = (e^x - e^-x) / 2.
template <class X>
  requires Operands<X>
auto sinh(const X& x) {
  return apply<ops::Sinh>(x);
}
/// y = (e^x + e^-x) / 2.
template <class X>
  requires Operands<X>
auto cosh(const X& x) {
  return apply<ops::Cosh>(x);
}
/// y = tanh x, in [-1, 1]; y' = 1 - y^2.
template <class X>
  requires Operands<X>
auto tanh(const X& x) {
  return apply<ops::Tanh>(x);
}
/// y = 2 / sqrt(pi) times the integral of e^(-t^2) over t from 0 to x; y' = 2 / sqrt(pi) e^(-x^2).
template <class X>
  requires Operands<X>
auto erf(const X& x) {
  return apply<ops::Erf>(x);
}

}  // namespace unroll
