#pragma once

// Rectangles of any strides, for kernels that know only stretches of a row.

#include <autograd/statement.h>

#include <array>

namespace unroll::detail {

/// What a kernel does with gradients that go to places of their own first.
inline constexpr std::array<Adjoint, most_inputs> all_written = [] {
  std::array<Adjoint, most_inputs> all{};
  all.fill(Adjoint::write);
  return all;
}();

/// A rectangle of a statement.
struct Tile {
  Index rows, columns;
  std::size_t inputs;
  const void* const* x;        ///< the inputs' first elements
  const Index* row_stride;     ///< of each input
  const Index* column_stride;  ///< of each input
  bool unit_columns;           ///< all of these are 1, and of `dx_column_stride` as well
  const double* constants;
  void* y;  ///< forward: the result
  Index y_stride;
  const void* dy;   ///< backward: the result's gradient; null in a forward
  void* const* dx;  ///< the inputs' gradients, their strides, and what to do with each
  const Index* dx_row_stride;
  const Index* dx_column_stride;
  const Adjoint* adjoint;
};

/// Runs the kernel, for elements of this type. Operands whose columns are no neighbours are copied to where they are,
/// and their gradients back.
void run_kernel(StretchKernel& kernel, DType dtype, const Tile& tile);

}  // namespace unroll::detail
