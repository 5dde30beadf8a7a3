#pragma once

// A number with its derivative along one direction. Computing with such pairs instead of numbers carries the
// derivative along: forward through a program (jvp), and through a program's backward sweep (hvp), which gives
// second derivatives. Every operation of the library is a template over the type of its elements, so all of them
// have both.

#include <autograd/shape.h>

#include <Eigen/Core>

#include <cmath>

namespace unroll {

/// x + x' e with e^2 = 0: a value and its tangent. f(x + x' e) = f(x) + f'(x) x' e.
struct Dual {
  double value = 0;
  double tangent = 0;

  constexpr Dual() = default;
  constexpr Dual(double v, double t = 0) : value(v), tangent(t) {}  // NOLINT(google-explicit-constructor)
  explicit constexpr operator double() const { return value; }
  explicit constexpr operator float() const { return static_cast<float>(value); }

  Dual& operator+=(const Dual& b) { return *this = *this + b; }
  Dual& operator-=(const Dual& b) { return *this = *this - b; }
  Dual& operator*=(const Dual& b) { return *this = *this * b; }
  Dual& operator/=(const Dual& b) { return *this = *this / b; }

  friend constexpr Dual operator-(const Dual& a) { return {-a.value, -a.tangent}; }
  friend constexpr Dual operator+(const Dual& a, const Dual& b) { return {a.value + b.value, a.tangent + b.tangent}; }
  friend constexpr Dual operator-(const Dual& a, const Dual& b) { return {a.value - b.value, a.tangent - b.tangent}; }
  friend constexpr Dual operator*(const Dual& a, const Dual& b) {
    return {a.value * b.value, along(a, b.value) + along(b, a.value)};
  }
  friend constexpr Dual operator/(const Dual& a, const Dual& b) {
    double y = a.value / b.value;
    return {y, (a.tangent - (y == 0 ? 0 : along(b, y))) / b.value};  // of 1 / e^x, too, where both are infinite
  }
  friend constexpr bool operator==(const Dual& a, const Dual& b) { return a.value == b.value; }
  friend constexpr auto operator<=>(const Dual& a, const Dual& b) { return a.value <=> b.value; }

  // f(x) and f'(x), for the functions of <cmath>.
  friend Dual exp(const Dual& x) { return chain(x, std::exp(x.value), std::exp(x.value)); }
  friend Dual expm1(const Dual& x) { return chain(x, std::expm1(x.value), std::exp(x.value)); }
  friend Dual log(const Dual& x) { return chain(x, std::log(x.value), 1 / x.value); }
  friend Dual log1p(const Dual& x) { return chain(x, std::log1p(x.value), 1 / (1 + x.value)); }
  friend Dual sqrt(const Dual& x) { return chain(x, std::sqrt(x.value), 0.5 / std::sqrt(x.value)); }
  friend Dual abs(const Dual& x) { return chain(x, std::abs(x.value), x.value > 0 ? 1 : x.value < 0 ? -1 : 0); }
  friend Dual fabs(const Dual& x) { return abs(x); }
  friend Dual sin(const Dual& x) { return chain(x, std::sin(x.value), std::cos(x.value)); }
  friend Dual cos(const Dual& x) { return chain(x, std::cos(x.value), -std::sin(x.value)); }
  friend Dual tan(const Dual& x) {
    double y = std::tan(x.value);
    return chain(x, y, 1 + y * y);
  }
  friend Dual asin(const Dual& x) { return chain(x, std::asin(x.value), 1 / std::sqrt(1 - x.value * x.value)); }
  friend Dual acos(const Dual& x) { return chain(x, std::acos(x.value), -1 / std::sqrt(1 - x.value * x.value)); }
  friend Dual atan(const Dual& x) { return chain(x, std::atan(x.value), 1 / (1 + x.value * x.value)); }
  friend Dual sinh(const Dual& x) { return chain(x, std::sinh(x.value), std::cosh(x.value)); }
  friend Dual cosh(const Dual& x) { return chain(x, std::cosh(x.value), std::sinh(x.value)); }
  friend Dual tanh(const Dual& x) {
    double y = std::tanh(x.value);
    return chain(x, y, 1 - y * y);
  }
  friend Dual logistic(const Dual& x) {
    double y = 1 / (1 + std::exp(-x.value));
    return chain(x, y, y / (1 + std::exp(x.value)));
  }
  friend Dual erf(const Dual& x) {
    constexpr double two_over_root_pi = 1.1283791670955126;
    return chain(x, std::erf(x.value), two_over_root_pi * std::exp(-x.value * x.value));
  }
  friend Dual pow(const Dual& x, const Dual& n) {
    double y = std::pow(x.value, n.value);
    double by_x = n.value == 0 || x.tangent == 0 ? 0 : n.value * std::pow(x.value, n.value - 1) * x.tangent;
    double by_n = n.tangent == 0 || (x.value == 0 && n.value >= 0) ? 0 : y * std::log(x.value) * n.tangent;
    return {y, by_x + by_n};
  }
  friend Dual floor(const Dual& x) { return std::floor(x.value); }
  friend Dual ceil(const Dual& x) { return std::ceil(x.value); }
  friend Dual rint(const Dual& x) { return std::rint(x.value); }
  friend Dual round(const Dual& x) { return std::round(x.value); }
  friend bool isfinite(const Dual& x) { return std::isfinite(x.value); }
  friend bool isnan(const Dual& x) { return std::isnan(x.value); }
  friend bool isinf(const Dual& x) { return std::isinf(x.value); }

 private:
  /// No tangent stays none, even where the derivative is infinite.
  static constexpr double along(const Dual& x, double derivative) {
    return x.tangent == 0 ? 0 : derivative * x.tangent;
  }
  static Dual chain(const Dual& x, double y, double derivative) { return {y, along(x, derivative)}; }
};

template <>
inline constexpr DType dtype_of<Dual> = DType::dual;

/// The type in which sums over T are accumulated: at least double.
template <class T>
using Wide = std::conditional_t<std::is_same_v<T, Dual>, Dual, double>;

/// Calls `f(T{})` with T = float, double or Dual: what the elements of a value on a tape can be.
template <class F>
decltype(auto) with_scalar(DType type, F&& f) {
  if (type == DType::dual) return f(Dual{});
  return with_type(type, f);
}

}  // namespace unroll

/// Eigen's own overflows on its way to 0.
template <>
struct Eigen::internal::scalar_logistic_op<unroll::Dual> {
  unroll::Dual operator()(const unroll::Dual& x) const { return logistic(x); }
};
template <>
struct Eigen::NumTraits<unroll::Dual> : Eigen::NumTraits<double> {
  using Real = unroll::Dual;
  using NonInteger = unroll::Dual;
  using Nested = unroll::Dual;
  using Literal = unroll::Dual;
  enum { RequireInitialization = 1, ReadCost = 2, AddCost = 2, MulCost = 4 };
};
template <class Op>
struct Eigen::ScalarBinaryOpTraits<unroll::Dual, double, Op> {
  using ReturnType = unroll::Dual;
};
template <class Op>
struct Eigen::ScalarBinaryOpTraits<double, unroll::Dual, Op> {
  using ReturnType = unroll::Dual;
};
