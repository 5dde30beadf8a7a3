#include <autograd/matmul.h>

#include <autograd/elementwise.h>
#include <autograd/gemm.h>
#include <autograd/linear_algebra.h>

#include <algorithm>
#include <cstring>

namespace unroll::detail {

namespace {

/// The inputs of a node are the factors in pairs, then the addends.
struct AffinePayload {
  std::size_t products;
};

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

}  // namespace

/// During a sweep: the weight arranged for dy W^T, and the rows gathered for its gradient; or what a row that was added
/// to every row of a product is still to receive. Rows come from the last to the first, however many at a time, and are
/// added up in groups that follow from their number alone: a checkpoint changes no bit.
struct WeightSweep {
  std::byte* transposed = nullptr;
  std::byte* x = nullptr;   ///< [capacity, K], arranged as the left-hand factor of x^T dy
  std::byte* dy = nullptr;  ///< [capacity, N], as the right-hand one
  Index rows = 0;           ///< of those, filled from the end
  Index capacity = 0;
  Index group = 0;            ///< columns of x that are together
  std::byte* sums = nullptr;  ///< [N]: the sum of fewer than 64 rows
  Index summed = 0;           ///< how many
};

namespace {

WeightSweep& weight_sweep(Graph& graph, NodeId id) {
  Node& weight = graph.touch(id);
  if (weight.weight == nullptr) weight.weight = new (graph.pool().allocate(sizeof(WeightSweep))) WeightSweep;
  return *weight.weight;
}

template <class T>
std::size_t packed_bytes(Index rows, Index columns, Index width) {
  return static_cast<std::size_t>(packed_size(rows, columns, width)) * sizeof(T);
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
    pack_rows<T>(graph.team(), k, {{w, stride, n, width, packed, k}});
    factor.packed = reinterpret_cast<std::byte*>(packed);
    factor.packed_at = graph.size();
  }
  return packed_right(reinterpret_cast<const T*>(factor.packed), k);
}

/// The weight as the right-hand factor of dy W^T.
template <class T>
Right<T> backward_factor(Graph& graph, NodeId id) {
  const Node& node = graph.node(id);
  Index k = node.layout->shape[0], n = node.layout->shape[1], width = panel_columns<T>();
  WeightSweep& sweep = weight_sweep(graph, id);
  if (sweep.transposed == nullptr) {
    sweep.transposed = graph.pool().allocate(packed_bytes<T>(n, k, width));
    pack_transposed(graph.team(), reinterpret_cast<const T*>(node.value), node.layout->row_stride(), n, k, width,
                    reinterpret_cast<T*>(sweep.transposed));
  }
  return packed_right(reinterpret_cast<const T*>(sweep.transposed), n);
}

/// dW (+)= x^T dy with the rows gathered so far.
template <class T>
void flush(Graph& graph, NodeId id, WeightSweep& sweep) {
  if (sweep.rows == 0) return;
  const Node& weight = graph.node(id);
  Index k = weight.layout->shape[0], n = weight.layout->shape[1], stride = weight.layout->row_stride();
  GradTarget target = graph.target(id);
  T* dw = reinterpret_cast<T*>(target.data);
  const Index first = sweep.capacity - sweep.rows;
  const T* x = reinterpret_cast<const T*>(sweep.x) + first * sweep.group;
  const T* dy = reinterpret_cast<const T*>(sweep.dy) + first * panel_columns<T>();
  multiply(graph.team(), k, n, sweep.rows, packed_left(x, sweep.capacity, k), packed_right(dy, sweep.capacity),
           target.fresh ? Start<T>{} : Start<T>{dw, stride}, dw, stride);
  sweep.rows = 0;
}

/// Adds x^T dy to the weight's gradient, by and by: multiplied a few rows at a time, the whole gradient would be read
/// and written at every step.
template <class T>
void gather(Graph& graph, NodeId id, const T* x, Index x_stride, const T* dy, Index rows) {
  const Shape& shape = graph.node(id).layout->shape;
  Index k = shape[0], n = shape[1];
  WeightSweep& sweep = weight_sweep(graph, id);
  if (sweep.capacity == 0) {
    constexpr Index cache = Index{1} << 18;  // elements: half a core's private cache
    sweep.capacity = std::clamp<Index>(cache / std::max<Index>(k + n, 1), 256, 2048);
    sweep.group = group_rows<T>(k);
    sweep.x = graph.pool().allocate(packed_bytes<T>(sweep.capacity, k, sweep.group));
    sweep.dy = graph.pool().allocate(packed_bytes<T>(sweep.capacity, n, panel_columns<T>()));
  }
  for (Index bottom = rows; bottom > 0;) {
    if (sweep.rows == sweep.capacity) flush<T>(graph, id, sweep);
    const Index some = std::min(bottom, sweep.capacity - sweep.rows), to = sweep.capacity - sweep.rows - some;
    bottom -= some;
    auto *x_to = reinterpret_cast<T*>(sweep.x), *dy_to = reinterpret_cast<T*>(sweep.dy);
    pack_rows<T>(graph.team(), some,
                 {{x + bottom * x_stride, x_stride, k, sweep.group, x_to, sweep.capacity, to},
                  {dy + bottom * n, n, n, panel_columns<T>(), dy_to, sweep.capacity, to}});
    sweep.rows += some;
  }
}

/// Adds the sum of the rows of dy to a row's gradient, by and by: sums of 64 rows at a time, so that long sums lose few
/// digits.
template <class T>
void gather_row(Graph& graph, NodeId id, const T* dy, Index rows, Index columns) {
  constexpr Index width = 64, height = 64;
  WeightSweep& sweep = weight_sweep(graph, id);
  if (sweep.sums == nullptr) {
    sweep.sums = graph.pool().allocate(static_cast<std::size_t>(columns) * sizeof(T));
    std::fill_n(reinterpret_cast<T*>(sweep.sums), columns, T(0));
  }
  T* total = reinterpret_cast<T*>(graph.accumulator(id));
  const Index blocks = rows * columns < parallel_grain ? 1 : (columns + width - 1) / width;
  graph.team().for_each_block(blocks, [&](Index block) {
    const Index begin = blocks == 1 ? 0 : block * width, end = blocks == 1 ? columns : std::min(begin + width, columns);
    for (Index left = begin; left < end; left += width) {
      const Index n = std::min(width, end - left);
      using Row = Eigen::Array<T, Eigen::Dynamic, 1, 0, width>;
      Eigen::Map<Row> kept(reinterpret_cast<T*>(sweep.sums) + left, n), sum(total + left, n);
      Row part = kept;
      for (Index bottom = rows, summed = sweep.summed; bottom > 0;) {
        const Index some = std::min(height - summed, bottom);
        for (Index row = bottom - 1; row >= bottom - some; --row)
          part += Eigen::Map<const Eigen::Array<T, Eigen::Dynamic, 1>>(dy + row * columns + left, n);
        bottom -= some;
        summed += some;
        if (summed < height) continue;
        sum += part;
        part.setZero();
        summed = 0;
      }
      kept = part;
    }
  });
  sweep.summed = (sweep.summed + rows) % height;
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

/// What sums over rows: the gradients of the weights, and of one row for all.
template <class T>
void sums_backward(Graph& graph, std::span<const NodeId> inputs, std::size_t products, const T* dy, const Shape& y) {
  const Index columns = y.columns();
  // A few rows at a time, from the last on, so that dy is read from far away once.
  constexpr Index few = 64;
  Index end = y.rows();
  do {
    const Index first = std::max<Index>(end - 1, 0) / few * few, some = end - first;
    end = first;
    for (std::size_t i = 0; i < 2 * products; i += 2) {
      const NodeId x = inputs[i], w = inputs[i + 1];
      const Index stride = graph.node(x).layout->row_stride();
      if (graph.node(w).needs_grad)
        gather(graph, w, values<T>(graph, x) + first * stride, stride, dy + first * columns, some);
    }
    for (NodeId addend : inputs.subspan(2 * products))
      if (graph.node(addend).needs_grad && is_one_row(graph.node(addend), y))
        gather_row(graph, addend, dy + first * columns, some, columns);
  } while (end > 0);
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
  std::size_t products = graph.payload<AffinePayload>(id).products;
  with_scalar(node.dtype, [&]<class T>(T) {
    const T* dy = reinterpret_cast<const T*>(node.grad);
    for (std::size_t i = 0; i < products; ++i)
      factor_backward<T>(graph, inputs[2 * i], inputs[2 * i + 1], dy, node.layout->rows());
    sums_backward<T>(graph, inputs, products, dy, node.layout->shape);
    for (NodeId addend : inputs.subspan(2 * products))
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
  std::array<const NodeLayout*, 16> layouts{};
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

void finish_weight(Graph& graph, NodeId id) {
  WeightSweep& sweep = *graph.node(id).weight;
  BufferPool& pool = graph.pool();
  with_scalar(graph.node(id).dtype, [&]<class T>(T) {
    const Shape& shape = graph.node(id).layout->shape;
    flush<T>(graph, id, sweep);
    if (sweep.transposed != nullptr)
      pool.release(sweep.transposed, packed_bytes<T>(shape[1], shape[0], panel_columns<T>()));
    if (sweep.capacity != 0) {
      pool.release(sweep.x, packed_bytes<T>(sweep.capacity, shape[0], sweep.group));
      pool.release(sweep.dy, packed_bytes<T>(sweep.capacity, shape[1], panel_columns<T>()));
    }
    if (sweep.sums != nullptr) {
      T* total = reinterpret_cast<T*>(graph.accumulator(id));
      for (Index i = 0; i < shape.count(); ++i) total[i] += reinterpret_cast<const T*>(sweep.sums)[i];
      pool.release(sweep.sums, static_cast<std::size_t>(shape.count()) * sizeof(T));
    }
  });
  pool.release(reinterpret_cast<std::byte*>(&sweep), sizeof(WeightSweep));
  graph.node(id).weight = nullptr;
}

Var record_affine(std::span<const Argument> factors, std::span<const Argument> addends, Source where) {
  Graph* graph = nullptr;
  for (const Argument& factor : factors) graph = graph != nullptr ? graph : factor.graph();
  for (const Argument& addend : addends) graph = graph != nullptr ? graph : addend.graph();
  if (graph == nullptr) fail_at(where, "matmul: no operand is a Var, so no tape; start from tape.use(parameter)");

  constexpr std::size_t most = 16;
  std::size_t products = factors.size() / 2;
  if (factors.size() + addends.size() > most)
    fail_at(where, "matmul: a sum of {} products and {} addends; split it into two statements", products,
            addends.size());
  std::array<NodeId, most> inputs;
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
  graph->keep(id, AffinePayload{products});
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
