#include <autograd/shape_ops.h>

#include <autograd/ranges.h>
#include <autograd/record.h>

#include <fmt/ranges.h>

#include <algorithm>

namespace unroll {

using detail::Graph;
using detail::NodeId;
using detail::Parent;
using detail::parent_of;

namespace {

template <class T>
using Elements = Eigen::Array<T, Eigen::Dynamic, 1>;

/// A tensor as rows (the axes before the one that is concatenated) of so many elements (the axes from it on).
struct Grid {
  Index rows, columns;
};

/// One part of a concatenation: in each of the rows, `width` elements from `offset` on.
struct Piece {
  std::byte* memory;  ///< its values or gradients, one after another; null when they don't matter
  Index offset, width;
  bool fresh = false;
};

/// Calls `f(piece, from, to, n)` for every run of n elements of the result, from `to` on, that are elements `from` on
/// of one piece; the result's elements cut up evenly among threads.
template <class F>
void for_each_run(Graph& graph, std::span<const Piece> pieces, Grid grid, F&& f) {
  detail::for_each_range(graph, grid.rows * grid.columns, 1, [&](Index begin, Index end) {
    Index row = begin / grid.columns, column = begin % grid.columns;
    auto piece = std::ranges::upper_bound(pieces, column, {}, &Piece::offset) - 1;
    while (begin < end) {
      Index from = column - piece->offset, n = std::min(piece->width - from, end - begin);
      if (piece->memory != nullptr) f(*piece, row * piece->width + from, begin, n);
      begin += n;
      column += n;
      ++piece;
      if (column != grid.columns) continue;
      column = 0;
      ++row;
      piece = pieces.begin();
    }
  });
}

/// True when no two nodes share memory: told from their order, which is that of recording wherever it matters.
bool apart(const Graph& graph, std::span<const NodeId> ids) {
  for (std::size_t k = 1; k < ids.size(); ++k)
    if (graph.node(ids[k - 1]).base >= graph.node(ids[k]).base) return false;
  return true;
}

void concat_backward(Graph& graph, NodeId id) {
  auto scratch = graph.scratch();
  const auto grid = graph.payload<Grid>(id);
  const std::span<const NodeId> inputs = graph.node(id).input_ids();
  auto* pieces = graph.array<Piece>(inputs.size());
  // Gradients that share memory, or are small, are done one after the other.
  const bool at_once = graph.node(id).count() > detail::copy_grain && apart(graph, inputs);
  with_scalar(graph.node(id).dtype, [&]<class T>(T) {
    const T* dy = reinterpret_cast<const T*>(graph.node(id).grad);
    auto add = [dy](const Piece& piece, Index from, Index to, Index n) {
      Eigen::Map<Elements<T>> dx(reinterpret_cast<T*>(piece.memory) + from, n);
      Eigen::Map<const Elements<T>> share(dy + to, n);
      if (piece.fresh)
        dx = share;
      else
        dx += share;
    };
    Index offset = 0;
    for (std::size_t k = 0; k < inputs.size(); ++k) {
      const Index width = graph.node(inputs[k]).count() / std::max<Index>(grid.rows, 1);
      Piece& piece = *new (pieces + k) Piece{nullptr, offset, width};
      offset += width;
      if (!graph.node(inputs[k]).needs_grad) continue;
      auto target = graph.target(inputs[k]);
      piece.memory = target.data;
      piece.fresh = target.fresh;
      for (Index row = 0; !at_once && row < grid.rows; ++row)
        add(piece, row * width, row * grid.columns + piece.offset, width);
    }
    if (at_once) for_each_run(graph, {pieces, inputs.size()}, grid, add);
  });
}

constexpr detail::Operation concat_operation{"concat", concat_backward};

/// The nodes of Vars of one type on one tape.
struct Parts {
  Graph& graph;
  std::span<NodeId> ids;

