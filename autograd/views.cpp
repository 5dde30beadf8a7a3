#include <autograd/views.h>

#include <fmt/ranges.h>

#include <algorithm>
#include <utility>

namespace unroll {

using detail::Graph;
using detail::NodeId;
using detail::Parent;
using detail::parent_of;

namespace {

Var view(const Parent& parent, const Layout& layout, Index offset, Source where) {
  // Nothing is read at the offset of an empty view, which may lie outside of the parent's memory.
  if (layout.shape.count() == 0) offset = 0;
  return parent.graph.var(parent.graph.add_view(parent.id, parent.graph.plans().layout(layout), offset, where));
}

Index counted_from_end(Index i, Index size) { return i < 0 ? i + size : i; }

/// Adds an axis on the right.
void append(Layout& layout, Index size, Index stride) {
  layout.strides[static_cast<std::size_t>(layout.shape.rank())] = stride;
  layout.shape = layout.shape.insert(layout.shape.rank(), size);
}

/// Which axes are listed.
std::array<bool, max_rank> listed(const Shape& shape, std::initializer_list<int> axes, const char* function,
                                  Source where) {
  std::array<bool, max_rank> result{};
  for (int given : axes) {
    int axis = shape.axis(given, function, where);
    if (std::exchange(result[static_cast<std::size_t>(axis)], true))
      fail_at(where, "{}: axis {} of a tensor of shape {} is given twice", function, given, shape);
  }
  return result;
}

/// The shape of `sizes`, the one that is -1 replaced by what makes `count` elements.
Shape completed(std::initializer_list<Index> sizes, Index count, const char* function, Source where) {
  std::array<Index, max_rank> resolved{};
  Index known = 1;
  int open = -1, n = 0;
  if (sizes.size() > static_cast<std::size_t>(max_rank))
    fail_at(where, "{}: {} axes; a tensor has at most {}", function, sizes.size(), max_rank);
  for (Index size : sizes) {
    if (size < 0 && open >= 0)
      fail_at(where, "{}: more than one size is negative; only one can be left open", function);
    if (size < -1) fail_at(where, "{}: size {}; it must not be negative, or -1 for what is left", function, size);
    if (size == -1)
      open = n;
    else if (__builtin_mul_overflow(known, size, &known))
      fail_at(where, "{}: sizes [{}] have more elements than fit in 64 bits", function, fmt::join(sizes, ", "));
    resolved[static_cast<std::size_t>(n++)] = size;
  }
  if (open >= 0 && known == 0)
    fail_at(where, "{}: sizes [{}]; beside a 0 the -1 could be any number, so write it out", function,
            fmt::join(sizes, ", "));
  if (open >= 0) resolved[static_cast<std::size_t>(open)] = count / known;
  return Shape(std::span<const Index>(resolved.data(), static_cast<std::size_t>(n)));
}

}  // namespace

Parent detail::parent_of(const Var& x, const char* function, Source where) {
  if (x.graph() == nullptr) fail_at(where, "{}: an empty Var; assign a value to it first", function);
  Graph& graph = *x.graph();
  NodeId id = graph.check(x, function, where);
  return {graph, id, *graph.node(id).layout};
}

int detail::new_axis(const Shape& shape, int axis, const char* function, Source where) {
  if (shape.rank() == max_rank)
    fail_at(where, "{}: one axis more than {} has; a tensor has at most {}", function, shape, max_rank);
  int result = axis < 0 ? axis + shape.rank() + 1 : axis;
  if (result < 0 || result > shape.rank())
    fail_at(where, "{}: a new axis {} in a tensor of shape {}; it can be {} to {}", function, axis, shape,
            -shape.rank() - 1, shape.rank());
  return result;
}

// What a view's layout is made from, as Plans::derived keeps it: the axis, and the kind of view or the number of parts.
constexpr std::uintptr_t selects = 0, unsqueezes = ~std::uintptr_t{1};

namespace {

/// The layout of the slices along an axis, without it, and the distance from one to the next.
detail::Derived without(const Parent& of, int axis) {
  const detail::NodeLayout* layout = &of.layout;
  detail::Plans& plans = of.graph.plans();
  return plans.derived(layout, static_cast<std::uintptr_t>(axis), selects, [layout, axis, &plans] {
    Layout result(layout->shape.without(axis));
    for (int k = 0, j = 0; k < layout->shape.rank(); ++k)
      if (k != axis) result.strides[static_cast<std::size_t>(j++)] = layout->stride(k);
    return detail::Derived{plans.layout(result), layout->stride(axis)};
  });
}

/// As many equal parts of an axis as there is room for.
void record_parts(const Parent& of, int axis, const detail::Derived& to, std::span<Var> parts, Source where) {
  if (parts.empty()) return;
  const auto count = static_cast<Index>(parts.size());
  NodeId next = of.graph.add_parts({of.id, axis, count}, to.layout, to.distance, where);
  for (Var& part : parts) part = of.graph.var(next++);
}

}  // namespace

Var select(const Var& x, int axis, Index index, Source where) {
  const Parent from = parent_of(x, "select", where);
  axis = from.shape().axis(axis, "select", where);
  Index size = from.shape()[axis], i = counted_from_end(index, size);
  if (i < 0 || i >= size)
    fail_at(where, "select: index {} of axis {} in a tensor of shape {}", index, axis, from.shape());
  const detail::Derived to = without(from, axis);
  return from.graph.var(from.graph.add_part({from.id, axis, size, i}, to.layout, i * to.distance, where));
}

void detail::all_slices(const Var& x, int axis, std::span<Var> slices, Source where) {
  const Parent from = parent_of(x, "unbind", where);
  axis = from.shape().axis(axis, "unbind", where);
  if (from.shape()[axis] != static_cast<Index>(slices.size()))
    fail_at(where, "unbind: axis {} of shape {} into {} slices; there is one for every index", axis, from.shape(),
            slices.size());
  record_parts(from, axis, without(from, axis), slices, where);
}

std::vector<Var> unbind(const Var& x, int axis, Source where) {
  const Parent from = parent_of(x, "unbind", where);
  std::vector<Var> slices(static_cast<std::size_t>(from.shape()[from.shape().axis(axis, "unbind", where)]));
  detail::all_slices(x, axis, slices, where);
  return slices;
}

Var slice(const Var& x, int axis, Index begin, Index end, Source where) { return slice(x, axis, begin, end, 1, where); }

Var slice(const Var& x, int axis, Index begin, Index end, Index step, Source where) {
  const Parent from = parent_of(x, "slice", where);
  axis = from.shape().axis(axis, "slice", where);
  Index size = from.shape()[axis];
  Index first = counted_from_end(begin, size), last = counted_from_end(end, size);
  if (first < 0 || last > size || first > last)
    fail_at(where, "slice: elements {} to {} of axis {} in a tensor of shape {}", begin, end, axis, from.shape());
  if (step < 1) fail_at(where, "slice: step {}; it must be at least 1 (flip turns an axis round)", step);
  const Index n = last - first;
  if (step == 1 && n > 0 && size % n == 0 && first % n == 0) return part(x, axis, size / n, first / n, where);
  step = std::min(step, std::max<Index>(size, 1));
  Layout layout = from.layout;
  layout.shape = layout.shape.with(axis, (n + step - 1) / step);
  layout.strides[static_cast<std::size_t>(axis)] *= step;
  return view(from, layout, first * from.layout.stride(axis), where);
}

namespace {

/// The layout of one of the equal parts of an axis, and the distance from one to the next.
detail::Derived divided(const Parent& of, int axis, Index parts, Source where) {
  if (parts < 1) fail_at(where, "chunk: {} parts; at least one is needed", parts);
  const detail::NodeLayout* layout = &of.layout;
  detail::Plans& plans = of.graph.plans();
  auto make = [layout, axis, parts, where, &plans] {
    Index size = layout->shape[axis];
    if (size % parts != 0)
      fail_at(where, "chunk: axis {} of shape {} does not divide into {} equal parts", axis, layout->shape, parts);
    Layout result = *layout;
    result.shape = layout->shape.with(axis, size / parts);
    return detail::Derived{plans.layout(result), size / parts * layout->stride(axis)};
  };
  return plans.derived(layout, static_cast<std::uintptr_t>(axis), static_cast<std::uintptr_t>(parts), make);
}

}  // namespace

Var part(const Var& x, int axis, Index parts, Index index, Source where) {
  const Parent from = parent_of(x, "chunk", where);
  axis = from.shape().axis(axis, "chunk", where);
  const detail::Derived to = divided(from, axis, parts, where);
  if (index < 0 || index >= parts)
    fail_at(where, "chunk: part {} of {} along axis {} of shape {}", index, parts, axis, from.shape());
  return from.graph.var(from.graph.add_part({from.id, axis, parts, index}, to.layout, index * to.distance, where));
}

void detail::all_parts(const Var& x, int axis, std::span<Var> parts, Source where) {
  const Parent from = parent_of(x, "chunk", where);
  axis = from.shape().axis(axis, "chunk", where);
  record_parts(from, axis, divided(from, axis, static_cast<Index>(parts.size()), where), parts, where);
}

std::vector<Var> split(const Var& x, std::span<const Index> sizes, int axis, Source where) {
  const Parent from = parent_of(x, "split", where);
  axis = from.shape().axis(axis, "split", where);
  const Index size = from.shape()[axis];
  Index rest = size;
  bool fits = true;
  for (Index s : sizes) {
    fits = fits && s >= 0 && s <= rest;
    rest -= fits ? s : 0;
  }
  if (!fits || rest != 0)
    fail_at(where, "split: sizes [{}] along axis {} of shape {}; they must add up to {}, none of them negative",
            fmt::join(sizes, ", "), axis, from.shape(), size);
  std::vector<Var> result;
  result.reserve(sizes.size());
  Index begin = 0;
  for (Index s : sizes) {
    result.push_back(slice(x, axis, begin, begin + s, where));
    begin += s;
  }
  return result;
}

std::vector<Var> split(const Var& x, std::initializer_list<Index> sizes, int axis, Source where) {
  return split(x, std::span<const Index>(sizes.begin(), sizes.size()), axis, where);
}

Var transpose(const Var& x, int axis_a, int axis_b, Source where) {
  const Parent from = parent_of(x, "transpose", where);
  const Shape& shape = from.shape();
  int a = shape.axis(axis_a, "transpose", where), b = shape.axis(axis_b, "transpose", where);
  Layout layout = from.layout;
  layout.shape = shape.with(a, shape[b]).with(b, shape[a]);
  std::swap(layout.strides[static_cast<std::size_t>(a)], layout.strides[static_cast<std::size_t>(b)]);
  return view(from, layout, 0, where);
}

Var permute(const Var& x, std::initializer_list<int> axes, Source where) {
  const Parent from = parent_of(x, "permute", where);
  listed(from.shape(), axes, "permute", where);
  if (axes.size() != static_cast<std::size_t>(from.shape().rank()))
    fail_at(where, "permute: axes [{}] of a tensor of shape {}; each of its {} axes must be named once",
            fmt::join(axes, ", "), from.shape(), from.shape().rank());
  Layout layout;
  for (int given : axes) {
    int axis = from.shape().axis(given, "permute", where);
    append(layout, from.shape()[axis], from.layout.stride(axis));
  }
  return view(from, layout, 0, where);
}

Var flip(const Var& x, std::initializer_list<int> axes, Source where) {
  const Parent from = parent_of(x, "flip", where);
  auto turned = listed(from.shape(), axes, "flip", where);
  Layout layout = from.layout;
  Index offset = 0;
  for (int axis = 0; axis < from.shape().rank(); ++axis) {
    auto k = static_cast<std::size_t>(axis);
    if (!turned[k]) continue;
    offset += (from.shape()[axis] - 1) * layout.strides[k];
    layout.strides[k] = -layout.strides[k];
  }
  return view(from, layout, offset, where);
}

namespace {

/// Without those of the listed axes that have size 1.
Var squeeze_listed(const Parent& from, const std::array<bool, max_rank>& removed, Source where) {
  Layout layout;
  for (int axis = 0; axis < from.shape().rank(); ++axis)
    if (!removed[static_cast<std::size_t>(axis)] || from.shape()[axis] != 1)
      append(layout, from.shape()[axis], from.layout.stride(axis));
  return view(from, layout, 0, where);
}

}  // namespace

Var squeeze(const Var& x, Source where) {
  std::array<bool, max_rank> all;
  all.fill(true);
  return squeeze_listed(parent_of(x, "squeeze", where), all, where);
}

Var squeeze(const Var& x, std::initializer_list<int> axes, Source where) {
  const Parent from = parent_of(x, "squeeze", where);
  return squeeze_listed(from, listed(from.shape(), axes, "squeeze", where), where);
}

Var squeeze(const Var& x, int axis, Source where) { return squeeze(x, {axis}, where); }

Var unsqueeze(const Var& x, int axis, Source where) {
  const Parent from = parent_of(x, "unsqueeze", where);
  const int at = detail::new_axis(from.shape(), axis, "unsqueeze", where);
  const detail::NodeLayout* layout = &from.layout;
  detail::Plans& plans = from.graph.plans();
  auto to = plans.derived(layout, static_cast<std::uintptr_t>(at), unsqueezes, [layout, at, &plans] {
    const int rank = layout->shape.rank();
    Layout result;
    for (int k = 0; k <= rank; ++k) {
      if (k == at) append(result, 1, k < rank ? layout->shape[k] * layout->stride(k) : 1);
      if (k < rank) append(result, layout->shape[k], layout->stride(k));
    }
    return detail::Derived{plans.layout(result)};
  });
  return from.graph.var(from.graph.add_view(from.id, to.layout, 0, where));
}

Var unflatten(const Var& x, int axis, std::initializer_list<Index> sizes, Source where) {
  const Parent from = parent_of(x, "unflatten", where);
  const Shape& shape = from.shape();
  axis = shape.axis(axis, "unflatten", where);
  const Shape parts = completed(sizes, shape[axis], "unflatten", where);
  if (parts.count() != shape[axis])
    fail_at(where, "unflatten: sizes {} of axis {} of shape {}; their product must be {}", parts, axis, shape,
            shape[axis]);
  if (shape.rank() - 1 + parts.rank() > max_rank)
    fail_at(where, "unflatten: axis {} of shape {} as {}; a tensor has at most {} axes", axis, shape, parts, max_rank);
  const Layout inside(parts);
  Layout layout;
  for (int k = 0; k < shape.rank(); ++k) {
    if (k != axis) append(layout, shape[k], from.layout.stride(k));
    for (int j = 0; k == axis && j < parts.rank(); ++j)
      append(layout, parts[j], inside.stride(j) * from.layout.stride(axis));
  }
  return view(from, layout, 0, where);
}

Var reshape(const Var& x, std::initializer_list<Index> sizes, Source where) {
  const Parent from = parent_of(x, "reshape", where);
  return reshape(x, completed(sizes, from.shape().count(), "reshape", where), where);
}

Var reshape(const Var& x, const Shape& shape, Source where) {
  const Parent from = parent_of(x, "reshape", where);
  if (from.shape().count() != shape.count())
    fail_at(where, "reshape: {} has {} elements and {} has {}", from.shape(), from.shape().count(), shape,
            shape.count());
  NodeId id = from.graph.contiguous(from.id, where);
  return from.graph.var(from.graph.add_view(id, from.graph.layout(shape), 0, where));
}

Var flatten(const Var& x, int first, int last, Source where) {
  const Shape shape = parent_of(x, "flatten", where).shape().rank() == 0 ? Shape{1} : x.shape();
  first = shape.axis(first, "flatten", where);
  last = shape.axis(last, "flatten", where);
  if (first > last)
    fail_at(where, "flatten: axes {} to {} of shape {}; the first is behind the last", first, last, shape);
  Shape result = shape;
  for (int axis = first + 1; axis <= last; ++axis)
    result = result.with(first, result[first] * result[first + 1]).without(first + 1);
  return reshape(x, result, where);
}

Var detach(const Var& x, Source where) {
  const Parent from = parent_of(x, "detach", where);
  // A view would share the tangents as well.
  if (from.graph.dual())
    return from.graph.var(from.graph.add_leaf(from.graph.shown(from.graph.view(from.id)), false, where));
  NodeId result = from.graph.add_view(from.id, &from.layout, 0, where);
  from.graph.node(result).needs_grad = false;
  return from.graph.var(result);
}

}  // namespace unroll
