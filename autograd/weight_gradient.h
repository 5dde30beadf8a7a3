#pragma once

// What a sweep keeps of the right-hand factors of products y = x W: the weight, arranged for dx = dy W^T, and the rows
// that dW = x^T dy and the gradient of a row b, that is added to every row of y, are still to receive.
//
// Rows are gathered, because multiplied a few at a time the whole of dW would be read and written at every step. They
// come from the last to the first, however many at a time, and are added up in groups that follow from their number
// alone: a checkpoint changes no bit, nor does it matter which weights share what is arranged.

#include <autograd/gemm.h>
#include <autograd/graph.h>

namespace unroll::detail {

struct SharedRows;

struct WeightSweep {
  std::byte* transposed = nullptr;
  std::byte* x = nullptr;    ///< [capacity, K], arranged as the left-hand factor of x^T dy
  SharedRows* dy = nullptr;  ///< [capacity, N]
  Index rows = 0;            ///< of those, filled from the end
  Index capacity = 0;
  Index group = 0;            ///< columns of x that are together
  std::byte* sums = nullptr;  ///< [N]: the sum of fewer than 64 rows
  Index summed = 0;           ///< how many
};

inline WeightSweep& weight_sweep(Graph& graph, NodeId id) {
  Node& weight = graph.touch(id);
  if (weight.weight == nullptr) weight.weight = new (graph.pool().allocate(sizeof(WeightSweep))) WeightSweep;
  return *weight.weight;
}

/// Elements of an arrangement, in bytes.
template <class T>
std::size_t packed_bytes(Index rows, Index columns, Index width) {
  return static_cast<std::size_t>(packed_size(rows, columns, width)) * sizeof(T);
}

template <class T>
void open_rows(Graph& graph, NodeId weight, WeightSweep& sweep);
template <class T>
void transpose_weight(Graph& graph, NodeId weight, WeightSweep& sweep);

/// A product whose rows are to be gathered.
template <class T>
struct Use {
  NodeId weight;
  WeightSweep* sweep;
  const T* x;
  Index stride;
};
template <class T>
Use<T> use_weight(Graph& graph, NodeId weight, const T* x, Index stride) {
  WeightSweep& sweep = weight_sweep(graph, weight);
  if (sweep.capacity == 0) open_rows<T>(graph, weight, sweep);
  return {weight, &sweep, x, stride};
}

/// dW (+)= x^T dy for every weight, by and by; x from row `first` on. The rows of dy are arranged once for all weights
/// that have been used together whenever one of them was.
template <class T>
void gather(Graph& graph, std::span<const Use<T>> uses, Index first, const T* dy, Index rows);

/// db (+)= the sum of the rows of dy, by and by: sums of 64 rows at a time, so that long sums lose few digits.
template <class T>
void gather_row(Graph& graph, NodeId id, const T* dy, Index rows, Index columns);

/// The weight as the right-hand factor of dy W^T: arranged once per sweep.
template <class T>
Right<T> backward_factor(Graph& graph, NodeId weight) {
  WeightSweep& sweep = weight_sweep(graph, weight);
  if (sweep.transposed == nullptr) transpose_weight<T>(graph, weight, sweep);
  return packed_right(reinterpret_cast<const T*>(sweep.transposed), graph.node(weight).layout->shape[1]);
}

}  // namespace unroll::detail
