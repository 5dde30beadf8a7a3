#include <autograd/matmul.h>

#include <autograd/elementwise.h>
#include <autograd/gemm.h>
#include <autograd/parallel.h>

#include <algorithm>
#include <cstring>

namespace unroll::detail {

namespace {

/// The inputs of a node are the factors in pairs, then the addends.
struct AffinePayload {
  std::size_t products;
};

/// Products with fewer rows than this are gathered over many steps before they go to a weight's gradient,
/// which would otherwise be read and written whole at each step; and they use a transposed copy of the
/// weight, because with few rows a product with a transposed operand runs at half the speed.
constexpr Index few_rows = 192;

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

/// sum (+)= the sum of the rows. Sums of 64 rows at a time, so that long sums lose few digits.
template <class T>
void sum_rows(T* sum, const T* dy, Index rows, Index columns) {
  constexpr Index width = 64, height = 64;
  Index blocks = rows * columns < parallel_grain ? 1 : (columns + width - 1) / width;
  for_each_block(blocks, [&](Index block) {
    Index begin = blocks == 1 ? 0 : block * width, end = blocks == 1 ? columns : std::min(begin + width, columns);
    for (Index left = begin; left < end; left += width) {
      Index n = std::min(width, end - left);
      Eigen::Map<Eigen::Array<T, Eigen::Dynamic, 1, 0, width>> total(sum + left, n);
      for (Index top = 0; top < rows; top += height) {
        Eigen::Array<T, Eigen::Dynamic, 1, 0, width> part = Eigen::Array<T, Eigen::Dynamic, 1, 0, width>::Zero(n);
        for (Index row = top; row < std::min(top + height, rows); ++row)
          part += Eigen::Map<const Eigen::Array<T, Eigen::Dynamic, 1>>(dy + row * columns + left, n);
        total += part;
      }
    }
  });
}

}  // namespace

/// During a sweep: the transposed copy of a weight, and the rows gathered for its gradient.
struct WeightSweep {
  std::byte* transposed = nullptr;
  std::byte* x = nullptr;   ///< [capacity, K]
  std::byte* dy = nullptr;  ///< [capacity, N]
  Index rows = 0;
  Index capacity = 0;
};

namespace {

WeightSweep& weight_sweep(Graph& graph, NodeId id) {
  Node& weight = graph.touch(id);
  if (weight.weight == nullptr) weight.weight = new (graph.pool().allocate(sizeof(WeightSweep))) WeightSweep;
  return *weight.weight;
}

/// dW (+)= x^T dy.
template <class T>
void add_weight_grad(Graph& graph, NodeId id, const T* x, Index x_stride, const T* dy, Index rows) {
  const Node& weight = graph.node(id);
  const Shape& shape = weight.layout->shape;
  GradTarget target = graph.target(id);
  gemm<T>(shape[0], shape[1], rows, {x, x_stride, true}, {dy, shape[1]}, target.fresh ? 0 : 1,
          reinterpret_cast<T*>(target.data), weight.layout->row_stride());
}

template <class T>
void flush(Graph& graph, NodeId id, WeightSweep& sweep) {
  if (sweep.rows == 0) return;
  add_weight_grad<T>(graph, id, reinterpret_cast<const T*>(sweep.x), graph.node(id).layout->shape[0],
                     reinterpret_cast<const T*>(sweep.dy), sweep.rows);
  sweep.rows = 0;
}

/// Puts the rows of x and dy aside for the weight's gradient.
template <class T>
void gather(Graph& graph, NodeId id, const T* x, Index x_stride, const T* dy, Index rows) {
  const Shape& shape = graph.node(id).layout->shape;
  Index k = shape[0], n = shape[1];
  WeightSweep& sweep = weight_sweep(graph, id);
  if (sweep.capacity == 0) {
    constexpr Index cache = Index{1} << 18;  // elements: half a core's private cache
    sweep.capacity = std::clamp<Index>(cache / (k + n), 256, 2048);
    sweep.x = graph.pool().allocate(static_cast<std::size_t>(sweep.capacity * k) * sizeof(T));
    sweep.dy = graph.pool().allocate(static_cast<std::size_t>(sweep.capacity * n) * sizeof(T));
  }
  if (sweep.rows + rows > sweep.capacity) flush<T>(graph, id, sweep);
  T* to = reinterpret_cast<T*>(sweep.x) + sweep.rows * k;
  for (Index row = 0; row < rows; ++row) std::copy_n(x + row * x_stride, k, to + row * k);
  std::copy_n(dy, rows * n, reinterpret_cast<T*>(sweep.dy) + sweep.rows * n);
  sweep.rows += rows;
}

/// The weight as the right-hand factor of dy W^T.
template <class T>
Operand2D<T> transposed(Graph& graph, NodeId id, Index rows) {
  const Node& node = graph.node(id);
  const Shape& shape = node.layout->shape;
  const T* w = reinterpret_cast<const T*>(node.value);
  if (rows >= few_rows || node.uses <= 1) return {w, node.layout->row_stride(), true};
  WeightSweep& sweep = weight_sweep(graph, id);
  if (sweep.transposed == nullptr) {
    sweep.transposed = graph.pool().allocate(node.bytes());
    ConstMatrixMap<T> from(w, shape[0], shape[1], Eigen::OuterStride<>(node.layout->row_stride()));
    MatrixMap<T>(reinterpret_cast<T*>(sweep.transposed), shape[1], shape[0], Eigen::OuterStride<>(shape[0])) =
        from.transpose();
  }
  return {reinterpret_cast<const T*>(sweep.transposed), shape[0], false};
}

template <class T>
void product_backward(Graph& graph, NodeId x, NodeId w, const T* dy, Index rows) {
  const Shape& shape = graph.node(w).layout->shape;
  if (graph.node(x).needs_grad) {
    Operand2D<T> wt = transposed<T>(graph, w, rows);
    GradTarget target = graph.target(x);
    gemm<T>(rows, shape[0], shape[1], {dy, shape[1]}, wt, target.fresh ? 0 : 1, reinterpret_cast<T*>(target.data),
            graph.node(x).layout->row_stride());
  }
  if (graph.node(w).needs_grad) {
    const T* value = values<T>(graph, x);
    Index stride = graph.node(x).layout->row_stride();
    if (rows >= few_rows || graph.node(w).uses <= 1)
      add_weight_grad<T>(graph, w, value, stride, dy, rows);
    else
      gather<T>(graph, w, value, stride, dy, rows);
  }
}

template <class T>
void addend_backward(Graph& graph, NodeId id, const T* dy, Index rows, Index columns) {
  const Node& addend = graph.node(id);
  if (!addend.needs_grad) return;
  if (addend.count() != rows * columns) {
    sum_rows(reinterpret_cast<T*>(graph.accumulator(id)), dy, rows, columns);
    return;
  }
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
  Index rows = node.layout->shape.rows(), columns = node.layout->shape.columns();
  with_type(node.dtype, [&]<class T>(T) {
    const T* dy = reinterpret_cast<const T*>(node.grad);
    for (std::size_t i = 0; i < products; ++i) product_backward<T>(graph, inputs[2 * i], inputs[2 * i + 1], dy, rows);
    for (NodeId addend : inputs.subspan(2 * products)) addend_backward<T>(graph, addend, dy, rows, columns);
  });
}

constexpr Operation affine{"matmul", affine_backward};

/// The shape of a product, after checks.
Shape product_shape(const Node& a, const Node& b, Source where) {
  const Shape &left = a.layout->shape, &right = b.layout->shape;
  if (right.rank() != 2 || left.rank() < 1)
    fail_at(where, "matmul: a is {} and b is {}; b must be a matrix, and a have at least one axis", left, right);
  if (left.columns() != right[0])
    fail_at(where, "matmul: a is {} and b is {}; a's columns must equal b's rows", left, right);
  if (a.dtype != b.dtype) fail_at(where, "matmul: a is {} and b is {}; convert one of them", a.dtype, b.dtype);
  return left.with(left.rank() - 1, right[1]);
}

/// True when an addend can be added row by row to a product of this shape.
bool adds_by_rows(const Node& addend, const Shape& shape) {
  const Shape& own = addend.layout->shape;
  if (own == shape) return addend.layout->rowwise();
  return own.rank() == 1 && own[0] == shape.columns() && addend.layout->contiguous();
}

Var plus(const Var& a, const Var& b, Source where) { return Var(a + b, where); }

}  // namespace

void finish_weight(Graph& graph, NodeId id) {
  Node& node = graph.node(id);
  WeightSweep& sweep = *node.weight;
  std::size_t size = size_of(node.dtype);
  with_type(node.dtype, [&]<class T>(T) { flush<T>(graph, id, sweep); });
  const Shape& shape = node.layout->shape;
  if (sweep.transposed != nullptr) graph.pool().release(sweep.transposed, node.bytes());
  if (sweep.capacity != 0) {
    graph.pool().release(sweep.x, static_cast<std::size_t>(sweep.capacity * shape[0]) * size);
    graph.pool().release(sweep.dy, static_cast<std::size_t>(sweep.capacity * shape[1]) * size);
  }
  graph.pool().release(reinterpret_cast<std::byte*>(node.weight), sizeof(WeightSweep));
  node.weight = nullptr;
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
  for (std::size_t i = 0; i < factors.size(); ++i) inputs[i] = factors[i].bind(*graph, "matmul", where);
  Shape shape = product_shape(graph->node(inputs[0]), graph->node(inputs[1]), where);
  DType dtype = graph->node(inputs[0]).dtype;
  bool in_place = true;
  for (std::size_t i = 1; i < products; ++i)
    in_place &= product_shape(graph->node(inputs[2 * i]), graph->node(inputs[2 * i + 1]), where) == shape;
  for (std::size_t i = 0; i < addends.size(); ++i) {
    NodeId id = inputs[factors.size() + i] = addends[i].bind(*graph, "matmul", where);
    in_place &= adds_by_rows(graph->node(id), shape);
    broadcast(shape, graph->node(id).layout->shape, "matmul's addend", where);
    if (graph->node(id).dtype != dtype)
      fail_at(where, "matmul: the product is {} and what is added {}; convert one", dtype, graph->node(id).dtype);
  }
  if (!in_place) {  // shapes that only broadcasting brings together
    Var sum = record_affine(factors.first(2), {}, where);
    for (std::size_t i = 1; i < products; ++i)
      sum = plus(sum, record_affine(factors.subspan(2 * i, 2), {}, where), where);
    for (std::size_t i = 0; i < addends.size(); ++i) sum = plus(sum, graph->var(inputs[factors.size() + i]), where);
    return sum;
  }

  for (std::size_t i = 0; i < factors.size(); ++i) inputs[i] = graph->rowwise(inputs[i], where);
  for (std::size_t i = 0; i < products; ++i) ++graph->node(inputs[2 * i + 1]).uses;
  NodeId id = graph->add(affine, {inputs.data(), factors.size() + addends.size()}, graph->layout(shape), dtype, where);
  graph->keep(id, AffinePayload{products});
  Index rows = shape.rows(), columns = shape.columns();
  with_type(dtype, [&]<class T>(T) {
    T* y = graph->value<T>(id);
    bool first = true;
    for (std::size_t i = factors.size(); i < factors.size() + addends.size(); ++i) {
      const Node& addend = graph->node(inputs[i]);
      Index stride = addend.count() == rows * columns ? addend.layout->row_stride() : 0;
      add_to_rows(y, rows, columns, graph->value<T>(inputs[i]), stride, first);
      first = false;
    }
    for (std::size_t i = 0; i < products; ++i) {
      const Node &a = graph->node(inputs[2 * i]), &b = graph->node(inputs[2 * i + 1]);
      gemm<T>(rows, columns, a.layout->shape.columns(), {graph->value<T>(inputs[2 * i]), a.layout->row_stride()},
              {graph->value<T>(inputs[2 * i + 1]), b.layout->row_stride()}, first ? 0 : 1, y, columns);
      first = false;
    }
  });
  return graph->var(id);
}

}  // namespace unroll::detail