  const detail::NodeLayout& layout(std::size_t k) const { return *graph.node(ids[k]).layout; }
};

Parts parts_of(std::span<const Var> vars, const char* function, Source where) {
  if (vars.empty()) fail_at(where, "{}: no parts; at least one is needed", function);
  Graph& graph = detail::parent_of(vars[0], function, where).graph;
  auto* ids = graph.array<NodeId>(vars.size());
  for (std::size_t k = 0; k < vars.size(); ++k) {
    ids[k] = graph.check(vars[k], function, where);
    const DType first = graph.node(ids[0]).dtype, own = graph.node(ids[k]).dtype;
    if (own != first) fail_at(where, "{}: {} meets {}; convert one of them", function, first, own);
  }
  return {graph, {ids, vars.size()}};
}

/// The parts' elements as columns of a grid, as a tensor of the given shape.
Var join(const Parts& parts, const Shape& shape, Grid grid, Source where) {
  Graph& graph = parts.graph;
  for (NodeId& id : parts.ids) id = graph.contiguous(id, where);
  NodeId result = graph.add(concat_operation, parts.ids, graph.layout(shape), where);
  graph.keep(result, grid);
  auto scratch = graph.scratch();
  auto* pieces = graph.array<Piece>(parts.ids.size());
  Index offset = 0;
  for (std::size_t k = 0; k < parts.ids.size(); ++k) {
    const detail::Node& node = graph.node(parts.ids[k]);
    new (pieces + k) Piece{node.value, offset, node.count() / std::max<Index>(grid.rows, 1)};
    offset += pieces[k].width;
  }
  with_scalar(graph.node(result).dtype, [&]<class T>(T) {
    T* y = graph.value<T>(result);
    for_each_run(graph, {pieces, parts.ids.size()}, grid, [y](const Piece& piece, Index from, Index to, Index n) {
      Eigen::Map<Elements<T>>(y + to, n) =
          Eigen::Map<const Elements<T>>(reinterpret_cast<const T*>(piece.memory) + from, n);
    });
  });
  graph.computed(result, parts.ids);
  return graph.var(result);
}

}  // namespace

Var stack(std::span<const Var> vars, Source where) { return stack(vars, 0, where); }

Var stack(std::initializer_list<Var> vars, int axis, Source where) {
  return stack(std::span<const Var>(vars.begin(), vars.size()), axis, where);
}

Var stack(std::span<const Var> vars, int axis, Source where) {
  const Parts parts = parts_of(vars, "stack", where);
  const detail::NodeLayout& first = parts.layout(0);
  axis = detail::new_axis(first.shape, axis, "stack", where);
  if (vars.size() == 1) return unsqueeze(vars[0], axis, where);
  for (std::size_t k = 1; k < vars.size(); ++k)
    if (&parts.layout(k) != &first && parts.layout(k).shape != first.shape)
      fail_at(where, "stack: parts of shapes {} and {}; they must agree", first.shape, parts.layout(k).shape);
  Index outer = 1;
  for (int k = 0; k < axis; ++k) outer *= first.shape[k];
  const Shape shape = first.shape.insert(axis, static_cast<Index>(vars.size()));
  return join(parts, shape, {outer, outer == 0 ? 0 : shape.count() / outer}, where);
}

Var concat(std::initializer_list<Var> vars, int axis, Source where) {
  return concat(std::span<const Var>(vars.begin(), vars.size()), axis, where);
}

Var concat(std::span<const Var> vars, int axis, Source where) {
  const Parts parts = parts_of(vars, "concat", where);
  const Shape& first = parts.layout(0).shape;
  axis = first.axis(axis, "concat", where);
  Index total = 0;
  for (std::size_t k = 0; k < vars.size(); ++k) {
    const Shape& own = parts.layout(k).shape;
    if (own.rank() != first.rank() || own != first.with(axis, own[axis]))
      fail_at(where, "concat: parts of shapes {} and {}; only axis {} may differ", first, own, axis);
    total += own[axis];
  }
  Index outer = 1;
  for (int k = 0; k < axis; ++k) outer *= first[k];
  const Shape shape = first.with(axis, total);
  return join(parts, shape, {outer, outer == 0 ? 0 : shape.count() / outer}, where);
}

namespace {

/// y = x, of the shape that x and the other operand broadcast to.
struct BroadcastTo {
  static const auto& value(const auto& x, const auto&) { return x; }
  static auto derivative(const auto&, const auto&, const auto&) { return std::tuple{One{}, Zero{}}; }
};

}  // namespace

Var broadcast_to(const Var& x, const Shape& shape, Source where) {
  const Parent from = parent_of(x, "broadcast_to", where);
  if (from.shape() == shape) return x;
  const int missing = shape.rank() - from.shape().rank();
  bool fits = missing >= 0;
  for (int k = 0; fits && k < from.shape().rank(); ++k)
    fits = from.shape()[k] == 1 || from.shape()[k] == shape[k + missing];
  if (!fits)
    fail_at(where, "broadcast_to: {} to {}; sizes must agree from the last axis, or be 1 in what is repeated",
            from.shape(), shape);
  // A statement has the shape of its operands together, so one of them is of that shape: a single number seen again and
  // again, as is allowed where no gradient is wanted.
  NodeId number = from.graph.add_leaf(Shape{}, from.graph.node(from.id).dtype, where);
  std::fill_n(from.graph.node(number).value, from.graph.node(number).bytes(), std::byte{0});
  Layout everywhere(shape);
  everywhere.strides.fill(0);
  const NodeId operands[]{from.id, from.graph.add_view(number, from.graph.plans().layout(everywhere), 0, where)};
  constexpr const auto& statement = detail::statement<detail::Apply<BroadcastTo, detail::Input, detail::Input>>;
  return from.graph.var(detail::record_statement(from.graph, statement, operands, nullptr, where));
}

Var repeat(const Var& x, std::initializer_list<Index> counts, Source where) {
  const Parent from = parent_of(x, "repeat", where);
  const int rank = static_cast<int>(counts.size()), missing = rank - from.shape().rank();
  if (missing < 0 || rank > max_rank || std::ranges::any_of(counts, [](Index count) { return count < 0; }))
    fail_at(where, "repeat: counts [{}] for shape {}; one is needed for each axis, {} at most, none of them negative",
            fmt::join(counts, ", "), from.shape(), max_rank);
  Shape shape = from.shape();
  for (int k = 0; k < missing; ++k) shape = shape.insert(0, 1);
  Var y = x;
  Index outer = shape.count(), inner = 1;
  Shape result = shape;
  for (int axis = 0; axis < rank; ++axis) result = result.with(axis, shape[axis] * counts.begin()[axis]);
  if (result.count() == 0) return reshape(slice(reshape(x, {-1}, where), 0, 0, 0, where), result, where);
  for (int axis = rank - 1; axis >= 0; --axis) {  // the last axis first: later copies are of whole rows
    const Index count = counts.begin()[axis];
    outer /= shape[axis];
    inner *= shape[axis];
    if (count != 1) y = broadcast_to(reshape(y, {outer, 1, inner}, where), {outer, count, inner}, where);
    inner *= count;
  }
  return y.shape() == result ? y : reshape(y, result, where);
}

namespace {

/// A tensor inside a larger one.
struct Frame {
  Shape inside, outside;
  std::array<Index, max_rank> before{};

