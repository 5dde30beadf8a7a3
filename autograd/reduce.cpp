#include <autograd/reduce.h>

#include <autograd/lines.h>
#include <autograd/rows.h>
#include <autograd/shape_ops.h>

#include <cmath>
#include <utility>

namespace unroll {

using detail::fold;
using detail::fold_sum;
using detail::Lines;
using detail::spread;

namespace {

/// The axes of one reduction, checked: nothing is recorded yet.
struct Axes {
  std::array<bool, max_rank> reduced{};
  Shape shape, kept;  ///< of the operand; of the result with the axes kept at size 1
  Index count = 1;    ///< elements that become one
  bool keep;

  Axes(const Var& x, std::initializer_list<int> axes, bool keep_axes, const char* name, Source where)
      : keep(keep_axes) {
    if (x.graph() == nullptr) fail_at(where, "{}: an empty Var; assign a value to it first", name);
    shape = kept = x.shape();
    for (int given : axes) {
      int axis = shape.axis(given, name, where);
      if (std::exchange(reduced[static_cast<std::size_t>(axis)], true))
        fail_at(where, "{}: axis {} of a tensor of shape {} is given twice", name, given, shape);
    }
    if (axes.size() == 0) reduced.fill(true);
    for (int axis = 0; axis < shape.rank(); ++axis) {
      if (!(*this)[axis]) continue;
      kept = kept.with(axis, 1);
      count *= shape[axis];
    }
  }
  bool operator[](int axis) const { return reduced[static_cast<std::size_t>(axis)]; }
  Shape result() const {
    Shape shape = kept;
    for (int axis = shape.rank() - 1; axis >= 0 && !keep; --axis)
      if ((*this)[axis]) shape = shape.without(axis);
    return shape;
  }
  /// True when no axis that stays, other than of size 1, lies between two that are reduced.
  bool neighbours() const {
    int runs = 0;
    bool inside = false;
    for (int axis = 0; axis < shape.rank(); ++axis)
      if (shape[axis] != 1 && std::exchange(inside, (*this)[axis]) != (*this)[axis]) runs += inside;
    return runs <= 1;
  }
  /// The last of its runs of neighbours, alone.
  Axes last_run() const {
    Axes run = *this;
    run.reduced = {};
    run.kept = shape;
    run.count = 1;
    run.keep = true;
    int axis = shape.rank() - 1;
    while (!(*this)[axis] || shape[axis] == 1) --axis;
    for (; axis >= 0 && (*this)[axis]; --axis) {
      run.reduced[static_cast<std::size_t>(axis)] = true;
      run.kept = run.kept.with(axis, 1);
      run.count *= shape[axis];
    }
    return run;
  }
  void need_elements(const char* name, const char* purpose, Source where) const {
    if (count == 0) fail_at(where, "{}: shape {} has nothing along these axes to {}", name, shape, purpose);
  }
};

/// The operand with the reduced axes beside one another, and where its lines are.
struct Reduction {
  Var x;
  Lines lines;
  Shape result;

  Reduction(const Var& input, const Axes& axes, Source where) : x(input), result(axes.result()) {
    const Shape& shape = axes.shape;
    const int last = shape.rank() - 1;
    detail::Graph& graph = *x.graph();
    const detail::NodeLayout* layout = graph.node(graph.check(x, "reduction", where)).layout;
    if (layout->rowwise() && last >= 0 && axes[last] && shape[last] == axes.count && shape.count() > shape.rows()) {
      lines = {shape.rows(), shape[last], 1, layout->row_stride()};
      return;
    }
    if (axes.neighbours()) {
      x = reshape(x, shape, where);  // its elements one after another
      bool before = true;
      for (int axis = 0; axis <= last; ++axis) {
        if (axes[axis]) before = before && shape[axis] == 1;
        (axes[axis] ? lines.middle : before ? lines.outer : lines.inner) *= shape[axis];
      }
      if (lines.middle == 1) lines.inner *= std::exchange(lines.outer, 1);
    } else {
      x = moved_last(axes, where);
      lines = {axes.kept.count(), axes.count, 1, 0};
    }
    lines.stride = lines.middle * lines.inner;
  }

