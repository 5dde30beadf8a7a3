#pragma once

// The element-wise operations: arithmetic, comparisons and choices here, functions of one number in elementary.h and
// activations.h. Each is in one place: a struct with `value` and, under it, `derivative`, then the function that users
// call. Nothing else has to be touched to add one. Both work on Packets (a few elements of one type at once; see
// packet.h for what they offer); a derivative may use the value `y` that was just computed, and returns a Packet, an
// Eigen expression of one, or One, MinusOne, Zero, None or Masked. Of several operands it returns one entry each.
//
// Whatever is combined becomes one node of the tape. All functions broadcast (see `broadcast`) and throw Error on
// shapes or types that do not agree, when the statement they are part of becomes a Var.
//
// NaN in gradients: where the gradient that arrives at a statement is exactly 0, or a branch of an operation that
// chooses (where, maximum, minimum, clamp, relu, ...) is not taken, exactly 0 goes on from there, even if the
// derivative is infinite or NaN: `where(x > 0, log(x), 0)` is safe, in one statement or with `Var y = log(x)` before.
//
// Accuracy, unless an operation says otherwise: relative errors of a few 1e-7 in float32 and a few 1e-16 in float64.

#include <autograd/elementary.h>

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

// Masks of 1 and 0.
struct Less {
  static auto value(const auto& a, const auto& b) { return packet::keep(packet::less(a, b), 1); }
  static auto derivative(const auto&, const auto&, const auto&) { return std::tuple{None{}, None{}}; }
};
struct LessEqual {
  static auto value(const auto& a, const auto& b) { return packet::keep(packet::less_equal(a, b), 1); }
  static auto derivative(const auto&, const auto&, const auto&) { return std::tuple{None{}, None{}}; }
};
struct Greater {
  static auto value(const auto& a, const auto& b) { return Less::value(b, a); }
  static auto derivative(const auto&, const auto&, const auto&) { return std::tuple{None{}, None{}}; }
};
struct GreaterEqual {
  static auto value(const auto& a, const auto& b) { return LessEqual::value(b, a); }
  static auto derivative(const auto&, const auto&, const auto&) { return std::tuple{None{}, None{}}; }
};
struct Equal {
  static auto value(const auto& a, const auto& b) { return packet::keep(packet::equal(a, b), 1); }
  static auto derivative(const auto&, const auto&, const auto&) { return std::tuple{None{}, None{}}; }
};
struct NotEqual {
  static auto value(const auto& a, const auto& b) { return packet::drop(packet::equal(a, b), 1); }
  static auto derivative(const auto&, const auto&, const auto&) { return std::tuple{None{}, None{}}; }
};

struct Where {
  static auto value(const auto& mask, const auto& a, const auto& b) {
    return packet::select(packet::equal(mask, 0), b, a);
  }
  static auto derivative(const auto& mask, const auto&, const auto&, const auto&) {
    auto second = packet::equal(mask, 0);
    return std::tuple{None{}, Masked{packet::no(second)}, Masked{second}};
  }
};
struct Maximum {
  static auto value(const auto& a, const auto& b) { return packet::larger(a, b); }
  static auto derivative(const auto& a, const auto& b, const auto&) {
    auto share = packet::select(packet::equal(a, b), 0.5, 1);
    return std::tuple{Masked{packet::no(packet::less(a, b)), share}, Masked{packet::no(packet::less(b, a)), share}};
  }
};
struct Minimum {
  static auto value(const auto& a, const auto& b) { return packet::smaller(a, b); }
  static auto derivative(const auto& a, const auto& b, const auto& y) { return Maximum::derivative(b, a, y); }
};
struct Clamp {
  static auto value(const auto& x, const auto& low, const auto& high) {
    return packet::smaller(packet::larger(x, low), high);
  }
  static auto derivative(const auto& x, const auto& low, const auto& high, const auto&) {
    using namespace packet;
    return std::tuple{Masked{both(less_equal(low, x), less_equal(x, high))},
                      Masked{both(less(x, low), less(low, high))}, Masked{either(less(high, x), less(high, low))}};
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
/// y = a b + c; rounded once where the processor has such an instruction.
template <class A, class B, class C>
  requires Operands<A, B, C>
auto fma(const A& a, const B& b, const C& c) {
  return apply<ops::Add>(apply<ops::Multiply>(a, b), c);
}

// Comparisons make masks: 1 where they hold and 0 elsewhere, of the operands' type, for `where` or to be multiplied
// by. They are no bool: `if (a == b)` on Vars does not compile. Masks combine: a * b is "and", maximum(a, b) "or",
// 1 - a "not". No gradient flows through; a Var that is a mask needs none (`needs_grad()` is false). Comparisons with a
// NaN are 0, but for a != b, which is 1.

/// a < b, a <= b, a > b, a >= b, a == b and a != b, element by element: 1 or 0.
template <class A, class B>
  requires Operands<A, B>
auto operator<(const A& a, const B& b) {
  return apply<ops::Less>(a, b);
}
template <class A, class B>
  requires Operands<A, B>
auto operator<=(const A& a, const B& b) {
  return apply<ops::LessEqual>(a, b);
}
template <class A, class B>
  requires Operands<A, B>
auto operator>(const A& a, const B& b) {
  return apply<ops::Greater>(a, b);
}
template <class A, class B>
  requires Operands<A, B>
auto operator>=(const A& a, const B& b) {
  return apply<ops::GreaterEqual>(a, b);
}
template <class A, class B>
  requires Operands<A, B>
auto operator==(const A& a, const B& b) {
  return apply<ops::Equal>(a, b);
}
template <class A, class B>
  requires Operands<A, B>
auto operator!=(const A& a, const B& b) {
  return apply<ops::NotEqual>(a, b);
}

/// y = a where the mask is not 0, b where it is: `where(x > 0, a, b)`. Each gets the gradient of its own elements,
/// and exactly 0 for the others, whatever is computed there (see the top of this file).
template <class M, class A, class B>
  requires Operands<M, A, B>
auto where(const M& mask, const A& a, const B& b) {
  return apply<ops::Where>(mask, a, b);
}
/// y = the larger of a and b, NaN when either is. The gradient goes to the larger; equal ones get half each.
template <class A, class B>
  requires Operands<A, B>
auto maximum(const A& a, const B& b) {
  return apply<ops::Maximum>(a, b);
}
/// y = the smaller of a and b, NaN when either is. The gradient goes to the smaller; equal ones get half each.
template <class A, class B>
  requires Operands<A, B>
auto minimum(const A& a, const B& b) {
  return apply<ops::Minimum>(a, b);
}
/// y = min(max(x, low), high), NaN when x is. The gradient goes to x where low <= x <= high, at both ends too, and
/// else to the bound that was hit. Throws Error when the bounds are numbers and low > high or one is NaN (of Vars, the
/// upper counts).
template <class X, class L, class H>
  requires Operands<X, L, H>
auto clamp(const X& x, const L& low, const H& high, Source where = Source::here()) {
  if constexpr (Number<L> && Number<H>)
    if (!(low <= high)) fail_at(where, "clamp: the bounds are {} and {}; the lower must come first", low, high);
  return apply<ops::Clamp>(x, low, high);
}

}  // namespace unroll