  /// The row of the inner tensor that the outer one's row holds; -1 when there is none.
  Index row_inside(Index row) const {
    Index result = 0, below = 1;
    for (int axis = inside.rank() - 2; axis >= 0; --axis) {
      Index i = row % outside[axis] - before[static_cast<std::size_t>(axis)];
      if (i < 0 || i >= inside[axis]) return -1;
      row /= outside[axis];
      result += i * below;
      below *= inside[axis];
    }
    return result;
  }
  Index left() const { return inside.rank() == 0 ? 0 : before[static_cast<std::size_t>(inside.rank() - 1)]; }
};

Frame frame_of(const Shape& shape, std::initializer_list<Padding> amounts, Source where) {
  if (amounts.size() != static_cast<std::size_t>(shape.rank()))
    fail_at(where, "pad: amounts for {} axes and a tensor of shape {}; one entry is needed for each axis",
            amounts.size(), shape);
  Frame frame{shape, shape};
  int axis = 0;
  for (auto [before, after] : amounts) {
    if (before < 0 || after < 0)
      fail_at(where, "pad: {} before and {} after axis {} of shape {}; neither may be negative: slice takes away",
              before, after, axis, shape);
    frame.outside = frame.outside.with(axis, before + shape[axis] + after);
    frame.before[static_cast<std::size_t>(axis++)] = before;
  }
  return frame;
}

}  // namespace

Var pad(const Var& x, std::initializer_list<Padding> amounts, double value, Source where) {
  const Frame frame = frame_of(parent_of(x, "pad", where).shape(), amounts, where);
  const Index left = frame.left(), rows = frame.outside.rows(), columns = frame.outside.columns();
  return record<Duals>(
      "pad", {x}, frame.outside,
      [=, graph = x.graph()]<class T>(MatrixMap<T> y, ConstMatrixMap<T> x) {
        detail::for_each_range(*graph, rows, columns, [&](Index begin, Index end) {
          for (Index row = begin; row < end; ++row) {
            Index from = frame.row_inside(row);
            y.row(row).setConstant(static_cast<T>(value));
            if (from >= 0) y.row(row).segment(left, x.cols()) = x.row(from);
          }
        });
      },
      [=]<class T>(Derivative<T>& d) {
        auto dx = d.dx(0);
        auto dy = d.dy();
        detail::for_each_range(d.graph(), rows, columns, [&](Index begin, Index end) {
          for (Index row = begin; row < end; ++row)
            if (Index to = frame.row_inside(row); to >= 0) dx.row(to) += dy.row(row).segment(left, dx.cols());
        });
      },
      where);
}

}  // namespace unroll
