#pragma once

#include <autograd/expression.h>

namespace unroll {

namespace detail {

Var record_affine(std::span<const Argument> factors, std::span<const Argument> addends, Source where);

}  // namespace detail

/// A sum of matrix products and addends that is still to be computed, in one buffer and as one node:
/// `matmul(x, W) + matmul(h, U) + b`. It becomes a Var wherever one is asked for.
template <int Products, int Addends>
struct Affine {
  using RecordsAsVar = void;
  std::array<Argument, 2 * Products> factors;
  std::array<Argument, Addends> addends;
  Source where;

  Var record(Source) const { return detail::record_affine(factors, addends, where); }
};

/// y = a b, as in NumPy and PyTorch: a [..., M, K] and b [..., K, N] give y [..., M, N], each matrix of a times the
/// matrix of b in its place; the axes before the matrices broadcast. A vector a [K] is one row, a vector b [K] one
/// column, and that axis is not in y: [..., M, K] times [K] is [..., M], and two vectors give a scalar.
///
/// dL/da = dL/dy b^T and dL/db = a^T dL/dy, summed over the axes along which an operand is repeated. Views such as
/// transpose(b) are read as they lie, unless neither rows nor columns are contiguous.
///
/// Where b is a matrix [K, N], products, Vars or Parameters of y's shape, or a row [N], that are added to it accumulate
/// in place; else they are added by a statement. Throws Error when the types or the lengths of K differ, the axes
/// before the matrices do not broadcast, or an operand is a scalar.
inline Affine<1, 0> matmul(const Argument& a, const Argument& b, Source where = Source::here()) {
  return {{a, b}, {}, where};
}

namespace detail {

template <int P, int A>
inline constexpr bool is_affine<Affine<P, A>> = true;

template <int P, int A>
const Affine<P, A>& as_affine(const Affine<P, A>& sum) {
  return sum;
}
template <class T>
  requires(!is_affine<T>)
Affine<0, 1> as_affine(const T& addend) {
  if constexpr (is_expression<T>)
    return {{}, {Argument(Var(addend))}, {}};
  else
    return {{}, {Argument(addend)}, {}};
}

template <std::size_t N, std::size_t M>
std::array<Argument, N + M> join(const std::array<Argument, N>& a, const std::array<Argument, M>& b) {
  return [&]<std::size_t... I, std::size_t... J>(std::index_sequence<I...>, std::index_sequence<J...>) {
    return std::array<Argument, N + M>{a[I]..., b[J]...};
  }(std::make_index_sequence<N>{}, std::make_index_sequence<M>{});
}

}  // namespace detail

template <class A, class B>
  requires detail::AffineSum<A, B>
auto operator+(const A& a, const B& b) {
  const auto& left = detail::as_affine(a);
  const auto& right = detail::as_affine(b);
  auto sum = [&]<int P, int M, int Q, int N>(const Affine<P, M>& l, const Affine<Q, N>& r) {
    return Affine<P + Q, M + N>{detail::join(l.factors, r.factors), detail::join(l.addends, r.addends),
                                l.where.line != 0 ? l.where : r.where};
  };
  return sum(left, right);
}

}  // namespace unroll
