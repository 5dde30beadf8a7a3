#pragma once

// Rectangles of any strides and any width, for kernels that know only whole packets of neighbours.

#include <autograd/statement.h>

namespace unroll::detail {

struct StridedTile : Tile {
  std::size_t inputs;
  const Index* column_stride;  ///< of each input
  const Index* dx_column_stride = nullptr;
  bool unit_columns;  ///< all of these are 1
};

/// Runs the kernel, for elements of this type. What it cannot walk itself, columns that are no neighbours and those
/// that fill no packet, is copied to where it can, and its results are copied back.
void run_kernel(TileKernel& kernel, DType dtype, const StridedTile& tile);

}  // namespace unroll::detail
