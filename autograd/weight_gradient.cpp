#include <autograd/weight_gradient.h>

#include <algorithm>
#include <array>
#include <bit>
#include <utility>

namespace unroll::detail {

/// Rows of dy, arranged as the right-hand factor of x^T dy, and the weights that they are for.
struct SharedRows {
  static constexpr std::size_t most = 4;  ///< more have rows of their own
  std::byte* data;
  std::array<NodeId, most> weights;
  std::size_t count;

  std::span<const NodeId> users() const { return {weights.data(), count}; }
};

namespace {

template <class T>
std::size_t rows_bytes(Graph& graph, NodeId weight, const WeightSweep& sweep) {
  return packed_bytes<T>(sweep.capacity, graph.node(weight).layout->shape[1], panel_columns<T>());
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
  const T* dy = reinterpret_cast<const T*>(sweep.dy->data) + first * panel_columns<T>();
  multiply(graph.team(), k, n, sweep.rows, packed_left(x, sweep.capacity, k), packed_right(dy, sweep.capacity),
           target.fresh ? Start<T>{} : Start<T>{dw, stride}, dw, stride);
  sweep.rows = 0;
}

template <class T>
void share_rows(Graph& graph, std::span<const Use<T>> uses) {
  BufferPool& pool = graph.pool();
  auto* shared = new (pool.allocate(sizeof(SharedRows))) SharedRows{};
  shared->data = pool.allocate(rows_bytes<T>(graph, uses[0].weight, *uses[0].sweep));
  for (const Use<T>& use : uses) {
    shared->weights[shared->count++] = use.weight;
    use.sweep->dy = shared;
  }
}

/// The weight no longer needs the rows that it shares.
template <class T>
void leave_rows(Graph& graph, NodeId id, WeightSweep& sweep) {
  SharedRows* shared = std::exchange(sweep.dy, nullptr);
  if (shared == nullptr) return;
  *std::ranges::find(shared->weights, id) = shared->weights[--shared->count];
  if (shared->count > 0) return;
  graph.pool().release(shared->data, rows_bytes<T>(graph, id, sweep));
  graph.pool().release(reinterpret_cast<std::byte*>(shared), sizeof(SharedRows));
}

/// Gives a weight that is used without those it has been used with, or with others, rows of its own.
template <class T>
void part_rows(Graph& graph, const Use<T>& use) {
  WeightSweep& sweep = *use.sweep;
  if (sweep.dy != nullptr && sweep.dy->count == 1) return;
  const std::byte* before = sweep.dy != nullptr ? sweep.dy->data : nullptr;
  leave_rows<T>(graph, use.weight, sweep);
  share_rows<T>(graph, {&use, 1});
  if (before != nullptr) std::copy_n(before, rows_bytes<T>(graph, use.weight, sweep), sweep.dy->data);
}

/// True when these weights, and no others, have been used together whenever one of them was.
template <class T>
bool are_together(Graph& graph, std::span<const Use<T>> uses) {
  const WeightSweep& first = *uses[0].sweep;
  if (first.dy != nullptr) return std::ranges::equal(first.dy->users(), uses, {}, {}, &Use<T>::weight);
  if (uses.size() > SharedRows::most) return false;
  for (std::size_t i = 0; i < uses.size(); ++i) {
    const WeightSweep& sweep = *uses[i].sweep;
    if (sweep.dy != nullptr || sweep.capacity != first.capacity) return false;
    if (std::ranges::count(uses, uses[i].weight, &Use<T>::weight) > 1) return false;
  }
  share_rows(graph, uses);
  return true;
}

}  // namespace

/// Room for as many rows as a core's private cache has, a power of two: so weights of like size can share those of dy.
template <class T>
void open_rows(Graph& graph, NodeId weight, WeightSweep& sweep) {
  constexpr Index cache = Index{1} << 18;  // elements: half of that cache
  const Shape& shape = graph.node(weight).layout->shape;
  const Index room = std::clamp<Index>(cache / std::max<Index>(shape[0] + shape[1], 1), 256, 2048);
  sweep.capacity = static_cast<Index>(std::bit_floor(static_cast<std::size_t>(room)));
  sweep.group = group_rows<T>(shape[0]);
  sweep.x = graph.pool().allocate(packed_bytes<T>(sweep.capacity, shape[0], sweep.group));
}

template <class T>
void gather(Graph& graph, std::span<const Use<T>> uses, Index first, const T* dy, Index rows) {
  if (uses.empty()) return;
  if (!are_together(graph, uses)) {
    for (const Use<T>& use : uses) part_rows(graph, use);
    for (const Use<T>& use : uses) gather<T>(graph, {&use, 1}, first, dy, rows);
    return;
  }
  const WeightSweep& one = *uses[0].sweep;
  const Index n = graph.node(uses[0].weight).layout->shape[1];
  for (Index bottom = rows; bottom > 0;) {
    if (one.rows == one.capacity)
      for (const Use<T>& use : uses) flush<T>(graph, use.weight, *use.sweep);
    const Index some = std::min(bottom, one.capacity - one.rows), to = one.capacity - one.rows - some;
    bottom -= some;
    std::array<Packing<T>, SharedRows::most + 1> packings;
    auto* end = packings.data();
    for (const Use<T>& use : uses) {
      WeightSweep& sweep = *use.sweep;
      const T* x = use.x + (first + bottom) * use.stride;
      const Index k = graph.node(use.weight).layout->shape[0];
      *end++ = {x, use.stride, k, sweep.group, reinterpret_cast<T*>(sweep.x), sweep.capacity, to};
      sweep.rows += some;
    }
    *end++ = {dy + bottom * n, n, n, panel_columns<T>(), reinterpret_cast<T*>(one.dy->data), one.capacity, to};
    pack_rows<T>(graph.team(), some, std::span(packings.data(), end));
  }
}

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

template <class T>
void transpose_weight(Graph& graph, NodeId weight, WeightSweep& sweep) {
  const Node& node = graph.node(weight);
  const Index k = node.layout->shape[0], n = node.layout->shape[1], width = panel_columns<T>();
  sweep.transposed = graph.pool().allocate(packed_bytes<T>(n, k, width));
  pack_transposed(graph.team(), reinterpret_cast<const T*>(node.value), node.layout->row_stride(), n, k, width,
                  reinterpret_cast<T*>(sweep.transposed));
}

void finish_weight(Graph& graph, NodeId id) {
  WeightSweep& sweep = *graph.node(id).weight;
  BufferPool& pool = graph.pool();
  with_scalar(graph.node(id).dtype, [&]<class T>(T) {
    const Shape& shape = graph.node(id).layout->shape;
    flush<T>(graph, id, sweep);
    leave_rows<T>(graph, id, sweep);
    if (sweep.x != nullptr) {
      graph.accumulator(id);  // of an empty batch: zeros
      pool.release(sweep.x, packed_bytes<T>(sweep.capacity, shape[0], sweep.group));
    }
    if (sweep.transposed != nullptr)
      pool.release(sweep.transposed, packed_bytes<T>(shape[1], shape[0], panel_columns<T>()));
    if (sweep.sums != nullptr) {
      T* total = reinterpret_cast<T*>(graph.accumulator(id));
      for (Index i = 0; i < shape.count(); ++i) total[i] += reinterpret_cast<const T*>(sweep.sums)[i];
      pool.release(sweep.sums, static_cast<std::size_t>(shape.count()) * sizeof(T));
    }
  });
  pool.release(reinterpret_cast<std::byte*>(&sweep), sizeof(WeightSweep));
  graph.node(id).weight = nullptr;
}

#define UNROLL_INSTANTIATE(T)                                                    \
  template void open_rows<T>(Graph&, NodeId, WeightSweep&);                      \
  template void gather(Graph&, std::span<const Use<T>>, Index, const T*, Index); \
  template void gather_row(Graph&, NodeId, const T*, Index, Index);              \
  template void transpose_weight<T>(Graph&, NodeId, WeightSweep&)
UNROLL_INSTANTIATE(float);
UNROLL_INSTANTIATE(double);
UNROLL_INSTANTIATE(Dual);

}  // namespace unroll::detail
