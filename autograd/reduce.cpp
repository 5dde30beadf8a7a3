#include <autograd/reduce.h>

#include <autograd/record.h>
#include <autograd/shape_ops.h>

#include <algorithm>
#include <utility>

namespace unroll {

namespace {

template <class T>
using Vector = Eigen::Map<const Eigen::Array<T, Eigen::Dynamic, 1>>;

/// Sums the middle axis of [outer, middle, inner], in double at least, times `scale`. Columns go 32 at a time, so that
/// their double sums stay in registers or close to them.
template <class T>
void sum_middle(T* y, const T* x, Index outer, Index middle, Index inner, double scale) {
  if (inner == 1) {
    for (Index i = 0; i < outer; ++i)
      y[i] = static_cast<T>(scale * Vector<T>(x + i * middle, middle).template cast<Wide<T>>().sum());
    return;
  }
  constexpr Index width = 32;
  for (Index i = 0; i < outer; ++i) {
    for (Index left = 0; left < inner; left += width) {
      Index n = std::min(width, inner - left);
      std::array<Wide<T>, width> sums{};
      for (Index j = 0; j < middle; ++j) {
        const T* row = x + (i * middle + j) * inner + left;
        for (Index k = 0; k < n; ++k) sums[static_cast<std::size_t>(k)] += static_cast<Wide<T>>(row[k]);
      }
      for (Index k = 0; k < n; ++k) y[i * inner + left + k] = static_cast<T>(scale * sums[static_cast<std::size_t>(k)]);
    }
  }
}

/// Sums axes `first` to `last` (neighbours) of x and scales; the axes disappear.
Var sum_neighbours(const Var& input, int first, int last, double scale, const char* name, Source where) {
  const Var x = reshape(input, input.shape(), where);  // its elements one after another
  Index outer = 1, middle = 1, inner = 1;
  Shape shape = x.shape(), result = shape;
  for (int axis = shape.rank() - 1; axis >= 0; --axis) {
    (axis < first ? outer : axis <= last ? middle : inner) *= shape[axis];
    if (axis >= first && axis <= last) result = result.without(axis);
  }
  return record<Duals>(
      name, {x}, result, [=](auto y, auto values) { sum_middle(y.data(), values.data(), outer, middle, inner, scale); },
      [=]<class T>(Derivative<T>& d) {
        const T* dy = d.dy().data();
        detail::GradTarget target = d.graph().target(d.input(0));
        T* dx = reinterpret_cast<T*>(target.data);
        auto factor = static_cast<T>(scale);
        using Elements = Eigen::Array<T, Eigen::Dynamic, 1>;
        auto add = [&](Index at, const auto& contribution) {
          Eigen::Map<Elements> to(dx + at, contribution.size());
          if (target.fresh)
            to = contribution;
          else
            to += contribution;
        };
        for (Index i = 0; i < outer; ++i) {
          if (inner == 1) {
            add(i * middle, Elements::Constant(middle, factor * dy[i]));
            continue;
          }
          for (Index j = 0; j < middle; ++j)
            add((i * middle + j) * inner, factor * Eigen::Map<const Elements>(dy + i * inner, inner));
        }
      },
      where);
}

Var reduce(const Var& x, std::initializer_list<int> axes, bool keep, bool average, const char* name, Source where) {
  const Shape shape = x.shape();
  std::array<bool, max_rank> reduced{};
  Shape kept = shape;
  Index count = 1;
  for (int given : axes) {
    int axis = shape.axis(given, name, where);
    if (std::exchange(reduced[static_cast<std::size_t>(axis)], true))
      fail_at(where, "{}: axis {} of a tensor of shape {} is given twice", name, given, shape);
    kept = kept.with(axis, 1);
    count *= shape[axis];
  }
  if (average && count == 0) fail_at(where, "{}: shape {} has nothing along these axes to average", name, shape);
  double scale = average ? 1.0 / static_cast<double>(count) : 1.0;
  Var y = x;
  for (int last = shape.rank() - 1; last >= 0; --last) {
    if (!reduced[static_cast<std::size_t>(last)]) continue;
    int first = last;
    while (first > 0 && reduced[static_cast<std::size_t>(first - 1)]) --first;
    y = sum_neighbours(y, first, last, std::exchange(scale, 1.0), name, where);
    last = first;
  }
  return keep ? reshape(y, kept, where) : y;
}

Var reduce_all(const Var& x, bool average, const char* name, Source where) {
  Index count = x.shape().count();
  if (average && count == 0) fail_at(where, "mean: a tensor of shape {} has no elements to average", x.shape());
  return sum_neighbours(reshape(x, {-1}, where), 0, 0, average ? 1.0 / static_cast<double>(count) : 1.0, name, where);
}

}  // namespace

Var sum(const Var& x, Source where) { return reduce_all(x, false, "sum", where); }
Var sum(const Var& x, std::initializer_list<int> axes, bool keep, Source where) {
  return reduce(x, axes, keep, false, "sum", where);
}
Var mean(const Var& x, Source where) { return reduce_all(x, true, "mean", where); }
Var mean(const Var& x, std::initializer_list<int> axes, bool keep, Source where) {
  return reduce(x, axes, keep, true, "mean", where);
}

}  // namespace unroll
