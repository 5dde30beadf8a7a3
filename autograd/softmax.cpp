#include <autograd/softmax.h>

#include <autograd/log_sum_exp.h>
#include <autograd/record.h>
#include <autograd/shape_ops.h>

#include <algorithm>
#include <limits>

namespace unroll {

using detail::for_each_row;
using detail::map_row;
using detail::MutableRow;
using detail::Row;
using detail::wide_dot;
using detail::wide_sum;

namespace {

/// f(x) along the last axis, or another that takes its place meanwhile.
template <class F>
Var along(const Var& x, int axis, const char* name, Source where, F&& f) {
  if (x.graph() == nullptr) fail_at(where, "{}: an empty Var; assign a value to it first", name);
  const int last = x.rank() - 1;
  axis = x.shape().axis(axis, name, where);
  if (axis == last) return f(x);
  return transpose(f(transpose(x, axis, last, where)), axis, last, where);
}

/// dx (+)= contribution(y, dy, of_row(y, dy)) packet by packet; for operations whose derivative is known from y.
template <class T, class OfRow, class Contribution>
void add_rows(Derivative<T>& d, OfRow of_row, Contribution contribution) {
  const auto y = d.y(), dy = d.dy(), x = d.x(0);
  const detail::GradTarget target = d.graph().target(d.input(0));
  const Index columns = x.cols(), stride = x.outerStride();
  for_each_row(d.graph(), x.rows(), columns, [&](Index row) {
    const T *of = y.row(row).data(), *by = dy.row(row).data();
    T* to = reinterpret_cast<T*>(target.data) + row * stride;
    if constexpr (!std::is_same_v<T, Dual>) {  // no gradient goes on where none arrives, even if y is NaN
      if (std::all_of(by, by + columns, [](T g) { return g == T(0); })) {
        if (target.fresh) std::fill_n(to, columns, T(0));
        return;
      }
    }
    const auto sum = detail::splat(static_cast<T>(of_row(of, by, columns)));
    detail::map_row(
        to, target.fresh, columns, [&](const Packet<T>& a, const Packet<T>& b) { return contribution(a, b, sum); }, of,
        by);
  });
}

/// Where every entry is minus infinity: NaN, or 0 when rows may be `empty`.
template <bool empty>
Var softmax_rows(const Var& x, Source where) {
  return record<Duals>(
      empty ? "masked_softmax" : "softmax", {x}, x.shape(),
      [graph = x.graph()]<class T>(MatrixMap<T> y, ConstMatrixMap<T> values) {
        using P = Packet<T>;
        for_each_row(*graph, y.rows(), y.cols(), [&](Index row) {
          using std::isfinite;
          const Row<T> from(values.row(row).data(), y.cols());
          T* to = y.row(row).data();
          const T largest = from.size() > 0 ? from.maxCoeff() : T(0);
          const P shift = detail::splat(isfinite(largest) ? largest : T(0));
          map_row(
              to, true, y.cols(), [&](const P& e) { return packet::exp(P(e - shift)); }, from.data());
          const Wide<T> sum = wide_sum(to, y.cols());
          const P share = detail::splat(empty && sum == Wide<T>(0) ? T(0) : static_cast<T>(Wide<T>(1) / sum));
          map_row(
              to, true, y.cols(), [&](const P& e) { return P(e * share); }, to);
        });
      },
      [](auto& d) {
        add_rows(
            d, []<class T>(const T* y, const T* dy, Index n) { return wide_dot(y, dy, n); },
            []<class P>(const P& y, const P& dy, const P& sum) -> P { return y * (dy - sum); });
      },
      where);
}

/// x where the mask is not 0, minus infinity elsewhere.
struct Mask {
  template <class P>
  static P value(const P& x, const P& mask) {
    const auto none = static_cast<typename P::Scalar>(-std::numeric_limits<double>::infinity());
    return (mask != P::Zero()).select(x, detail::splat(none));
  }
  template <class P>
  static auto derivative(const P&, const P& mask, const P&) {
    return std::tuple<P, Zero>((mask != P::Zero()).select(P::Ones(), P::Zero()), Zero{});
  }
};

/// Checks what can be before anything is recorded.
void check_mask(const Var& x, const Shape& mask, DType dtype, Source where) {
  const Shape& shape = x.shape();
  bool fits = mask.rank() <= shape.rank();
  for (int k = 1; k <= mask.rank() && fits; ++k) {
    const Index size = mask[mask.rank() - k];
    fits = size == 1 || size == shape[shape.rank() - k];
  }
  if (!fits) fail_at(where, "masked_softmax: a mask of shape {} does not broadcast to x, which is {}", mask, shape);
  if (dtype != x.dtype())
    fail_at(where, "masked_softmax: the mask is {} and x {}; convert one of them", dtype, x.dtype());
}

template <class M>
Var masked(const Var& x, const M& mask, int axis, Source where) {
  return along(Var(apply<Mask>(x, mask), where), axis, "masked_softmax", where,
               [&](const Var& logits) { return softmax_rows<true>(logits, where); });
}

}  // namespace

Var softmax(const Var& x, int axis, Source where) {
  return along(x, axis, "softmax", where, [&](const Var& logits) { return softmax_rows<false>(logits, where); });
}

Var log_softmax(const Var& input, int axis, Source where) {
  return along(input, axis, "log_softmax", where, [&](const Var& x) {
    return record<Duals>(
        "log_softmax", {x}, x.shape(),
        [graph = x.graph()]<class T>(MatrixMap<T> y, ConstMatrixMap<T> values) {
          for_each_row(*graph, y.rows(), y.cols(), [&](Index row) {
            const Row<T> from(values.row(row).data(), y.cols());
            MutableRow<T>(y.row(row).data(), y.cols()) = detail::LogSumExp<T>(from).log_softmax(from);
          });
        },
        [](auto& d) {
          add_rows(
              d, []<class T>(const T*, const T* dy, Index n) { return wide_sum(dy, n); },
              []<class P>(const P& y, const P& dy, const P& sum) -> P { return dy - packet::exp(y) * sum; });
        },
        where);
  });
}

Var masked_softmax(const Var& x, const Var& mask, int axis, Source where) {
  for (const Var& operand : {x, mask})
    if (operand.graph() == nullptr) fail_at(where, "masked_softmax: an empty Var; assign a value to it first");
  x.shape().axis(axis, "masked_softmax", where);
  check_mask(x, mask.shape(), mask.dtype(), where);
  if (mask.needs_grad())
    fail_at(where, "masked_softmax: the mask, {}, needs a gradient and there is none; detach it", mask.shape());
  return masked(x, mask, axis, where);
}

Var masked_softmax(const Var& x, const Tensor& mask, int axis, Source where) {
  if (x.graph() == nullptr) fail_at(where, "masked_softmax: an empty Var; assign a value to it first");
  x.shape().axis(axis, "masked_softmax", where);
  check_mask(x, mask.shape(), x.graph()->dual() ? x.dtype() : mask.dtype(), where);
  return masked(x, mask, axis, where);
}

}  // namespace unroll
