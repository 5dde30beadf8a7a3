#pragma once

// Rectangles of any strides, for kernels that know only rows of neighbours.

#include <autograd/statement.h>

namespace unroll::detail {

struct StridedTile : Tile {
  std::size_t inputs;
  const Index* column_stride;  ///< of each input
  const Index* dx_column_stride;
  bool unit_columns;  ///< all of these are 1
};

/// Runs the kernel, for elements of this type. Operands whose columns are no neighbours are copied to where they are,
/// and their gradients back.
void run_kernel(TileKernel& kernel, DType dtype, const StridedTile& tile);

}  // namespace unroll::detail
