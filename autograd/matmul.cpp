#include <autograd/matmul.h>

#include <autograd/elementwise.h>
#include <autograd/linear_algebra.h>
#include <autograd/weight_gradient.h>

#include <algorithm>
#include <array>
#include <utility>

namespace unroll::detail {

namespace {

/// The inputs of a node are the factors in pairs, then the addends.
struct AffinePayload {
  std::size_t products;
  /// During a sweep, whose number it notes: of how many rows, from the first on, sums have still to be taken.
  mutable std::uint32_t sweep = 0;
  mutable Index left = 0;

  Index& rows_left(const Node& node) const {
    if (std::exchange(sweep, node.sweep) != node.sweep) left = node.layout->rows();
    return left;
  }
};

constexpr std::size_t most_operands = 16;

template <class T>
T* values(Graph& graph, NodeId id) {
  return graph.value<T>(id);
}

/// y (+)= the addend: of y's shape with rows of any stride, or one row for all.
template <class T>
void add_to_rows(T* y, Index rows, Index columns, const T* addend, Index stride, bool first) {
  for (Index row = 0; row < rows; ++row) {
    Eigen::Map<Eigen::Array<T, Eigen::Dynamic, 1>> to(y + row * columns, columns);
    Eigen::Map<const Eigen::Array<T, Eigen::Dynamic, 1>> from(addend + row * stride, columns);
    if (first)
      to = from;
    else
      to += from;
  }
}

/// The weight as the right-hand factor of x W. Arranging it costs as much as some 16 rows of the product: it is done
/// once per tape, when that many have come one or a few at a time, or when it is used again with more.
template <class T>
Right<T> forward_factor(Graph& graph, NodeId id, Index rows) {
  constexpr Index few_rows = 4, many_rows = 64;
  constexpr std::uint32_t many_uses = 16;
  const Node& node = graph.node(id);
  Index k = node.layout->shape[0], n = node.layout->shape[1], stride = node.layout->row_stride();
  const T* w = reinterpret_cast<const T*>(node.value);
  Factor& factor = graph.factor(id);
  ++factor.uses;
  if (factor.packed == nullptr) {
    if (rows < few_rows ? factor.uses < many_uses : factor.uses == 1 && rows < many_rows)
      return right_in_place(w, stride);
    Index width = panel_columns<T>();
    auto* packed = static_cast<T*>(graph.allocate(packed_bytes<T>(k, n, width)));
    pack_rows<T>(graph.team(), k, {w, stride, n, width, packed, k});
    factor.packed = reinterpret_cast<std::byte*>(packed);
    factor.packed_at = graph.size();
  }
  return packed_right(reinterpret_cast<const T*>(factor.packed), k);
}

/// One row for all is told by its rank, so that it is summed alike when there is only one.
bool is_one_row(const Node& addend, const Shape& y) { return addend.layout->shape.rank() != y.rank(); }

/// dx (+)= dy W^T.
template <class T>
void factor_backward(Graph& graph, NodeId x, NodeId w, const T* dy, Index rows) {
  if (!graph.node(x).needs_grad) return;
  const Shape& shape = graph.node(w).layout->shape;
  const Index stride = graph.node(x).layout->row_stride();
  Right<T> wt = backward_factor<T>(graph, w);
  GradTarget target = graph.target(x);
  T* dx = reinterpret_cast<T*>(target.data);
  multiply(graph.team(), rows, shape[0], shape[1], left_in_place(dy, shape[1], rows), wt,
           target.fresh ? Start<T>{} : Start<T>{dx, stride}, dx, stride);
}

/// What sums over rows: the gradients of the weights, and of one row for all. Of one or several nodes with the same dy.
template <class T>
struct SumsOverRows {
  std::array<Use<T>, 2 * most_operands> uses;
  std::array<NodeId, 2 * most_operands> one_row;
  std::size_t use_count = 0, one_row_count = 0;

