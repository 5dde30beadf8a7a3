#pragma once

#include <autograd/shape.h>

namespace unroll::detail {

/// A row-major matrix in memory: what a product reads. `transposed` means that its transpose is meant.
template <class T>
struct Operand2D {
  const T* data;
  Index stride;
  bool transposed = false;
};

/// C = A B + beta C, with A [m, k], B [k, n] and C [m, n] row-major, after transposition. The one place
/// where matrix products are computed: oneDNN's for float32 where it was found, Eigen's otherwise.
/// Cut into pieces by shape alone, so the result is the same bits on any number of threads.
template <class T>
void gemm(Index m, Index n, Index k, Operand2D<T> a, Operand2D<T> b, T beta, T* c, Index c_stride);

extern template void gemm(Index, Index, Index, Operand2D<float>, Operand2D<float>, float, float*, Index);
extern template void gemm(Index, Index, Index, Operand2D<double>, Operand2D<double>, double, double*, Index);

}  // namespace unroll::detail
