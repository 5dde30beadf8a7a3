#pragma once

#include <autograd/parallel.h>
#include <autograd/tensor.h>

#include <algorithm>
#include <vector>

namespace unroll::detail {

/// Elements of one call of an update: their pieces of all tensors stay in the first-level cache while it goes over
/// them.
inline constexpr Index update_piece = 512;

/// What an update computes in between, without the heap.
template <class T>
using Piece = Eigen::Array<T, Eigen::Dynamic, 1, 0, update_piece, 1>;

template <class T>
auto piece_of(Tensor& tensor, Index begin, Index count) {
  return Eigen::Map<Eigen::Array<T, Eigen::Dynamic, 1>>(tensor.data<T>() + begin, count);
}
template <class T>
auto piece_of(const Tensor& tensor, Index begin, Index count) {
  return Eigen::Map<const Eigen::Array<T, Eigen::Dynamic, 1>>(tensor.data<T>() + begin, count);
}

/// Calls `f(x...)` with pieces of the elements [begin, end) of the tensors.
template <class T, class F, class... Tensors>
void update_range(F& f, Index begin, Index end, Tensors&... tensors) {
  for (; begin < end; begin += update_piece) f(piece_of<T>(tensors, begin, std::min(update_piece, end - begin))...);
}

/// Calls `f(x...)` with pieces of the tensors as Eigen arrays of their type: an update in the paper's symbols
/// becomes one pass over memory, in parallel. The tensors agree in shape and type. How they are cut into
/// pieces follows from their size alone.
template <class F, class... Tensors>
void update_elementwise(F&& f, Tensor& first, Tensors&... rest) {
  with_type(first.dtype(), [&]<class T>(T) {
    const Index count = first.size(), each = parallel_grain;
    for_each_block((count + each - 1) / each, [&](Index block) {
      update_range<T>(f, block * each, std::min((block + 1) * each, count), first, rest...);
    });
  });
}

/// The same of some rows alone.
template <class F, class... Tensors>
void update_rows(F&& f, const std::vector<Index>& rows, Tensor& first, Tensors&... rest) {
  if (rows.empty() || first.empty()) return;
  with_type(first.dtype(), [&]<class T>(T) {
    const Index size = first.size() / first.shape()[0], count = static_cast<Index>(rows.size());
    const Index each = std::max<Index>(1, parallel_grain / size);
    for_each_block((count + each - 1) / each, [&](Index block) {
      for (Index i = block * each; i < std::min((block + 1) * each, count); ++i) {
        const Index row = rows[static_cast<std::size_t>(i)];
        update_range<T>(f, row * size, (row + 1) * size, first, rest...);
      }
    });
  });
}

}  // namespace unroll::detail
