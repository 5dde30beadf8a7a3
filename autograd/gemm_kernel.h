#pragma once

#include <autograd/dual.h>

namespace unroll::detail {

/// One tile of a product: C [rows, columns] = start + A B, all rows and columns at given strides.
template <class T>
struct Tile {
  Index k;
  const T* a;
  Index a_row, a_k;  ///< strides from row to row, and along k
  const T* b;
  Index b_panel, b_k;  ///< strides from panel to panel, and along k; the columns of a panel are neighbours
  Index ahead = 0;     ///< how far from its reading a tile asks for B to be fetched; 0: not
  const T* start;      ///< null: zeros
  Index start_row;
  T* c;
  Index c_row;
};

/// The kernels for this processor: a tile's sums stay in registers.
template <class T>
struct Kernels {
  static constexpr Index most_rows = 14;
  using Kernel = void (*)(const Tile<T>&);

  Index panel;     ///< columns of a panel: two registers
  Index max_rows;  ///< of a tile
  /// By the number of rows, of a tile one panel wide, and of one half and one quarter as wide: one register, and half
  /// of one.
  Kernel narrow[most_rows + 1];
  Kernel half[most_rows + 1];
  Kernel quarter[most_rows + 1];
  /// Where there are too few rows to keep the processor busy, tiles of two panels; else null.
  Kernel wide[most_rows + 1];
  /// For one row, of four.
  Kernel widest;
};

template <class T>
const Kernels<T>& kernels();

extern template const Kernels<float>& kernels();
extern template const Kernels<double>& kernels();
extern template const Kernels<Dual>& kernels();

}  // namespace unroll::detail
