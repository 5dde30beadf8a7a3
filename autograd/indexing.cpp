#include <autograd/indexing.h>

#include <autograd/ranges.h>
#include <autograd/record.h>
#include <autograd/tape.h>
#include <autograd/views.h>

#include <algorithm>

namespace unroll {

using detail::Graph;
using detail::NodeId;
using detail::Parent;
using detail::parent_of;

namespace {

/// An operand whose elements are addressed by their offsets: its rows are contiguous.
Parent rowwise(const Parent& x, Source where) {
  NodeId id = x.graph.rowwise(x.id, where);
  return {x.graph, id, *x.graph.node(id).layout};
}

void check_range(const Indices& indices, const char* function, int axis, const Shape& shape, Source where) {
  for (Index i = 0; i < indices.size(); ++i)
    if (indices[i] < 0 || indices[i] >= shape[axis])
      fail_at(where, "{}: index {} is {}; it must be in [0, {}), for axis {} of shape {}", function, i, indices[i],
              shape[axis], axis, shape);
}

/// Throws Error unless every axis but `free` is at most as long as the other shape's.
void check_fits(const Shape& indices, const Shape& shape, int free, const char* function, const char* what,
                Source where) {
  bool fits = indices.rank() == shape.rank();
  for (int k = 0; fits && k < shape.rank(); ++k) fits = k == free || indices[k] <= shape[k];
  if (!fits)
    fail_at(where, "{}: indices of shape {} for a {} of shape {}; they need as many axes, and no axis{} may be longer",
            function, indices, what, shape, free < 0 ? "" : " but the chosen one");
}

/// The indices where a backward finds them; none on a tape that has no backward.
const std::int32_t* kept(Graph& graph, const Indices& indices) {
  if (!graph.recording()) return nullptr;
  auto* copy = graph.array<std::int32_t>(static_cast<std::size_t>(indices.size()));
  std::ranges::copy(indices.values(), copy);
  return copy;
}

/// Which elements belong together of a tensor that indices choose from along an axis (`picked`), and of one that holds
/// an element for each choice (`plain`). The rows of both are contiguous.
struct Picks {
  Shape shape;  ///< of the choices
  int axis;
  bool slices;                                ///< one index for each place along the axis, not one for each element
  std::array<Index, max_rank> picked, plain;  ///< strides
  Index skipped = -1;                         ///< an index that is passed over

  int last() const { return shape.rank() - 1; }
  /// True when whole rows are chosen, by `rows`.
  bool by_rows() const { return slices && axis == 0; }
  std::span<const std::int32_t> rows(const std::int32_t* indices) const {
    return {indices, static_cast<std::size_t>(shape[0])};
  }

  /// Calls `f(picked, plain, n)`, the offsets of n neighbours each, for the choices in the given rows and columns: for
  /// any element of either tensor in the order of the indices.
  template <class F>
  void visit(const std::int32_t* indices, Index row, Index end_row, Index column, Index end_column, F&& f) const {
    const int above = last() - 1;  // the axis along which rows are neighbours
    const Index height = above < 0 ? 1 : shape[above];
    while (row < end_row) {
      Index from = 0, to = 0, place = 0, rest = row / height, i = row % height;
      for (int k = above - 1; k >= 0; --k) {
        const Index at = rest % shape[k];
        rest /= shape[k];
        to += at * plain[static_cast<std::size_t>(k)];
        (k == axis ? place : from) += at * (k == axis ? 1 : picked[static_cast<std::size_t>(k)]);
      }
      const Index down = above < 0 ? 0 : plain[static_cast<std::size_t>(above)];
      const Index picked_down = above < 0 || above == axis ? 0 : picked[static_cast<std::size_t>(above)];
      for (const Index end = std::min(height, i + end_row - row); i < end; ++i, ++row)
        visit_row(indices, row, above == axis ? i : place, from + i * picked_down, to + i * down, column, end_column,
                  f);
    }
  }