 private:
  /// A copy in which the reduced axes come after the others.
  Var moved_last(const Axes& axes, Source where) const {
    detail::Graph& graph = *x.graph();
    detail::NodeId id = graph.check(x, "reduction", where);
    const Layout from = *graph.node(id).layout;
    Layout to = from;
    int at = 0;
    for (bool reduced : {false, true}) {
      for (int axis = 0; axis < from.shape.rank(); ++axis) {
        if (axes[axis] != reduced) continue;
        to.shape = to.shape.with(at, from.shape[axis]);
        to.strides[static_cast<std::size_t>(at++)] = from.stride(axis);
      }
    }
    return graph.var(graph.contiguous(graph.add_view(id, graph.plans().layout(to), 0, where), where));
  }
};

/// For folds and contributions that need to know nothing of a line.
constexpr auto nothing = [](Index) { return 0.0; };

Var sum_lines(const Reduction& r, double scale, Source where) {
  return record<Duals>(
      "sum", {r.x}, r.result,
      [=, graph = r.x.graph(), lines = r.lines]<class T>(MatrixMap<T> y, ConstMatrixMap<T> x) {
        fold_sum(
            *graph, x.data(), lines, nothing, [](const auto& value, const auto&) { return value; },
            [to = y.data(), scale](Index line, const Wide<T>& total) { to[line] = static_cast<T>(total * scale); });
      },
      [=, lines = r.lines]<class T>(Derivative<T>& d) {
        using S = Wide<T>;
        spread(
            d, lines, [dy = d.dy().data(), scale](Index line) { return std::array{S(dy[line]) * scale}; },
            [](T* c, const T*, const S(*p)[Lines::width], Index n) {
              for (Index k = 0; k < n; ++k) c[k] = static_cast<T>(p[0][k]);
            });
      },
      where);
}

/// Sums of sums spare the copy with the reduced axes beside one another.
Var scaled_sum(const Var& x, Axes axes, double scale, Source where) {
  if (axes.neighbours()) return sum_lines({x, axes, where}, scale, where);
  const Var y = sum_lines({x, axes.last_run(), where}, scale, where);
  axes.shape = y.shape();
  return scaled_sum(y, axes, 1, where);
}

struct Largest {
  static constexpr const char* name = "max";
  static constexpr double worst = -std::numeric_limits<double>::infinity();
  static constexpr auto better = [](const auto& a, const auto& b) { return a > b; };
};
struct Smallest {
  static constexpr const char* name = "min";
  static constexpr double worst = std::numeric_limits<double>::infinity();
  static constexpr auto better = [](const auto& a, const auto& b) { return a < b; };
};

/// True for the elements that an extreme y is the value of; of a NaN, for all that are NaN. (Comparisons are added as
/// numbers: without a branch, so that the loops run on whole registers.)
constexpr auto is_extreme = [](const auto& x, const auto& y) { return int(x == y) + int(x != x) != 0; };

template <class Which, class T>
void find_extremes(detail::Graph& graph, const T* x, const Lines& lines, T* y) {
  const auto choose = [](const T& a, const T& b) { return int(Which::better(b, a)) + int(b != b) != 0 ? b : a; };
  fold(
      graph, x, lines, T(Which::worst), nothing,
      [=](T* best, const T* from, const T*, Index n) {
        for (Index k = 0; k < n; ++k) best[k] = choose(best[k], from[k]);
      },
      choose, [=](Index line, const T& best) { y[line] = best; });
  if constexpr (std::is_same_v<T, Dual>)  // elements that tie share the tangent as they do the gradient
    fold_sum(
        graph, x, lines, [=](Index line) { return y[line]; },
        [](const Dual& a, const Dual& b) { return is_extreme(a, b) ? Dual(1, a.tangent) : Dual(0); },
        [=](Index line, const Dual& ties) { y[line].tangent = ties.tangent / ties.value; });
}

template <class Which>
Var extreme(const Var& x, std::initializer_list<int> axes, bool keep, Source where) {
  const Axes over(x, axes, keep, Which::name, where);
  if (over.kept.count() > 0) over.need_elements(Which::name, "choose from", where);
  const Reduction r(x, over, where);
  return record<Duals>(
      Which::name, {r.x}, r.result,
      [graph = x.graph(), lines = r.lines]<class T>(MatrixMap<T> y, ConstMatrixMap<T> from) {
        find_extremes<Which>(*graph, from.data(), lines, y.data());
      },
      [lines = r.lines]<class T>(Derivative<T>& d) {
        using S = Wide<T>;
        auto scratch = d.graph().scratch();
        S* share = d.graph().template array<S>(static_cast<std::size_t>(lines.count()));
        const T *y = d.y().data(), *dy = d.dy().data();
        fold_sum(
            d.graph(), d.x(0).data(), lines, [=](Index line) { return S(y[line]); },
            [](const S& a, const S& b) { return is_extreme(a, b) ? S(1) : S(0); },
            [=](Index line, const S& ties) { share[line] = S(dy[line]) / ties; });
        spread(
            d, lines,
            [=](Index line) {
              return std::array{S(y[line]), share[line]};
            },
            [](T* c, const T* from, const S(*p)[Lines::width], Index n) {
              for (Index k = 0; k < n; ++k) c[k] = is_extreme(S(from[k]), p[0][k]) ? static_cast<T>(p[1][k]) : T(0);
            });
      },
      where);
}

/// Calls f(offset of the first elements, their number, the first's line) for lines that lie side by side.
template <class F>
void for_each_bundle(detail::Graph& graph, const Lines& lines, F&& f) {
  const Index columns = lines.columns(), sides = lines.sides(), bundles = lines.outer * sides;
  const Index each = std::max<Index>(1, Lines::piece / std::max<Index>(1, lines.middle * columns));
  graph.team().for_each_block((bundles + each - 1) / each, [&](Index block) {
    for (Index i = block * each; i < std::min(bundles, (block + 1) * each); ++i) {
      const Index outer = i / sides, left = i % sides * columns;
      f(outer * lines.stride + left, std::min(columns, lines.inner - left), outer * lines.inner + left);
    }
  });
}

/// dx_i (+)= dy prod_{j < i} x_j prod_{j > i} x_j.
template <class T>
void prod_backward(Derivative<T>& d, const Lines& lines) {
  using S = Wide<T>;
  auto scratch = d.graph().scratch();
  S* before = d.graph().template array<S>(static_cast<std::size_t>(lines.outer * lines.stride));
  const T *x = d.x(0).data(), *dy = d.dy().data();
  const detail::GradTarget target = d.graph().target(d.input(0));
  T* dx = reinterpret_cast<T*>(target.data);
  for_each_bundle(d.graph(), lines, [&](Index first, Index n, Index line) {
    S product[Lines::width];
    std::fill_n(product, n, S(1));
    for (Index at = first, j = 0; j < lines.middle; ++j, at += lines.inner)
      for (Index k = 0; k < n; ++k) {
        before[at + k] = product[k];
        product[k] *= S(x[at + k]);
      }
    for (Index k = 0; k < n; ++k) product[k] = S(dy[line + k]);
    for (Index at = first + lines.middle * lines.inner, j = 0; j < lines.middle; ++j) {
      at -= lines.inner;
      for (Index k = 0; k < n; ++k) {
        const T c = static_cast<T>(before[at + k] * product[k]);
        dx[at + k] = target.fresh ? c : dx[at + k] + c;
        product[k] *= S(x[at + k]);
      }
    }
  });
}

/// The variance of every line, or its root.
template <bool root>
Var spread_of_lines(const Reduction& r, double correction, Source where) {
  using std::sqrt;
  const double n = static_cast<double>(r.lines.middle), divisor = n - correction;
  auto* kept = r.x.graph()->array<Dual>(static_cast<std::size_t>(r.lines.count()));
  return record<Duals>(
      root ? "stddev" : "variance", {r.x}, r.result,
      [=, graph = r.x.graph(), lines = r.lines]<class T>(MatrixMap<T> y, ConstMatrixMap<T> x) {
        using S = Wide<T>;
        S* means = reinterpret_cast<S*>(kept);
        fold_sum(
            *graph, x.data(), lines, nothing, [](const S& a, const S&) { return a; },
            [=](Index line, const S& total) { means[line] = total / n; });
        fold_sum(
            *graph, x.data(), lines, [=](Index line) { return means[line]; },
            [](const S& a, const S& mean) { return (a - mean) * (a - mean); },
            [=, to = y.data()](Index line, const S& total) {
              to[line] = static_cast<T>(root ? sqrt(total / divisor) : total / divisor);
            });
      },
      // Of the variance v: dv/dx = 2 (x - m) / divisor; of its root s: (x - m) / (s divisor).
      [=, lines = r.lines]<class T>(Derivative<T>& d) {
        using S = Wide<T>;
        const S* means = reinterpret_cast<const S*>(kept);
        spread(
            d, lines,
            [=, y = d.y().data(), dy = d.dy().data()](Index line) {
              const S slope = !root ? S(2 / divisor) : y[line] == T(0) ? S(0) : S(1) / (S(y[line]) * divisor);
              return std::array{means[line], slope * S(dy[line])};
            },
            [](T* c, const T* x, const S(*p)[Lines::width], Index count) {
              for (Index k = 0; k < count; ++k) c[k] = static_cast<T>((S(x[k]) - p[0][k]) * p[1][k]);
            });
      },
      where);
}

void need_more_than(double correction, const Axes& axes, const char* name, Source where) {
  if (!(static_cast<double>(axes.count) > correction))
    fail_at(where, "{}: shape {} has {} elements along these axes and the correction is {}; more than that are needed",
            name, axes.shape, axes.count, correction);
}

struct Magnitude {
  static auto value(const auto& x) { return x.abs(); }
  static auto derivative(const auto& x, const auto&) { return x.sign(); }
};

/// The 2-norm of n numbers `step` apart whose squares, or the sum of them, are no normal numbers.
template <class T>
Wide<T> norm_of_extremes(const T* x, Index n, Index step) {
  using S = Wide<T>;
  using std::abs, std::isfinite, std::sqrt;
  T most = 0;
  for (Index i = 0; i < n; ++i)
    if (const T size = abs(x[i * step]); size > most || size != size) most = size;
  if (most == T(0) || !isfinite(most)) return S(most);
  const S scale = std::exp2(std::clamp(-std::ilogb(static_cast<double>(most)), -1000, 1000));
  S total = 0;
  for (Index i = 0; i < n; ++i) total += S(x[i * step]) * scale * (S(x[i * step]) * scale);
  return sqrt(total) / scale;
}

Var norm2(const Reduction& r, Source where) {
  return record<Duals>(
      "norm", {r.x}, r.result,
      [graph = r.x.graph(), lines = r.lines]<class T>(MatrixMap<T> y, ConstMatrixMap<T> values) {
        using S = Wide<T>;
        const auto finish = [&, x = values.data(), to = y.data()](Index line, const S& squares) {
          using std::sqrt;
          constexpr double safe = 1e-280;  // the squares of what no longer counts may be lost
          const bool normal = squares > S(safe) && squares < S(1 / safe);
          const Index first = line / lines.inner * lines.stride + line % lines.inner;
          to[line] = static_cast<T>(normal ? sqrt(squares) : norm_of_extremes(x + first, lines.middle, lines.inner));
        };
        fold_sum(
            *graph, values.data(), lines, nothing, [](const S& a, const S&) { return a * a; }, finish);
      },
      [lines = r.lines]<class T>(Derivative<T>& d) {
        using S = Wide<T>;
        spread(
            d, lines,
            [y = d.y().data(), dy = d.dy().data()](Index line) {
              const bool zero = y[line] == T(0);
              return std::array{zero ? S(1) : S(y[line]), zero ? S(0) : S(dy[line])};
            },
            [](T* c, const T* x, const S(*p)[Lines::width], Index n) {
              for (Index k = 0; k < n; ++k) c[k] = static_cast<T>(S(x[k]) / p[0][k] * p[1][k]);
            });
      },
      where);
}

/// log sum exp = largest + log_sum, which are kept apart for the sake of digits: see log_sum_exp.h.
template <class T>
void log_sum_exp_lines(detail::Graph& graph, const T* x, const Lines& lines, Wide<T>* largest, Wide<T>* log_sum) {
  using S = Wide<T>;
  const auto larger = [](const T& a, const T& b) { return b > a ? b : a; };
  fold(
      graph, x, lines, T(Largest::worst), nothing,
      [=](T* most, const T* from, const T*, Index n) {
        for (Index k = 0; k < n; ++k) most[k] = larger(most[k], from[k]);
      },
      larger,
      [=](Index line, const T& most) {
        using std::isfinite;
        largest[line] = isfinite(most) ? S(most) : S(0);
      });
  fold(
      graph, x, lines, S(0), [=](Index line) { return largest[line]; },
      [](S* sums, const T* from, const S* most, Index n) {
        T y[Lines::width];
        for (Index k = 0; k < n; ++k) y[k] = from[k] - static_cast<T>(most[k]);
        detail::map_row(
            y, true, n, [](const Packet<T>& x) { return packet::exp(x); }, y);
        for (Index k = 0; k < n; ++k) sums[k] += S(y[k]);
      },
      std::plus<S>(),
      [=](Index line, const S& total) {
        using std::log;
        log_sum[line] = log(total);
      });
}

}  // namespace

Var sum(const Var& x, std::initializer_list<int> axes, bool keep, Source where) {
  return scaled_sum(x, {x, axes, keep, "sum", where}, 1, where);
}
Var sum(const Var& x, Source where) { return sum(x, {}, false, where); }

Var mean(const Var& x, std::initializer_list<int> axes, bool keep, Source where) {
  const Axes over(x, axes, keep, "mean", where);
  over.need_elements("mean", "average", where);
  return scaled_sum(x, over, 1 / static_cast<double>(over.count), where);
}
Var mean(const Var& x, Source where) { return mean(x, {}, false, where); }

Var prod(const Var& x, std::initializer_list<int> axes, bool keep, Source where) {
  const Axes over(x, axes, keep, "prod", where);
  const Reduction r(x, over, where);
  return record<Duals>(
      "prod", {r.x}, r.result,
      [graph = x.graph(), lines = r.lines]<class T>(MatrixMap<T> y, ConstMatrixMap<T> from) {
        using S = Wide<T>;
        fold(
            *graph, from.data(), lines, S(1), nothing,
            [](S* products, const T* elements, const S*, Index n) {
              for (Index k = 0; k < n; ++k) products[k] *= S(elements[k]);
            },
            std::multiplies<S>(),
            [to = y.data()](Index line, const S& product) { to[line] = static_cast<T>(product); });
      },
      [lines = r.lines](auto& d) { prod_backward(d, lines); }, where);
}
Var prod(const Var& x, Source where) { return prod(x, {}, false, where); }

Var max(const Var& x, std::initializer_list<int> axes, bool keep, Source where) {
  return extreme<Largest>(x, axes, keep, where);
}
Var max(const Var& x, Source where) { return max(x, {}, false, where); }
Var min(const Var& x, std::initializer_list<int> axes, bool keep, Source where) {
  return extreme<Smallest>(x, axes, keep, where);
}
Var min(const Var& x, Source where) { return min(x, {}, false, where); }

Var variance(const Var& x, std::initializer_list<int> axes, bool keep, double correction, Source where) {
  const Axes over(x, axes, keep, "variance", where);
  need_more_than(correction, over, "variance", where);
  return spread_of_lines<false>({x, over, where}, correction, where);
}
Var variance(const Var& x, Source where) { return variance(x, {}, false, 1, where); }
Var stddev(const Var& x, std::initializer_list<int> axes, bool keep, double correction, Source where) {
  const Axes over(x, axes, keep, "stddev", where);
  need_more_than(correction, over, "stddev", where);
  return spread_of_lines<true>({x, over, where}, correction, where);
}
Var stddev(const Var& x, Source where) { return stddev(x, {}, false, 1, where); }

Var norm(const Var& x, std::initializer_list<int> axes, bool keep, double p, Source where) {
  const Axes over(x, axes, keep, "norm", where);
  if (p == 2) return norm2({x, over, where}, where);
  if (p == 1) return sum(Var(apply<Magnitude>(x), where), axes, keep, where);
  if (p != std::numeric_limits<double>::infinity()) fail_at(where, "norm: p is {}; it can be 1, 2 or infinity", p);
  if (over.kept.count() > 0) over.need_elements("norm", "choose from", where);
  return max(Var(apply<Magnitude>(x), where), axes, keep, where);
}
Var norm(const Var& x, Source where) { return norm(x, {}, false, 2, where); }

Var logsumexp(const Var& x, std::initializer_list<int> axes, bool keep, Source where) {
  const Axes over(x, axes, keep, "logsumexp", where);
  const Reduction r(x, over, where);
  const Index count = r.lines.count();
  auto* kept = x.graph()->array<Dual>(static_cast<std::size_t>(2 * count));
  return record<Duals>(
      "logsumexp", {r.x}, r.result,
      [=, graph = x.graph(), lines = r.lines]<class T>(MatrixMap<T> y, ConstMatrixMap<T> from) {
        auto* largest = reinterpret_cast<Wide<T>*>(kept);
        log_sum_exp_lines(*graph, from.data(), lines, largest, largest + count);
        for (Index i = 0; i < count; ++i) y.data()[i] = static_cast<T>(largest[i] + largest[count + i]);
      },
      [=, lines = r.lines]<class T>(Derivative<T>& d) {
        using S = Wide<T>;
        const S *largest = reinterpret_cast<const S*>(kept), *log_sum = largest + count;
        spread(
            d, lines,
            [=, dy = d.dy().data()](Index i) {
              const S finite = log_sum[i] == S(Largest::worst) ? S(0) : log_sum[i];
              return std::array{largest[i], finite, S(dy[i])};
            },
            [](T* c, const T* x, const S(*p)[Lines::width], Index n) {
              for (Index k = 0; k < n; ++k) c[k] = static_cast<T>(S(x[k]) - p[0][k] - p[1][k]);
              detail::map_row(
                  c, true, n, [](const Packet<T>& x) { return packet::exp(x); }, c);
              for (Index k = 0; k < n; ++k) c[k] = static_cast<T>(S(c[k]) * p[2][k]);
            });
      },
      where);
}
Var logsumexp(const Var& x, Source where) { return logsumexp(x, {}, false, where); }

Var cumsum(const Var& input, int axis, Source where) {
  const Axes over(input, {axis}, true, "cumsum", where);
  const Reduction r(reshape(input, over.shape, where), over, where);  // its elements one after another
  return record<Duals>(
      "cumsum", {r.x}, over.shape,
      [graph = input.graph(), lines = r.lines]<class T>(MatrixMap<T> y, ConstMatrixMap<T> x) {
        for_each_bundle(*graph, lines, [&, from = x.data(), to = y.data()](Index first, Index n, Index) {
          Wide<T> sums[Lines::width] = {};
          for (Index at = first, j = 0; j < lines.middle; ++j, at += lines.inner)
            for (Index k = 0; k < n; ++k) to[at + k] = static_cast<T>(sums[k] += Wide<T>(from[at + k]));
        });
      },
      [lines = r.lines]<class T>(Derivative<T>& d) {
        const detail::GradTarget target = d.graph().target(d.input(0));
        T* dx = reinterpret_cast<T*>(target.data);
        for_each_bundle(d.graph(), lines, [&, dy = d.dy().data()](Index first, Index n, Index) {
          Wide<T> sums[Lines::width] = {};
          for (Index at = first + lines.middle * lines.inner, j = 0; j < lines.middle; ++j) {
            at -= lines.inner;
            for (Index k = 0; k < n; ++k) {
              const T c = static_cast<T>(sums[k] += Wide<T>(dy[at + k]));
              dx[at + k] = target.fresh ? c : dx[at + k] + c;
            }
          }
        });
      },
      where);
}

namespace {

/// The first index along an axis for which `better(element, best so far)` never held again.
template <class Better>
std::vector<std::int32_t> arg_extreme(const TensorView& x, int axis, const char* name, Better better, Source where) {
  const Shape& shape = x.shape();
  axis = shape.axis(axis, name, where);
  const Index n = shape[axis], step = x.layout().stride(axis);
  const Shape rest = shape.without(axis);
  if (n == 0) fail_at(where, "{}: axis {} of a tensor of shape {} has nothing to choose from", name, axis, shape);
  std::vector<std::int32_t> result(static_cast<std::size_t>(rest.count()));
  with_type(x.dtype(), [&]<class T>(T) {
    for (Index line = 0; line < rest.count(); ++line) {
      const T* from = static_cast<const T*>(x.raw());
      for (Index i = shape.rank() - 1, left = line; i >= 0; --i) {
        if (i == axis) continue;
        from += left % shape[static_cast<int>(i)] * x.layout().stride(static_cast<int>(i));
        left /= shape[static_cast<int>(i)];
      }
      Index best = 0;
      for (Index j = 1; j < n && from[best * step] == from[best * step]; ++j)
        if (const T v = from[j * step]; better(v, from[best * step]) || v != v) best = j;
      result[static_cast<std::size_t>(line)] = static_cast<std::int32_t>(best);
    }
  });
  return result;
}

}  // namespace

std::vector<std::int32_t> argmax(const TensorView& x, int axis, Source where) {
  return arg_extreme(x, axis, "argmax", Largest::better, where);
}
std::vector<std::int32_t> argmin(const TensorView& x, int axis, Source where) {
  return arg_extreme(x, axis, "argmin", Smallest::better, where);
}

}  // namespace unroll
