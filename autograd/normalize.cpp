#include <autograd/normalize.h>

#include <autograd/record.h>
#include <autograd/rows.h>

#include <cmath>

namespace unroll {

using detail::wide_sum;

namespace {

/// What a row's mean and root come to; its elements are normalized by z = (x - mean) * inverse.
template <class T>
struct Moments {
  Wide<T> mean = 0, inverse = 0;

  Moments() = default;
  Moments(const T* x, Index n, bool centred, double epsilon) {
    using std::sqrt;
    const double count = static_cast<double>(n);
    if (centred) mean = wide_sum(x, n) / count;
    inverse =
        1.0 / sqrt(wide_sum<T>(n, [=, m = mean](Index k) { return square(Wide<T>(x[k]) - m); }) / count + epsilon);
  }
  static Wide<T> square(const Wide<T>& a) { return a * a; }
  Wide<T> operator()(const T& x) const { return (Wide<T>(x) - mean) * inverse; }
};

/// Rows handled together, whose shares of the gradients of gain and bias are added up together: at most 64 such blocks.
Index rows_of_block(Index rows, Index columns) { return std::max(4 * detail::rows_each(columns), (rows + 63) / 64); }

/// The derivative with respect to x, and to gain and bias where there are any.
template <bool centred, int affine, class T>
void normalize_backward(Derivative<T>& d, const Moments<T>* moments) {
  using S = Wide<T>;
  const auto x = d.x(0), dy = d.dy();
  const Index rows = x.rows(), n = x.cols(), each = rows_of_block(rows, n), blocks = (rows + each - 1) / each;
  const T* gain = affine > 0 ? d.x(affine > 0 ? 1 : 0).data() : nullptr;
  bool sums = false;
  for (int k = 1; k <= affine; ++k) sums = sums || d.needs(k);
  auto scratch = d.graph().scratch();
  S* partial = sums ? d.graph().template array<S>(static_cast<std::size_t>(blocks * affine * n)) : nullptr;
  const detail::GradTarget target = d.needs(0) ? d.graph().target(d.input(0)) : detail::GradTarget{nullptr, false};

  const auto g = [=](const T* by, Index k) { return affine > 0 ? S(by[k]) * S(gain[k]) : S(by[k]); };
  const auto add_row = [&](T* dx, const T* from, const T* by, const Moments<T>& z) {
    const double count = static_cast<double>(n);
    const S mean = centred ? wide_sum<T>(n, [=](Index k) { return g(by, k); }) / count : S(0);
    const S slope = wide_sum<T>(n, [=](Index k) { return g(by, k) * z(from[k]); }) / count;
    for (Index k = 0; k < n; ++k) {
      const T c = static_cast<T>((g(by, k) - mean - z(from[k]) * slope) * z.inverse);
      dx[k] = target.fresh ? c : dx[k] + c;
    }
  };
  d.graph().team().for_each_block(blocks, [&](Index block) {
    S* to = partial + block * affine * n;
    if (sums) std::fill_n(to, affine * n, S(0));
    for (Index row = block * each; row < std::min(rows, (block + 1) * each); ++row) {
      const T *from = x.row(row).data(), *by = dy.row(row).data();
      const Moments<T> z = moments[row];
      if (sums)
        for (Index k = 0; k < n; ++k) {
          to[k] += S(by[k]) * z(from[k]);
          if (affine > 1) to[n + k] += S(by[k]);
        }
      if (target.data != nullptr) add_row(reinterpret_cast<T*>(target.data) + row * x.outerStride(), from, by, z);
    }
  });
  if (!sums) return;
  T* total = d.graph().template array<T>(static_cast<std::size_t>(affine * n));
  for (Index k = 0; k < affine * n; ++k) {
    S sum = 0;
    for (Index block = 0; block < blocks; ++block) sum += partial[block * affine * n + k];
    total[k] = static_cast<T>(sum);
  }
  for (int k = 1; k <= affine; ++k) d.add(k, ConstMatrixMap<T>(total + (k - 1) * n, 1, n, Eigen::OuterStride<>(n)));
}

template <bool centred, class... Affine>
Var normalize(const char* name, const Var& x, double epsilon, Source where, const Affine&... given) {
  constexpr int affine = sizeof...(Affine);
  if (x.graph() == nullptr) fail_at(where, "{}: an empty Var; assign a value to it first", name);
  const Shape shape = x.shape();
  if (shape.rank() == 0) fail_at(where, "{}: x is a scalar; at least one axis is needed", name);
  if (!(epsilon >= 0)) fail_at(where, "{}: epsilon is {}; it must be at least 0", name, epsilon);
  const Var operands[] = {x, x.graph()->var(given.bind(*x.graph(), name, where))...};
  for (int k = 1; k <= affine; ++k)
    if (operands[k].shape() != Shape{shape.columns()})
      fail_at(where, "{}: x is {} and the {} is {}; it must be [{}]", name, shape, k == 1 ? "gain" : "bias",
              operands[k].shape(), shape.columns());
  auto* kept = x.graph()->array<Moments<Dual>>(static_cast<std::size_t>(shape.rows()));
  const auto forward = [=, graph = x.graph()]<class T>(MatrixMap<T> y, ConstMatrixMap<T> values, auto... scale) {
    auto* moments = reinterpret_cast<Moments<T>*>(kept);
    const T* with[] = {scale.data()..., nullptr};
    detail::for_each_row(*graph, values.rows(), values.cols(), [&](Index row) {
      using S = Wide<T>;
      const T* from = values.row(row).data();
      T* to = y.row(row).data();
      const Moments<T> z = moments[row] = Moments<T>(from, y.cols(), centred, epsilon);
      for (Index k = 0; k < y.cols(); ++k) {
        S result = z(from[k]);
        if constexpr (affine > 0) result *= S(with[0][k]);
        if constexpr (affine > 1) result += S(with[1][k]);
        to[k] = static_cast<T>(result);
      }
    });
  };
  const auto backward = [=]<class T>(Derivative<T>& d) {
    normalize_backward<centred, affine>(d, reinterpret_cast<const Moments<T>*>(kept));
  };
  if constexpr (affine == 0)
    return record<Duals>(name, {operands[0]}, shape, forward, backward, where);
  else if constexpr (affine == 1)
    return record<Duals>(name, {operands[0], operands[1]}, shape, forward, backward, where);
  else
    return record<Duals>(name, {operands[0], operands[1], operands[2]}, shape, forward, backward, where);
}

}  // namespace

Var layer_norm(const Var& x, const Argument& gain, const Argument& bias, double epsilon, Source where) {
  return normalize<true>("layer_norm", x, epsilon, where, gain, bias);
}
Var layer_norm(const Var& x, const Argument& gain, double epsilon, Source where) {
  return normalize<true>("layer_norm", x, epsilon, where, gain);
}
Var layer_norm(const Var& x, double epsilon, Source where) { return normalize<true>("layer_norm", x, epsilon, where); }

Var rms_norm(const Var& x, const Argument& gain, double epsilon, Source where) {
  return normalize<false>("rms_norm", x, epsilon, where, gain);
}
Var rms_norm(const Var& x, double epsilon, Source where) { return normalize<false>("rms_norm", x, epsilon, where); }

}  // namespace unroll
