#include <autograd/shape_ops.h>

#include <autograd/statement.h>

#include <algorithm>

namespace unroll {

using detail::Graph;
using detail::NodeId;

namespace {

/// The graph of a Var that is going to be an operand.
Graph& graph_of(const Var& x, const char* function, Source where) {
  if (x.graph() == nullptr) fail_at(where, "{}: an empty Var; assign a value to it first", function);
  return *x.graph();
}

Index counted_from_end(Index i, Index size) { return i < 0 ? i + size : i; }

}  // namespace

// What a view's layout is made from, as Plans::derived keeps it: the axis, and the kind of view or the number of parts.
constexpr Index selects = 0;

Var select(const Var& x, int axis, Index index, Source where) {
  Graph& graph = graph_of(x, "select", where);
  NodeId id = graph.check(x, "select", where);
  const detail::NodeLayout& from = *graph.node(id).layout;
  axis = from.shape.axis(axis, "select", where);
  Index size = from.shape[axis], i = counted_from_end(index, size);
  if (i < 0 || i >= size)
    fail_at(where, "select: index {} of axis {} in a tensor of shape {}", index, axis, from.shape);
  auto to = graph.plans().derived(&from, static_cast<std::uintptr_t>(axis), selects, [&] {
    Layout layout(from.shape.without(axis));
    for (int k = 0, j = 0; k < from.shape.rank(); ++k)
      if (k != axis) layout.strides[static_cast<std::size_t>(j++)] = from.stride(k);
    return detail::Derived{graph.plans().layout(layout), from.stride(axis)};
  });
  return graph.var(graph.add_part({id, axis, size, i}, to.layout, i * to.distance, where));
}

Var slice(const Var& x, int axis, Index begin, Index end, Source where) {
  Graph& graph = graph_of(x, "slice", where);
  NodeId id = graph.check(x, "slice", where);
  Layout layout = *graph.node(id).layout;
  axis = layout.shape.axis(axis, "slice", where);
  Index size = layout.shape[axis];
  Index first = counted_from_end(begin, size), last = counted_from_end(end, size);
  if (first < 0 || last > size || first > last)
    fail_at(where, "slice: elements {} to {} of axis {} in a tensor of shape {}", begin, end, axis, layout.shape);
  layout.shape = layout.shape.with(axis, last - first);
  return graph.var(graph.add_view(id, graph.plans().layout(layout), first * layout.stride(axis), where));
}

Var part(const Var& x, int axis, Index parts, Index index, Source where) {
  Graph& graph = graph_of(x, "chunk", where);
  NodeId id = graph.check(x, "chunk", where);
  const detail::NodeLayout& from = *graph.node(id).layout;
  axis = from.shape.axis(axis, "chunk", where);
  if (parts < 1) fail_at(where, "chunk: {} parts; at least one is needed", parts);
  auto to = graph.plans().derived(&from, static_cast<std::uintptr_t>(axis), static_cast<std::uintptr_t>(parts), [&] {
    Index size = from.shape[axis];
    if (size % parts != 0)
      fail_at(where, "chunk: axis {} of shape {} does not divide into {} equal parts", axis, from.shape, parts);
    Layout layout = from;
    layout.shape = from.shape.with(axis, size / parts);
    return detail::Derived{graph.plans().layout(layout), size / parts * from.stride(axis)};
  });
  if (index < 0 || index >= parts)
    fail_at(where, "chunk: part {} of {} along axis {} of shape {}", index, parts, axis, from.shape);
  return graph.var(graph.add_part({id, axis, parts, index}, to.layout, index * to.distance, where));
}

Var reshape(const Var& x, std::initializer_list<Index> sizes, Source where) {
  std::array<Index, max_rank> resolved{};
  Index known = 1;
  int open = -1, n = 0;
  if (sizes.size() > static_cast<std::size_t>(max_rank))
    fail_at(where, "reshape: {} axes; a tensor has at most {}", sizes.size(), max_rank);
  for (Index size : sizes) {
    if (size < 0 && open >= 0) fail_at(where, "reshape: more than one size is negative; only one can be left open");
    if (size < 0)
      open = n;
    else
      known *= size;
    resolved[static_cast<std::size_t>(n++)] = size;
  }
  if (open >= 0) resolved[static_cast<std::size_t>(open)] = known == 0 ? 0 : x.shape().count() / known;
  return reshape(x, Shape(std::span<const Index>(resolved.data(), static_cast<std::size_t>(n))), where);
}

Var reshape(const Var& x, const Shape& shape, Source where) {
  Graph& graph = graph_of(x, "reshape", where);
  NodeId id = graph.check(x, "reshape", where);
  const Shape& from = graph.node(id).layout->shape;
  if (from.count() != shape.count())
    fail_at(where, "reshape: {} has {} elements and {} has {}", from, from.count(), shape, shape.count());
  id = graph.contiguous(id, where);
  return graph.var(graph.add_view(id, graph.layout(shape), 0, where));
}

Var transpose(const Var& x, int axis_a, int axis_b, Source where) {
  Graph& graph = graph_of(x, "transpose", where);
  NodeId id = graph.check(x, "transpose", where);
  Layout layout = *graph.node(id).layout;
  auto a = static_cast<std::size_t>(layout.shape.axis(axis_a, "transpose", where));
  auto b = static_cast<std::size_t>(layout.shape.axis(axis_b, "transpose", where));
  Shape shape = layout.shape;
  layout.shape =
      shape.with(static_cast<int>(a), shape[static_cast<int>(b)]).with(static_cast<int>(b), shape[static_cast<int>(a)]);
  std::swap(layout.strides[a], layout.strides[b]);
  return graph.var(graph.add_view(id, graph.plans().layout(layout), 0, where));
}

Var detach(const Var& x, Source where) {
  Graph& graph = graph_of(x, "detach", where);
  NodeId id = graph.check(x, "detach", where);
  NodeId result = graph.add_view(id, graph.node(id).layout, 0, where);
  graph.node(result).needs_grad = false;
  return graph.var(result);
}

namespace {

/// Where each part of a concatenation lies in it: as rows of a fixed distance, at `offset`.
struct Pieces {
  Index outer;    ///< the axes before: rows of the result
  Index columns;  ///< the axes from the concatenated one on: elements of a row
};

template <class T, class F>
void for_each_piece(Graph& graph, std::span<const NodeId> inputs, Pieces pieces, F&& f) {
  Index offset = 0;
  for (NodeId id : inputs) {
    Index width = graph.node(id).count() / std::max<Index>(pieces.outer, 1);
    f(id, offset, width);
    offset += width;
  }
}

void concat_backward(Graph& graph, NodeId id) {
  auto pieces = graph.payload<Pieces>(id);
  with_scalar(graph.node(id).dtype, [&]<class T>(T) {
    MatrixMap<T> dy(reinterpret_cast<T*>(graph.node(id).grad), pieces.outer, pieces.columns,
                    Eigen::OuterStride<>(pieces.columns));
    for_each_piece<T>(graph, graph.node(id).input_ids(), pieces, [&](NodeId input, Index offset, Index width) {
      if (!graph.node(input).needs_grad) return;
      auto target = graph.target(input);
      MatrixMap<T> dx(reinterpret_cast<T*>(target.data), pieces.outer, width, Eigen::OuterStride<>(width));
      if (target.fresh)
        dx = dy.middleCols(offset, width);
      else
        dx += dy.middleCols(offset, width);
    });
  });
}

constexpr detail::Operation concat_operation{"concat", concat_backward};

/// The parts' memory, one after another along rows of `columns` elements, as a tensor of the given shape.
Var join(std::span<const Var> parts, const Shape& shape, Pieces pieces, const char* function, Source where) {
  Graph& graph = graph_of(parts[0], function, where);
  auto* ids = graph.array<NodeId>(parts.size());
  for (std::size_t k = 0; k < parts.size(); ++k)
    ids[k] = graph.contiguous(graph.check(parts[k], function, where), where);
  std::span<const NodeId> inputs(ids, parts.size());
  DType dtype = graph.node(ids[0]).dtype;
  for (NodeId id : inputs)
    if (graph.node(id).dtype != dtype)
      fail_at(where, "{}: {} meets {}; convert one of them", function, dtype, graph.node(id).dtype);
  NodeId result = graph.add(concat_operation, inputs, graph.layout(shape), where);
  graph.keep(result, pieces);
  with_scalar(dtype, [&]<class T>(T) {
    MatrixMap<T> y(graph.value<T>(result), pieces.outer, pieces.columns, Eigen::OuterStride<>(pieces.columns));
    for_each_piece<T>(graph, inputs, pieces, [&](NodeId input, Index offset, Index width) {
      y.middleCols(offset, width) =
          MatrixMap<T>(graph.value<T>(input), pieces.outer, width, Eigen::OuterStride<>(width));
    });
  });
  graph.computed(result, inputs);
  return graph.var(result);
}

}  // namespace

Var stack(std::span<const Var> parts, Source where) {
  if (parts.empty()) fail_at(where, "stack: no parts; at least one is needed");
  const Shape shape = parts[0].shape();
  for (const Var& p : parts)
    if (p.shape() != shape) fail_at(where, "stack: parts of shapes {} and {}; they must agree", shape, p.shape());
  auto n = static_cast<Index>(parts.size());
  return join(parts, shape.insert(0, n), {1, n * shape.count()}, "stack", where);
}

Var concat(std::span<const Var> parts, int axis, Source where) {
  if (parts.empty()) fail_at(where, "concat: no parts; at least one is needed");
  Shape shape = parts[0].shape();
  axis = shape.axis(axis, "concat", where);
  Index total = 0;
  for (const Var& p : parts) {
    bool fits = p.rank() == shape.rank() && p.shape() == shape.with(axis, p.rank() > axis ? p.shape()[axis] : 0);
    if (!fits) fail_at(where, "concat: parts of shapes {} and {}; only axis {} may differ", shape, p.shape(), axis);
    total += p.shape()[axis];
  }
  shape = shape.with(axis, total);
  Index outer = 1, inner = 1;
  for (int k = 0; k < shape.rank(); ++k)
    if (k != axis) (k < axis ? outer : inner) *= shape[k];
  return join(parts, shape, {outer, total * inner}, "concat", where);
}

}  // namespace unroll
