#pragma once

// Packets: a few neighbouring elements that are computed together. Element-wise operations are written on these, as
// Eigen arrays. Here is what Eigen's arrays lack: comparisons and choices that take one instruction for a register,
// and a few functions that Eigen 3.4 has only less exactly.

#include <autograd/dual.h>

#include <Eigen/Core>
#include <unsupported/Eigen/SpecialFunctions>

#include <tuple>
#include <type_traits>
#include <utility>

#define UNROLL_INLINE [[gnu::always_inline]] inline

namespace unroll {

/// 64 bytes of neighbouring elements: one AVX-512 register or several smaller ones. (Duals come one by one.)
template <class T>
using Packet = Eigen::Array<T, std::is_same_v<T, Dual> ? 1 : 64 / sizeof(T), 1>;

/// Of every lane, yes (all bits set; of Duals a 1) or no (0).
template <class P>
struct Mask {
  P bits;
};

// What `derivative` may return instead of a Packet. Multiplying by them costs nothing.
struct One {};       ///< 1
struct MinusOne {};  ///< -1
struct Zero {};      ///< 0: nothing below is differentiated, so nothing there can make it NaN
struct None {};      ///< the same, of an operand that is not differentiated at all, such as a mask
/// The derivative in the mask's lanes, and in the others 0: also for everything below, where it may be infinite or NaN.
template <class P, class D = One>
struct Masked {
  explicit Masked(const Mask<P>& m, const D& d = {}) : mask(m), derivative(d) {}
  Mask<P> mask;
  D derivative;
};

namespace packet {

namespace detail {

/// Eigen's packet of one register, or one element where there is no such.
template <class T>
using Register = typename Eigen::internal::find_best_packet<T, Packet<T>::SizeAtCompileTime>::type;

template <class T>
UNROLL_INLINE Register<T> load(const Packet<T>& x, int at) {
  return Eigen::internal::ploadu<Register<T>>(x.data() + at);
}
template <class T>
UNROLL_INLINE Register<T> load(double x, int) {
  return Eigen::internal::pset1<Register<T>>(T(x));
}

template <class... X>
struct PacketAmong;
template <class T, int N, class... X>
struct PacketAmong<Eigen::Array<T, N, 1>, X...> : std::type_identity<Eigen::Array<T, N, 1>> {};
template <class Number, class... X>
struct PacketAmong<Number, X...> : PacketAmong<X...> {};

template <class T>
UNROLL_INLINE T square_root(const T& x) {
  return Eigen::internal::psqrt(x);
}
// Eigen's own, for float32, multiplies by an approximate 1 / sqrt: NaN at infinity, 0 below the normal numbers.
#ifdef __SSE__
UNROLL_INLINE __m128 square_root(const __m128& x) { return _mm_sqrt_ps(x); }
#endif
#ifdef __AVX__
UNROLL_INLINE __m256 square_root(const __m256& x) { return _mm256_sqrt_ps(x); }
#endif
#ifdef __AVX512F__
UNROLL_INLINE __m512 square_root(const __m512& x) { return _mm512_sqrt_ps(x); }
UNROLL_INLINE __m512d square_root(const __m512d& x) { return _mm512_sqrt_pd(x); }
#endif

}  // namespace detail

/// The packet's type among operands that may also be numbers (the same in every lane).
template <class... X>
using Of = typename detail::PacketAmong<X...>::type;

/// f(x...), register by register.
template <class F, class... X>
UNROLL_INLINE Of<X...> map(F f, const X&... x) {
  using P = Of<X...>;
  using T = typename P::Scalar;
  using Register = detail::Register<T>;
  constexpr int width = Eigen::internal::unpacket_traits<Register>::size;
  P y;
  auto compute = [&](int at) __attribute__((always_inline)) {
    Eigen::internal::pstoreu(y.data() + at, Register(f(detail::load<T>(x, at)...)));
  };
  [&]<int... I>(std::integer_sequence<int, I...>) __attribute__((always_inline)) { (compute(I * width), ...); }
  (std::make_integer_sequence<int, P::SizeAtCompileTime / width>{});
  return y;
}

// Comparisons are false with a NaN. Of Duals they compare the values.
template <class A, class B>
UNROLL_INLINE Mask<Of<A, B>> less(const A& a, const B& b) {
  return {map([](const auto& x, const auto& y) { return Eigen::internal::pcmp_lt(x, y); }, a, b)};
}
template <class A, class B>
UNROLL_INLINE Mask<Of<A, B>> less_equal(const A& a, const B& b) {
  return {map([](const auto& x, const auto& y) { return Eigen::internal::pcmp_le(x, y); }, a, b)};
}
template <class A, class B>
UNROLL_INLINE Mask<Of<A, B>> equal(const A& a, const B& b) {
  return {map([](const auto& x, const auto& y) { return Eigen::internal::pcmp_eq(x, y); }, a, b)};
}

/// a in the mask's lanes, b in the others.
template <class P, class A, class B>
UNROLL_INLINE P select(const Mask<P>& mask, const A& a, const B& b) {
  return map([](const auto& m, const auto& x, const auto& y) { return Eigen::internal::pselect(m, x, y); }, mask.bits,
             a, b);
}
/// x in the mask's lanes, 0 in the others.
template <class P, class X>
UNROLL_INLINE P keep(const Mask<P>& mask, const X& x) {
  if constexpr (std::is_same_v<P, Packet<Dual>>)
    return select(mask, x, 0);
  else
    return map([](const auto& m, const auto& y) { return Eigen::internal::pand(m, y); }, mask.bits, x);
}
/// 0 in the mask's lanes, x in the others.
template <class P, class X>
UNROLL_INLINE P drop(const Mask<P>& mask, const X& x) {
  if constexpr (std::is_same_v<P, Packet<Dual>>)
    return select(mask, 0, x);
  else
    return map([](const auto& m, const auto& y) { return Eigen::internal::pandnot(y, m); }, mask.bits, x);
}
template <class P>
UNROLL_INLINE Mask<P> both(const Mask<P>& a, const Mask<P>& b) {
  return {keep(a, b.bits)};
}
template <class P>
UNROLL_INLINE Mask<P> either(const Mask<P>& a, const Mask<P>& b) {
  return {select(a, a.bits, b.bits)};
}
template <class P>
UNROLL_INLINE Mask<P> no(const Mask<P>& mask) {
  return {drop(mask, equal(P(P::Zero()), 0).bits)};
}
/// True when there is a yes.
template <class P>
UNROLL_INLINE bool any(const Mask<P>& mask) {
  if constexpr (std::is_same_v<P, Packet<Dual>>) {
    return mask.bits[0].value != 0;
  } else {
    using T = typename P::Scalar;
    constexpr int width = Eigen::internal::unpacket_traits<detail::Register<T>>::size;
    auto joined = detail::load<T>(mask.bits, 0);
    for (int at = width; at < P::SizeAtCompileTime; at += width)
      joined = Eigen::internal::por(joined, detail::load<T>(mask.bits, at));
    return Eigen::internal::predux_any(joined);
  }
}
/// Where x is 0 and, of a Dual, stays 0 when its input moves.
template <class P>
UNROLL_INLINE Mask<P> vanishes(const P& x) {
  if constexpr (std::is_same_v<P, Packet<Dual>>)
    return {P(Dual(x[0].value == 0 && x[0].tangent == 0))};
  else
    return equal(x, 0);
}

/// The larger and the smaller of two; NaN when either is.
template <class A, class B>
UNROLL_INLINE Of<A, B> larger(const A& a, const B& b) {
  return map([](const auto& x, const auto& y) { return Eigen::internal::pmax<Eigen::PropagateNaN>(x, y); }, a, b);
}
template <class A, class B>
UNROLL_INLINE Of<A, B> smaller(const A& a, const B& b) {
  return map([](const auto& x, const auto& y) { return Eigen::internal::pmin<Eigen::PropagateNaN>(x, y); }, a, b);
}

template <class P>
UNROLL_INLINE P sqrt(const P& x) {
  return map([](const auto& y) { return detail::square_root(y); }, x);
}
/// Eigen's stops at the smallest normal number; e^-infinity must be 0.
template <class P>
UNROLL_INLINE P exp(const P& x) {
  constexpr double lowest = std::is_same_v<typename P::Scalar, float> ? -88.37 : -709.78;
  return drop(less(x, lowest), P(x.exp()));
}

template <class P>
UNROLL_INLINE P erf(const P& x) {
  if constexpr (std::is_same_v<P, Packet<Dual>>)
    return P(erf(x[0]));
  else
    return x.erf();
}

}  // namespace packet
}  // namespace unroll
