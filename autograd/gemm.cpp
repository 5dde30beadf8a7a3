#include <autograd/gemm.h>

#include <autograd/gemm_kernel.h>
#include <autograd/parallel.h>

#include <algorithm>
#include <array>

namespace unroll::detail {

namespace {

// A panel of this many rows is read from a core's private cache as fast as it can be used.
constexpr Index most_k = 512;
// Rows that are multiplied with one panel before the next: with most_k columns they stay in that cache.
constexpr Index most_groups = 16;
// Multiplications that are worth a thread: some 20 microseconds.
constexpr Index work_each = Index{1} << 22;

/// The rows and panels of C that one thread computes.
struct Piece {
  Index row_begin, row_end, column_begin, column_end;
};

template <class T>
struct Product {
  Index k;
  const Left<T>& a;
  const Right<T>& b;
  const Start<T>& start;
  T* c;
  Index c_row;
  const Kernels<T>& kernels;

  void run(const Piece& piece) const {
    Index blocks = (k + most_k - 1) / most_k, each = (k + blocks - 1) / blocks;
    for (Index p = 0; p < k; p += each)
      for (Index top = piece.row_begin; top < piece.row_end; top += most_groups * a.rows)
        run(piece, top, std::min(top + most_groups * a.rows, piece.row_end), p, std::min(each, k - p));
  }

  /// Some rows of a piece, and `size` of the k products of each element, from `p` on.
  void run(const Piece& piece, Index top, Index bottom, Index p, Index size) const {
    Index whole = piece.column_begin + (piece.column_end - piece.column_begin) / kernels.panel * kernels.panel;
    for (Index left = piece.column_begin; left < whole;) {
      Index panels = 1;
      for (Index row = top; row < bottom; row += a.rows) {
        Index rows = std::min(a.rows, bottom - row);
        auto kernel = kernels.narrow[rows];
        if (rows == bottom - top && kernels.wide[rows] != nullptr &&
            left + kernels.wide_panels(rows) * kernels.panel <= whole) {
          kernel = kernels.wide[rows];
          panels = kernels.wide_panels(rows);
        }
        kernel(tile(row, left, p, size));
      }
      left += panels * kernels.panel;
    }
    if (whole < piece.column_end) run_rest(whole, piece.column_end - whole, top, bottom, p, size);
  }

  /// The last panel, incomplete, by way of copies that are complete.
  void run_rest(Index left, Index columns, Index top, Index bottom, Index p, Index size) const {
    constexpr std::size_t most_panel = 128 / sizeof(T);
    alignas(64) std::array<T, most_k * most_panel> panel;
    alignas(64) std::array<T, Kernels<T>::most_rows * most_panel> c_copy, start_copy{};
    if (!b.padded) {
      const Tile<T> first = tile(top, left, p, size);
      for (Index i = 0; i < size; ++i) {
        T* row = panel.data() + i * kernels.panel;
        std::copy_n(first.b + i * first.b_k, columns, row);
        std::fill(row + columns, row + kernels.panel, T(0));
      }
    }
    for (Index row = top; row < bottom; row += a.rows) {
      Index rows = std::min(a.rows, bottom - row);
      const Tile<T> t = tile(row, left, p, size);
      Tile<T> copied = t;
      if (!b.padded) {
        copied.b = panel.data();
        copied.b_k = kernels.panel;
      }
      copied.c = c_copy.data();
      copied.c_row = kernels.panel;
      if (t.start != nullptr) {
        for (Index i = 0; i < rows; ++i)
          std::copy_n(t.start + i * t.start_row, columns, start_copy.data() + i * kernels.panel);
        copied.start = start_copy.data();
        copied.start_row = kernels.panel;
      }
      kernels.narrow[rows](copied);
      for (Index i = 0; i < rows; ++i) std::copy_n(c_copy.data() + i * kernels.panel, columns, t.c + i * t.c_row);
    }
  }