  template <class F>
  void visit_row(const std::int32_t* indices, Index row, Index place, Index from, Index to, Index column,
                 Index end_column, F&& f) const {
    const Index stride = picked[static_cast<std::size_t>(axis)];
    if (slices && axis != last()) {
      if (indices[place] != skipped) f(from + indices[place] * stride + column, to + column, end_column - column);
      return;
    }
    const Index step = axis == last() ? 0 : 1;  // in the picked, from one choice of a row to the next
    const std::int32_t* chosen = slices ? indices : indices + row * shape.columns();
    for (Index k = column; k < end_column; ++k)
      if (chosen[k] != skipped) f(from + chosen[k] * stride + k * step, to + k, Index{1});
  }

  /// The same for all choices, perhaps on several threads: where `f` writes to the picked, those that may be of one
  /// element are on one thread.
  template <class F>
  void visit(Graph& graph, const std::int32_t* indices, bool writes_picked, F&& f) const {
    const Index rows = shape.rows(), columns = shape.columns();
    if (axis == last() || !writes_picked)
      return detail::for_each_range(graph, rows, columns,
                                    [&](Index begin, Index end) { visit(indices, begin, end, 0, columns, f); });
    // No result depends on the cut: as few and wide pieces as there are threads for. None shares a line of the cache.
    constexpr Index line = 16;
    const Index lines = (columns + line - 1) / line;
    const Index pieces =
        std::clamp<Index>(std::min(rows * columns / detail::copy_grain, lines), 1, graph.team().size());
    const Index width = (lines + pieces - 1) / pieces * line;
    graph.team().for_each_block(pieces, [&](Index piece) {
      visit(indices, 0, rows, std::min(piece * width, columns), std::min((piece + 1) * width, columns), f);
    });
  }
};

template <class T>
using Elements = Eigen::Array<T, Eigen::Dynamic, 1>;

template <class T>
void copy(T* to, const T* from, Index n) {
  if (n == 1)
    *to = *from;
  else
    Eigen::Map<Elements<T>>(to, n) = Eigen::Map<const Elements<T>>(from, n);
}

template <class T>
void add(T* to, const T* from, Index n) {
  if (n == 1)
    *to += *from;
  else
    Eigen::Map<Elements<T>>(to, n) += Eigen::Map<const Elements<T>>(from, n);
}

/// y[plain] = x[picked], 0 where the index is -1, and dL/dx[picked] += dL/dy[plain], this not where the index is
/// `without_gradient`.
Var pick(const char* name, const Parent& x, const Picks& picks, const Shape& shape, const Indices& indices,
         Index without_gradient, Source where) {
  Graph& graph = x.graph;
  Picks backward = picks;
  backward.skipped = without_gradient;
  return record<Duals>(
      name, {graph.var(x.id)}, shape,
      [&]<class T>(MatrixMap<T> y, ConstMatrixMap<T> values) {
        if (std::ranges::find(indices.values(), -1) != indices.values().end()) y.setZero();
        picks.visit(graph, indices.values().data(), false,
                    [to = y.data(), from = values.data()](Index i, Index j, Index n) { copy(to + j, from + i, n); });
      },
      [backward, chosen = kept(graph, indices)]<class T>(Derivative<T>& d) {
        Graph& graph = d.graph();
        std::byte* memory = backward.by_rows()
                                ? graph.row_accumulator(d.input(0), backward.rows(chosen), backward.skipped)
                                : graph.accumulator(d.input(0));
        T* dx = reinterpret_cast<T*>(memory);
        const T* dy = d.dy().data();
        backward.visit(graph, chosen, true, [=](Index i, Index j, Index n) { add(dx + i, dy + j, n); });
      },
      where);
}

}  // namespace

Var detail::select_slices(const char* name, const Var& x, int axis, const Indices& indices, Index without_gradient,
                          Source where) {
  const Parent operand = parent_of(x, name, where);
  const Shape &shape = operand.shape(), &chosen = indices.shape();
  axis = shape.axis(axis, name, where);
  check_range(indices, name, axis, shape, where);
  if (shape.rank() - 1 + chosen.rank() > max_rank)
    fail_at(where, "{}: indices of shape {} for axis {} of shape {}; a tensor has at most {} axes", name, chosen, axis,
            shape, max_rank);
  std::array<Index, max_rank> sizes{};
  auto* next = std::copy_n(shape.begin(), axis, sizes.begin());
  next = std::copy(chosen.begin(), chosen.end(), next);
  next = std::copy(shape.begin() + axis + 1, shape.end(), next);
  const Shape result(std::span<const Index>(sizes.begin(), next));
  const Layout choices(shape.with(axis, indices.size()));
  const Parent from = rowwise(operand, where);
  const Picks picks{choices.shape, axis, true, from.layout.strides, choices.strides};
  return pick(name, from, picks, result, indices, without_gradient, where);
}

Var detail::rows_or_zeros(const Var& x, const Indices& rows, Source where) {
  const Parent from = rowwise(parent_of(x, "rows_or_zeros", where), where);
  const Layout result(Shape{rows.size(), from.shape()[1]});
  return pick("rows_or_zeros", from, {result.shape, 0, true, from.layout.strides, result.strides}, result.shape, rows,
              -1, where);
}

Var index_select(const Var& x, int axis, const Indices& indices, Source where) {
  if (indices.shape().rank() != 1)
    fail_at(where, "index_select: indices of shape {}; they must have one axis", indices.shape());
  return detail::select_slices("index_select", x, axis, indices, -1, where);
}

Var gather(const Var& x, int axis, const Indices& indices, Source where) {
  const Parent operand = parent_of(x, "gather", where);
  axis = operand.shape().axis(axis, "gather", where);
  check_fits(indices.shape(), operand.shape(), axis, "gather", "tensor", where);
  check_range(indices, "gather", axis, operand.shape(), where);
  const Layout choices(indices.shape());
  const Parent from = rowwise(operand, where);
  const Picks picks{choices.shape, axis, false, from.layout.strides, choices.strides};
  return pick("gather", from, picks, choices.shape, indices, -1, where);
}

Var scatter_add(const Var& x, int axis, const Indices& indices, const Var& source, Source where) {
  const Parent to = parent_of(x, "scatter_add", where);
  Graph& graph = to.graph;
  const Layout result(to.shape());
  const NodeId added = graph.check(source, "scatter_add", where);
  axis = result.shape.axis(axis, "scatter_add", where);
  check_fits(indices.shape(), result.shape, axis, "scatter_add", "tensor", where);
  check_fits(indices.shape(), source.shape(), -1, "scatter_add", "source", where);
  check_range(indices, "scatter_add", axis, result.shape, where);
  if (graph.node(to.id).dtype != graph.node(added).dtype)
    fail_at(where, "scatter_add: {} and a source of {}; convert one of them", x.dtype(), source.dtype());
  const Parent from = rowwise({graph, added, *graph.node(added).layout}, where);
  const Picks picks{indices.shape(), axis, false, result.strides, from.layout.strides};
  return record<Duals>(
      "scatter_add", {x, graph.var(from.id)}, result.shape,
      [&]<class T>(MatrixMap<T> y, ConstMatrixMap<T> values, ConstMatrixMap<T> summands) {
        y = values;
        picks.visit(graph, indices.values().data(), true,
                    [to = y.data(), from = summands.data()](Index i, Index j, Index n) { add(to + i, from + j, n); });
      },
      [picks, chosen = kept(graph, indices)]<class T>(Derivative<T>& d) {
        d.add(0, d.dy());
        if (!d.needs(1)) return;
        T* ds = d.dx(1).data();
        const T* dy = d.dy().data();
        picks.visit(d.graph(), chosen, false, [=](Index i, Index j, Index n) { add(ds + j, dy + i, n); });
      },
      where);
}

namespace {

/// A constant that `fill` writes into a matrix of zeros. Its type is what the tape makes of the one asked for.
template <class F>
Var constant(Graph& graph, const Shape& shape, DType dtype, Source where, F&& fill) {
  NodeId id = graph.add_leaf(shape, dtype, where);
  with_scalar(graph.node(id).dtype, [&]<class T>(T) {
    MatrixMap<T> y(graph.value<T>(id), shape.rows(), shape.columns(), Eigen::OuterStride<>(shape.columns()));
    y.setZero();
    fill(y);
  });
  return graph.var(id);
}

/// The elements of a row that are on the kept side of a diagonal: columns `begin` to `end`.
struct Triangle {
  Index diagonal;
  bool lower;