  /// Of a node, from one of its rows on.
  void add(Graph& graph, NodeId id, Index first) {
    const auto inputs = graph.node(id).input_ids();
    const std::size_t products = graph.payload<AffinePayload>(id).products;
    for (std::size_t i = 0; i < 2 * products; i += 2) {
      const Index stride = graph.node(inputs[i]).layout->row_stride();
      if (graph.node(inputs[i + 1]).needs_grad)
        uses[use_count++] = use_weight<T>(graph, inputs[i + 1], values<T>(graph, inputs[i]) + first * stride, stride);
    }
    for (NodeId addend : inputs.subspan(2 * products))
      if (graph.node(addend).needs_grad && is_one_row(graph.node(addend), graph.node(id).layout->shape))
        one_row[one_row_count++] = addend;
  }

  void run(Graph& graph, const T* dy, Index rows, Index columns) const {
    // A few rows at a time, from the last on, so that dy is read from far away once.
    constexpr Index few = 64;
    Index end = rows;
    do {
      const Index first = std::max<Index>(end - 1, 0) / few * few;
      gather(graph, std::span(uses).first(use_count), first, dy + first * columns, end - first);
      for (NodeId id : std::span(one_row).first(one_row_count))
        gather_row(graph, id, dy + first * columns, end - first, columns);
      end = first;
    } while (end > 0);
  }
};

/// A node's gradient that is kept in rows of another product's, as that of gates_x[t] + matmul(h, W) is in those of
/// gates_x = matmul(x, U), is the whole gradient of these rows. While it is near, the other's sums take it along: adds
/// them where these rows are the next to be summed, unless all is so little that it stays near, or a profile is to show
/// what each line costs.
template <class T>
void take_along(Graph& graph, const Node& node, SumsOverRows<T>& sums) {
  constexpr Index few = 2048;
  if (!node.borrows || node.count() < few || graph.watched()) return;
  const NodeId id = graph.node(node.hands_on).base;
  const Node& other = graph.node(id);
  const Index columns = other.layout->shape.columns();
  const Index offset = reinterpret_cast<const T*>(node.grad) - reinterpret_cast<const T*>(other.grad);
  if (other.operation != node.operation || columns != node.layout->shape.columns()) return;
  const AffinePayload& payload = graph.payload<AffinePayload>(id);
  Index& left = payload.rows_left(other);
  if (offset / columns + node.layout->rows() != left) return;
  left = offset / columns;
  sums.add(graph, id, left);
}

/// The gradient of an addend that has y's shape.
template <class T>
void addend_backward(Graph& graph, NodeId id, const T* dy, const Shape& y) {
  const Node& addend = graph.node(id);
  const Index rows = y.rows(), columns = y.columns();
  if (!addend.needs_grad || is_one_row(addend, y)) return;
  GradTarget target = graph.target(id);
  T* to = reinterpret_cast<T*>(target.data);
  Index stride = addend.layout->row_stride();
  for (Index row = 0; row < rows; ++row)
    add_to_rows(to + row * stride, 1, columns, dy + row * columns, 0, target.fresh);
}

void affine_backward(Graph& graph, NodeId id) {
  const Node& node = graph.node(id);
  auto inputs = node.input_ids();
  const AffinePayload& payload = graph.payload<AffinePayload>(id);
  with_scalar(node.dtype, [&]<class T>(T) {
    const T* dy = reinterpret_cast<const T*>(node.grad);
    for (std::size_t i = 0; i < payload.products; ++i)
      factor_backward<T>(graph, inputs[2 * i], inputs[2 * i + 1], dy, node.layout->rows());
    const Index rows = node.layout->rows(), left = payload.rows_left(node);
    if (left > 0 || rows == 0) {
      SumsOverRows<T> sums;
      sums.add(graph, id, 0);
      if (left == rows) take_along(graph, node, sums);
      sums.run(graph, dy, left, node.layout->shape.columns());
    }
    for (NodeId addend : inputs.subspan(2 * payload.products))
      if (!node.borrows || addend != node.hands_on) addend_backward<T>(graph, addend, dy, node.layout->shape);
  });
}

double affine_flops(const Graph& graph, NodeId id, std::span<const NodeId> inputs, bool backward) {
  const Shape& y = graph.node(id).layout->shape;
  double flops = 0;
  for (std::size_t i = 0; i + 1 < inputs.size(); i += 2) {
    const Node &a = graph.node(inputs[i]), &b = graph.node(inputs[i + 1]);
    bool addends = b.layout->shape.rank() != 2 || a.layout->shape.columns() != b.layout->shape[0];
    if (addends || a.layout->rows() != y.rows()) break;
    double products = backward ? (a.needs_grad ? 1 : 0) + (b.needs_grad ? 1 : 0) : 1;
    flops += 2.0 * static_cast<double>(y.count()) * static_cast<double>(b.layout->shape[0]) * products;
  }
  return flops;
}

constexpr Operation affine{"matmul", affine_backward, affine_flops};

/// The layout of a product, after checks; the distance is 1 where b is not a matrix: see linear_algebra.h.
Derived product_layout(Graph& graph, NodeId a_id, NodeId b_id, Source where) {
  const Node &a = graph.node(a_id), &b = graph.node(b_id);
  if (a.dtype != b.dtype) fail_at(where, "matmul: a is {} and b is {}; convert one of them", a.dtype, b.dtype);
  constexpr std::uintptr_t product = ~std::uintptr_t{0};
  auto make = [&] {
    const Shape &left = a.layout->shape, &right = b.layout->shape;
    return Derived{graph.layout(product_shape(left, right, where)), right.rank() != 2};
  };
  return graph.plans().derived(a.layout, reinterpret_cast<std::uintptr_t>(b.layout), product, make);
}

/// True when an addend can be added row by row to a product of this shape.
bool adds_by_rows(const Node& addend, const NodeLayout* product) {
  if (addend.layout == product) return true;
  const Shape &own = addend.layout->shape, &shape = product->shape;
  if (own == shape) return addend.layout->rowwise();
  return own.rank() == 1 && own[0] == shape.columns() && addend.layout->contiguous();
}

/// A sum whose terms only broadcasting brings together, or that holds products with something else than a matrix.
Var sum_apart(Graph& graph, std::span<const NodeId> inputs, std::size_t products, Source where) {
  std::array<const NodeLayout*, most_operands> layouts{};
  const std::size_t terms = inputs.size() - products;
  for (std::size_t i = 0; i < terms; ++i)
    layouts[i] = i < products ? product_layout(graph, inputs[2 * i], inputs[2 * i + 1], where).layout
                              : graph.node(inputs[products + i]).layout;
  Shape shape = layouts[0]->shape;
  for (std::size_t i = 1; i < terms; ++i) shape = broadcast(shape, layouts[i]->shape, "matmul's addend", where);

  Var sum;
  for (std::size_t i = 0; i < terms; ++i) {
    Var term;
    if (i >= products) {
      term = graph.var(inputs[products + i]);
    } else {
      const Var a = graph.var(inputs[2 * i]), b = graph.var(inputs[2 * i + 1]);
      term = b.rank() == 2 ? Var(matmul(a, b, where), where)
                           : graph.var(record_batches(graph, inputs[2 * i], inputs[2 * i + 1], layouts[i], where));
    }
    sum = i == 0 ? term : Var(sum + term, where);
  }
  return sum;
}

/// The addend to whose gradient dy is added as it is, and that shares no memory with another input.
NodeId handed_on(const Graph& graph, std::span<const NodeId> inputs, std::size_t first_addend,
                 const NodeLayout* layout) {
  for (std::size_t i = first_addend; i < inputs.size(); ++i) {
    const Node& addend = graph.node(inputs[i]);
    bool whole = addend.layout == layout && graph.node(addend.region).layout == layout && !addend.irregular;
    auto shares = [&](NodeId other) { return graph.node(other).base == addend.base; };
    if (whole && std::ranges::count_if(inputs, shares) == 1) return inputs[i];
  }
  return no_node;
}

}  // namespace

Var record_affine(std::span<const Argument> factors, std::span<const Argument> addends, Source where) {
  Graph* graph = nullptr;
  for (const Argument& factor : factors) graph = graph != nullptr ? graph : factor.graph();
  for (const Argument& addend : addends) graph = graph != nullptr ? graph : addend.graph();
  if (graph == nullptr) fail_at(where, "matmul: no operand is a Var, so no tape; start from tape.use(parameter)");

  std::size_t products = factors.size() / 2;
  if (factors.size() + addends.size() > most_operands)
    fail_at(where, "matmul: a sum of {} products and {} addends; split it into two statements", products,
            addends.size());
  std::array<NodeId, most_operands> inputs;
  inputs.fill(no_node);
  for (std::size_t i = 0; i < factors.size(); ++i) inputs[i] = factors[i].bind(*graph, "matmul", where);
  const Derived first = product_layout(*graph, inputs[0], inputs[1], where);
  const NodeLayout* layout = first.layout;
  DType dtype = graph->node(inputs[0]).dtype;
  bool in_place = first.distance == 0;
  for (std::size_t i = 1; i < products; ++i) {
    const Derived next = product_layout(*graph, inputs[2 * i], inputs[2 * i + 1], where);
    in_place &= next.layout == layout && next.distance == 0;
    if (graph->node(inputs[2 * i]).dtype != dtype)
      fail_at(where, "matmul: one product is {} and another {}; convert one", dtype, graph->node(inputs[2 * i]).dtype);
  }
  for (std::size_t i = 0; i < addends.size(); ++i) {
    NodeId id = inputs[factors.size() + i] = addends[i].bind(*graph, "matmul", where);
    in_place &= adds_by_rows(graph->node(id), layout);
    if (graph->node(id).dtype != dtype)
      fail_at(where, "matmul: the product is {} and what is added {}; convert one", dtype, graph->node(id).dtype);
  }
  if (!in_place) return sum_apart(*graph, {inputs.data(), factors.size() + addends.size()}, products, where);

  for (std::size_t i = 0; i < factors.size(); ++i) inputs[i] = graph->rowwise(inputs[i], where);
  NodeId id = graph->add(affine, {inputs.data(), factors.size() + addends.size()}, layout, where);
  graph->keep(id, AffinePayload{.products = products});
  graph->node(id).hands_on = handed_on(*graph, graph->node(id).input_ids(), factors.size(), layout);
  Index rows = layout->rows(), columns = layout->shape.columns();
  with_scalar(dtype, [&]<class T>(T) {
    T* y = graph->value<T>(id);
    Start<T> start;
    for (NodeId input : std::span(inputs.data(), factors.size() + addends.size()).subspan(factors.size())) {
      const Node& addend = graph->node(input);
      Start<T> next{graph->value<T>(input), addend.count() == rows * columns ? addend.layout->row_stride() : 0};
      if (addends.size() == 1) {
        start = next;
      } else {
        add_to_rows(y, rows, columns, next.data, next.row, start.data == nullptr);
        start = {y, columns};
      }
    }
    for (std::size_t i = 0; i < products; ++i) {
      const Node &a = graph->node(inputs[2 * i]), &b = graph->node(inputs[2 * i + 1]);
      multiply(graph->team(), rows, columns, b.layout->shape[0],
               left_in_place<T>(graph->value<T>(inputs[2 * i]), a.layout->row_stride(), rows),
               forward_factor<T>(*graph, inputs[2 * i + 1], rows), start, y, columns);
      start = {y, columns};
    }
  });
  graph->computed(id, {inputs.data(), factors.size() + addends.size()});
  return graph->var(id);
}

}  // namespace unroll::detail
