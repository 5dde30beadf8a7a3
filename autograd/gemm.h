#pragma once

// Matrix products. The factors are handed over as the kernels read them, so that whoever uses a factor more
// than once (a weight, at every step) can arrange it once and keep it; nothing here takes memory.
//
// The kernels are our own because those at hand (oneDNN 2.6, OpenBLAS) arrange the right-hand factor anew in every
// call, in memory they allocate for it. Each element is summed in an order that depends on k alone, so results
// are the same bits on any number of threads, for any number of rows, and however a factor is arranged.

#include <autograd/parallel.h>

#include <span>

namespace unroll::detail {

/// The left-hand factor [m, k], in groups of `rows` rows.
template <class T>
struct Left {
  const T* data;
  Index row, k;  ///< strides from row to row, and along k
  Index group;   ///< from group to group
  Index rows;
};

/// The right-hand factor [k, n], in panels of `panel_columns` columns.
template <class T>
struct Right {
  const T* data;
  Index k;      ///< stride along k
  Index panel;  ///< from panel to panel
  bool padded;  ///< the last panel, too, has all its columns
};

/// What a product is added to: rows at this stride (0: the same row for all), or nothing.
template <class T>
struct Start {
  const T* data = nullptr;
  Index row = 0;
};

/// Columns of a panel of the right-hand factor, and rows of a group of a left-hand factor with m rows.
template <class T>
Index panel_columns();
template <class T>
Index group_rows(Index m);

/// Rows as they lie in memory.
template <class T>
Left<T> left_in_place(const T* a, Index stride, Index m);
template <class T>
Right<T> right_in_place(const T* b, Index stride) {
  return {b, stride, panel_columns<T>(), false};
}

/// Elements of an arrangement of [rows, columns] in groups of `width` columns.
inline Index packed_size(Index rows, Index columns, Index width) {
  return (columns + width - 1) / width * width * rows;
}

/// Rows to be arranged in groups of `width` columns, from row `first` on of a whole with `capacity` rows: as a
/// right-hand factor in panels, or, transposed, as a left-hand one.
template <class T>
struct Packing {
  const T* from;
  Index stride, columns, width;
  T* to;
  Index capacity, first = 0;
};
template <class T>
void pack_rows(Team& team, Index rows, std::span<const Packing<T>> packings);
template <class T>
void pack_rows(Team& team, Index rows, const Packing<T>& packing) {
  pack_rows<T>(team, rows, std::span(&packing, 1));
}
/// The same with the transpose of from [columns, rows].
template <class T>
void pack_transposed(Team& team, const T* from, Index stride, Index rows, Index columns, Index width, T* to);

/// What pack_rows and pack_transposed made.
template <class T>
Left<T> packed_left(const T* packed, Index capacity, Index m) {
  return {packed, 1, group_rows<T>(m), capacity * group_rows<T>(m), group_rows<T>(m)};
}
template <class T>
Right<T> packed_right(const T* packed, Index capacity) {
  return {packed, panel_columns<T>(), capacity * panel_columns<T>(), true};
}

/// C = start + A B, with A [m, k], B [k, n] and C [m, n]. C may be the start.
template <class T>
void multiply(Team& team, Index m, Index n, Index k, const Left<T>& a, const Right<T>& b, const Start<T>& start, T* c,
              Index c_row);

}  // namespace unroll::detail