  Index begin(Index row, Index columns) const { return lower ? 0 : boundary(row, columns, 0); }
  Index end(Index row, Index columns) const { return lower ? boundary(row, columns, 1) : columns; }

 private:
  Index boundary(Index row, Index columns, Index past) const {
    if (diagonal >= columns) return columns;  // also where the sum below would overflow
    return std::clamp<Index>(row + diagonal + past, 0, columns);
  }
};

Var triangle(const char* name, const Var& x, Triangle kept, Source where) {
  const Shape shape = parent_of(x, name, where).shape();
  if (shape.rank() < 2) fail_at(where, "{}: a tensor of shape {}; it must have at least two axes", name, shape);
  const Index height = shape[shape.rank() - 2], columns = shape.columns();
  return record<Duals>(
      name, {x}, shape,
      [=](auto y, auto values) {
        y.setZero();
        for (Index row = 0; row < y.rows(); ++row) {
          Index begin = kept.begin(row % height, columns), n = kept.end(row % height, columns) - begin;
          y.row(row).segment(begin, n) = values.row(row).segment(begin, n);
        }
      },
      [=](auto& d) {
        auto dx = d.dx(0);
        for (Index row = 0; row < dx.rows(); ++row) {
          Index begin = kept.begin(row % height, columns), n = kept.end(row % height, columns) - begin;
          dx.row(row).segment(begin, n) += d.dy().row(row).segment(begin, n);
        }
      },
      where);
}

Var triangle_mask(const char* name, Tape& tape, Index rows, Index columns, Triangle kept, DType dtype, Source where) {
  if (rows < 0 || columns < 0)
    fail_at(where, "{}: {} rows and {} columns; neither may be negative", name, rows, columns);
  return constant(tape.graph(), {rows, columns}, dtype, where, [&](auto y) {
    for (Index row = 0; row < rows; ++row) {
      Index begin = kept.begin(row, columns);
      y.row(row).segment(begin, kept.end(row, columns) - begin).setOnes();
    }
  });
}

}  // namespace

Var tril(const Var& x, Index diagonal, Source where) { return triangle("tril", x, {diagonal, true}, where); }
Var triu(const Var& x, Index diagonal, Source where) { return triangle("triu", x, {diagonal, false}, where); }

Var tril_mask(Tape& tape, Index rows, Index columns, Index diagonal, DType dtype, Source where) {
  return triangle_mask("tril_mask", tape, rows, columns, {diagonal, true}, dtype, where);
}

Var triu_mask(Tape& tape, Index rows, Index columns, Index diagonal, DType dtype, Source where) {
  return triangle_mask("triu_mask", tape, rows, columns, {diagonal, false}, dtype, where);
}

Var one_hot(Tape& tape, const Indices& indices, Index classes, DType dtype, Source where) {
  const Shape& shape = indices.shape();
  if (classes < 0 || shape.rank() == max_rank)
    fail_at(
        where,
        "one_hot: {} classes for indices of shape {}; a size must not be negative, and a tensor has at most {} axes",
        classes, shape, max_rank);
  const Shape result = shape.insert(shape.rank(), classes);
  check_range(indices, "one_hot", shape.rank(), result, where);
  return constant(tape.graph(), result, dtype, where, [&](auto y) {
    for (Index i = 0; i < indices.size(); ++i) y(i, indices[i]) = 1;
  });
}

}  // namespace unroll
