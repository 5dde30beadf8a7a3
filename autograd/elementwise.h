#pragma once

// The element-wise operations, each in one place: a struct with `value` and, under it, `derivative`, then
// the function that users call. Nothing else has to be touched to add one. Both work on Packets (a few
// elements of one type at once); a derivative may use the value `y` that was just computed.
//
// Of several operands, `derivative` returns one entry each; One, MinusOne and Zero cost nothing.
// All functions broadcast (see `broadcast`) and throw Error on shapes or types that do not agree.

#include <autograd/expression.h>

namespace unroll {

namespace ops {

struct Add {
  static auto value(const auto& a, const auto& b) { return a + b; }
  static auto derivative(const auto&, const auto&, const auto&) { return std::tuple{One{}, One{}}; }
};
struct Subtract {
  static auto value(const auto& a, const auto& b) { return a - b; }
  static auto derivative(const auto&, const auto&, const auto&) { return std::tuple{One{}, MinusOne{}}; }
};
struct Multiply {
  static auto value(const auto& a, const auto& b) { return a * b; }
  static auto derivative(const auto& a, const auto& b, const auto&) { return std::tie(b, a); }
};
struct Divide {
  static auto value(const auto& a, const auto& b) { return a / b; }
  template <class P>
  static auto derivative(const P&, const P& b, const P& y) {
    P inverse = b.inverse();
    return std::tuple<P, P>{inverse, -y * inverse};
  }
};
struct Negate {
  static auto value(const auto& x) { return -x; }
  static auto derivative(const auto&, const auto&) { return MinusOne{}; }
};
struct Exp {
  static auto value(const auto& x) { return x.exp(); }
  static const auto& derivative(const auto&, const auto& y) { return y; }
};
struct Log {
  static auto value(const auto& x) { return x.log(); }
  static auto derivative(const auto& x, const auto&) { return x.inverse(); }
};
struct Sqrt {
  static auto value(const auto& x) { return x.sqrt(); }
  static auto derivative(const auto&, const auto& y) { return (y + y).inverse(); }
};
struct Square {
  static auto value(const auto& x) { return x * x; }
  static auto derivative(const auto& x, const auto&) { return x + x; }
};
struct Tanh {
  static auto value(const auto& x) { return x.tanh(); }
  static auto derivative(const auto&, const auto& y) { return 1 - y * y; }
};
struct Sigmoid {
  static auto value(const auto& x) { return x.logistic(); }
  static auto derivative(const auto&, const auto& y) { return y * (1 - y); }
};
struct Relu {
  template <class P>
  static auto value(const P& x) {
    return x.max(P::Zero());
  }
  template <class P>
  static auto derivative(const P& x, const P&) {
    return (x > P::Zero()).select(P::Ones(), P::Zero());
  }
};

}  // namespace ops

/// a + b, a - b, a * b, a / b and -a, element by element.
template <class A, class B>
  requires Operands<A, B> && (!detail::AffineSum<A, B>)
auto operator+(const A& a, const B& b) {
  return apply<ops::Add>(a, b);
}
template <class A, class B>
  requires Operands<A, B>
auto operator-(const A& a, const B& b) {
  return apply<ops::Subtract>(a, b);
}
template <class A, class B>
  requires Operands<A, B>
auto operator*(const A& a, const B& b) {
  return apply<ops::Multiply>(a, b);
}
template <class A, class B>
  requires Operands<A, B>
auto operator/(const A& a, const B& b) {
  return apply<ops::Divide>(a, b);
}
template <class A>
  requires Operands<A>
auto operator-(const A& a) {
  return apply<ops::Negate>(a);
}

/// y = e^x.
template <class X>
  requires Operands<X>
auto exp(const X& x) {
  return apply<ops::Exp>(x);
}
/// y = ln x, for x > 0 (minus infinity at 0, NaN below).
template <class X>
  requires Operands<X>
auto log(const X& x) {
  return apply<ops::Log>(x);
}
/// y = the square root of x, for x >= 0. The derivative at 0 is infinite.
template <class X>
  requires Operands<X>
auto sqrt(const X& x) {
  return apply<ops::Sqrt>(x);
}
/// y = x^2.
template <class X>
  requires Operands<X>
auto square(const X& x) {
  return apply<ops::Square>(x);
}
/// y = tanh x, in [-1, 1]; y' = 1 - y^2.
template <class X>
  requires Operands<X>
auto tanh(const X& x) {
  return apply<ops::Tanh>(x);
}
/// y = 1 / (1 + e^-x), in [0, 1]; y' = y (1 - y).
template <class X>
  requires Operands<X>
auto sigmoid(const X& x) {
  return apply<ops::Sigmoid>(x);
}
/// y = max(x, 0); y' is 1 for x > 0 and 0 elsewhere, at 0 too.
template <class X>
  requires Operands<X>
auto relu(const X& x) {
  return apply<ops::Relu>(x);
}

}  // namespace unroll