  /// After the first block of k, what is there is added to.
  Tile<T> tile(Index row, Index left, Index p, Index size) const {
    T* to = c + row * c_row + left;
    const T* from = p > 0 ? to : start.data != nullptr ? start.data + row * start.row + left : nullptr;
    return {.k = size,
            .a = a.data + row / a.rows * a.group + p * a.k,
            .a_row = a.row,
            .a_k = a.k,
            .b = b.data + left / kernels.panel * b.panel + p * b.k,
            .b_panel = b.panel,
            .b_k = b.k,
            .start = from,
            .start_row = p > 0 ? c_row : start.row,
            .c = to,
            .c_row = c_row};
  }
};

template <class T>
void fill(Index m, Index n, const Start<T>& start, T* c, Index c_row) {
  for (Index row = 0; row < m; ++row) {
    if (start.data == nullptr)
      std::fill_n(c + row * c_row, n, T(0));
    else if (start.data + row * start.row != c + row * c_row)
      std::copy_n(start.data + row * start.row, n, c + row * c_row);
  }
}

}  // namespace

template <class T>
Index panel_columns() {
  return kernels<T>().panel;
}

template <class T>
Index group_rows(Index m) {
  Index most = kernels<T>().max_rows, groups = std::max<Index>((m + most - 1) / most, 1);
  return std::max<Index>((m + groups - 1) / groups, 1);
}

template <class T>
void multiply(Index m, Index n, Index k, const Left<T>& a, const Right<T>& b, const Start<T>& start, T* c,
              Index c_row) {
  if (k == 0) fill(m, n, start, c, c_row);
  if (m == 0 || n == 0 || k == 0) return;
  const Product<T> product{k, a, b, start, c, c_row, kernels<T>()};
  bool by_columns = n >= m;
  Index grain = by_columns ? 2 * product.kernels.panel : a.rows, length = by_columns ? n : m;
  Index grains = (length + grain - 1) / grain;
  Index pieces = std::clamp<Index>(m * n * k / work_each, 1, std::min<Index>(16, grains));
  Index each = (grains + pieces - 1) / pieces * grain;
  for_each_block((length + each - 1) / each, [&](Index block) {
    Index begin = block * each, end = std::min(begin + each, length);
    product.run(by_columns ? Piece{0, m, begin, end} : Piece{begin, end, 0, n});
  });
}

template <class T>
void pack_rows(const T* from, Index stride, Index rows, Index columns, Index width, T* to, Index capacity,
               Index first) {
  Index groups = (columns + width - 1) / width;
  Index blocks = std::clamp<Index>(rows * columns / (8 * parallel_grain), 1, std::min<Index>(16, groups));
  for_each_block(blocks, [&](Index block) {
    for (Index group = groups * block / blocks; group < groups * (block + 1) / blocks; ++group) {
      Index size = std::min(width, columns - group * width);
      T* at = to + (group * capacity + first) * width;
      for (Index row = 0; row < rows; ++row, at += width) {
        std::copy_n(from + row * stride + group * width, size, at);
        if (size < width) std::fill(at + size, at + width, T(0));
      }
    }
  });
}

template <class T>
void pack_transposed(const T* from, Index stride, Index rows, Index columns, Index width, T* to) {
  Index groups = (columns + width - 1) / width;
  Index blocks = std::clamp<Index>(rows * columns / (8 * parallel_grain), 1, std::min<Index>(16, groups));
  for_each_block(blocks, [&](Index block) {
    for (Index group = groups * block / blocks; group < groups * (block + 1) / blocks; ++group) {
      Index size = std::min(width, columns - group * width);
      T* at = to + group * rows * width;
      for (Index row = 0; row < rows; ++row, at += width) {
        const T* element = from + group * width * stride + row;
        for (Index i = 0; i < size; ++i) at[i] = element[i * stride];
        std::fill(at + size, at + width, T(0));
      }
    }
  });
}

#define UNROLL_INSTANTIATE(T)                                                                               \
  template Index panel_columns<T>();                                                                        \
  template Index group_rows<T>(Index);                                                                      \
  template void multiply(Index, Index, Index, const Left<T>&, const Right<T>&, const Start<T>&, T*, Index); \
  template void pack_rows(const T*, Index, Index, Index, Index, T*, Index, Index);                          \
  template void pack_transposed(const T*, Index, Index, Index, Index, T*)
UNROLL_INSTANTIATE(float);
UNROLL_INSTANTIATE(double);

}  // namespace unroll::detail
