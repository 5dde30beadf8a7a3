#include <autograd/gemm.h>

#include <autograd/gemm_kernel.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <type_traits>
#include <utility>

#include <unistd.h>

namespace unroll::detail {

namespace {

// A panel of this many rows is read from a core's private cache as fast as it can be used.
constexpr Index most_k = 512;
// Rows that are multiplied with one panel before the next: with most_k columns they stay in that cache.
constexpr Index most_groups = 16;
// Bytes from row to row that are a multiple of this share the lines of a core's nearest cache that they fall into,
// which holds eight: seven rows of A and one of B.
constexpr Index way = 4096, most_crowded = 7;
// Multiplications that are worth a thread: some 5 microseconds.
constexpr Index work_each = Index{1} << 19;
// To read the right-hand factor takes as long as to multiply it with this many rows.
constexpr Index reading = 4;
// With more rows than this, it does not show that the right-hand factor comes from far away.
constexpr Index few_rows = 64;

/// Bytes of a right-hand factor that every core can keep to itself.
Index private_cache() {
#ifdef _SC_LEVEL2_CACHE_SIZE
  static const Index size = sysconf(_SC_LEVEL2_CACHE_SIZE);
  if (size > 0) return size / 4 * 3;
#endif
  return Index{3} << 17;
}

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
  bool far;  ///< B does not fit in a private cache

  void run(const Piece& piece) const {
    const Index most = most_groups * a.rows;
    // A product of one row has little to do but this: what follows is left out where there is nothing to cut.
    if (k <= most_k && piece.row_end - piece.row_begin <= most) return run(piece, piece.row_begin, piece.row_end, 0, k);
    const Index blocks = (k + most_k - 1) / most_k, each = (k + blocks - 1) / blocks;
    for (Index p = 0; p < k; p += each)
      for (Index top = piece.row_begin; top < piece.row_end; top += most)
        run(piece, top, std::min(top + most, piece.row_end), p, std::min(each, k - p));
  }

  /// Some rows of a piece, and `size` of the k products of each element, from `p` on.
  void run(const Piece& piece, Index top, Index bottom, Index p, Index size) const {
    Tile<T> column = tile(top, piece.column_begin, p, size);
    // The first rows that are multiplied with a panel ask for the next one.
    if (far && bottom - top <= few_rows) column.ahead = b.panel;
    Index columns = piece.column_end - piece.column_begin;
    while (columns >= kernels.panel) {
      Index panels = bottom - top <= a.rows ? run_wide(column, bottom - top, columns) : 0;
      if (panels == 0) {
        panels = 1;
        run_rows(kernels.narrow, column, bottom - top);
      }
      right(column, panels * kernels.panel, panels * b.panel);
      columns -= panels * kernels.panel;
    }
    if (columns >= kernels.panel / 2) {
      columns -= kernels.panel / 2;
      run_rows(kernels.half, column, bottom - top);
      if (columns > 0) right(column, kernels.panel / 2, kernels.panel / 2);
    }
    if (columns > 0) run_last(column, columns, bottom - top);
  }

  /// What is less than half a panel.
  [[gnu::noinline]] void run_last(Tile<T> column, Index columns, Index rows) const {
    const Index quarter = kernels.panel / 4;
    if (columns >= quarter) {
      run_rows(kernels.quarter, column, rows);
      right(column, quarter, quarter);
      columns -= quarter;
    }
    if (columns > 0) run_rest(column, columns, rows);
  }

  /// Tiles one below the other, each by the kernel for its number of rows.
  [[gnu::always_inline]] void run_rows(const typename Kernels<T>::Kernel* kernels_of_rows, Tile<T> t,
                                       Index all_rows) const {
    for (Index left = all_rows;;) {
      const Index rows = rows_of_next(left);
      kernels_of_rows[rows](t);
      if ((left -= rows) == 0) return;
      down(t, rows);
      t.ahead = 0;
    }
  }

  /// A single tile as wide as its few rows allow; how many panels that was.
  Index run_wide(Tile<T>& t, Index rows, Index columns) const {
    const Index panels = rows == 1 && columns >= 4 * kernels.panel ? 4 : 2;
    const auto kernel = panels == 4 ? kernels.widest : kernels.wide[rows];
    if (columns < panels * kernels.panel || kernel == nullptr) return 0;
    t.ahead = 0;  // more streams than a processor follows
    kernel(t);
    return panels;
  }

  /// The last quarter of a panel, incomplete, by way of copies that are complete.
  void run_rest(Tile<T> t, Index columns, Index all_rows) const {
    constexpr std::size_t most_width = 32 / sizeof(T);
    const Index width = kernels.panel / 4;
    alignas(64) std::array<T, most_k * most_width> part;
    alignas(64) std::array<T, Kernels<T>::most_rows * most_width> c_copy, start_copy;
    if (!b.padded) {
      for (Index i = 0; i < t.k; ++i) {
        T* row = part.data() + i * width;
        std::copy_n(t.b + i * t.b_k, columns, row);
        std::fill(row + columns, row + width, T(0));
      }
      t.b = part.data();
      t.b_k = width;
    }
    for (Index left = all_rows, rows; left > 0; left -= rows, down(t, rows)) {
      rows = rows_of_next(left);
      Tile<T> copied = t;
      copied.c = c_copy.data();
      copied.c_row = width;
      if (t.start != nullptr) {
        for (Index i = 0; i < rows; ++i) {
          T* row = start_copy.data() + i * width;
          std::copy_n(t.start + i * t.start_row, columns, row);
          std::fill(row + columns, row + width, T(0));
        }
        copied.start = start_copy.data();
        copied.start_row = width;
      }
      kernels.quarter[rows](copied);
      for (Index i = 0; i < rows; ++i) std::copy_n(c_copy.data() + i * width, columns, t.c + i * t.c_row);
    }
  }

  /// The tile at a row that begins a group and a column that begins a panel. After the first block of k, what is there
  /// already is added to.
  Tile<T> tile(Index row, Index left, Index p, Index size) const {
    T* to = c + row * c_row + left;
    Tile<T> t{.k = size,
              .a = a.data + p * a.k,
              .a_row = a.row,
              .a_k = a.k,
              .b = b.data + p * b.k,
              .b_panel = b.panel,
              .b_k = b.k,
              .start = p > 0 ? to : start.data,
              .start_row = p > 0 ? c_row : start.row,
              .c = to,
              .c_row = c_row};
    if (row > 0) t.a += row / a.rows * a.group;
    if (left > 0) t.b += left / kernels.panel * b.panel;
    if (p == 0 && start.data != nullptr) t.start += row * start.row + left;
    return t;
  }
  /// Two tiles of 4 rows are faster than one of 6 and one of 2, where rows need not come in groups.
  Index rows_of_next(Index left) const {
    return a.k == 1 && left > a.rows && left < 2 * a.rows ? (left + 1) / 2 : std::min(left, a.rows);
  }
  void down(Tile<T>& t, Index rows) const {
    t.a += rows == a.rows ? a.group : rows * a.row;
    t.c += rows * c_row;
    if (t.start != nullptr) t.start += rows * t.start_row;
  }
  void right(Tile<T>& t, Index columns, Index distance) const {
    t.b += distance;
    t.c += columns;
    if (t.start != nullptr) t.start += columns;
  }
};

/// f(width), as a constant where it is the width of a whole panel or group, so that a row of it is copied by a few
/// instructions.
template <class F>
void with_width(Index width, F&& f) {
  auto constant = [&]<Index... W>(std::integer_sequence<Index, W...>) {
    return ((width == W && (f(std::integral_constant<Index, W>{}), true)) || ...);
  };
  if (!constant(std::integer_sequence<Index, 16, 32, 8, 6, 4, 14, 13, 12, 11>{})) f(width);
}

template <class T>
[[gnu::always_inline]] inline void copy_row(const T* from, Index size, T* to) {
  std::copy_n(from, size, to);
}
/// GCC's own copies of a known size go by 16 bytes.
template <class T, Index size>
[[gnu::always_inline]] inline void copy_row(const T* from, std::integral_constant<Index, size>, T* to) {
  constexpr Index bytes = size * static_cast<Index>(sizeof(T)), block = bytes >= 32 ? 32 : bytes >= 16 ? 16 : 8;
  using V [[gnu::vector_size(block), gnu::aligned(1), gnu::may_alias]] = char;
  auto copy = [&](Index at) __attribute__((always_inline)) {
    *reinterpret_cast<V*>(reinterpret_cast<char*>(to) + at) =
        *reinterpret_cast<const V*>(reinterpret_cast<const char*>(from) + at);
  };
  for (Index at = 0; at + block <= bytes; at += block) copy(at);
  if (bytes % block != 0) copy(bytes - block);
}

/// Rows `begin` to `end`, a few at a time: read from left to right, as memory likes it, and written to neighbouring
/// lines.
template <class T, class Width>
void pack_some(const Packing<T>& packing, Width width, Index begin, Index end) {
  constexpr Index few = 4;
  const Index stride = packing.stride;
  for (Index top = begin; top < end; top += few) {
    const Index rows = std::min(few, end - top);
    const T* from = packing.from + top * stride;
    T* to = packing.to + (packing.first + top) * width;
    Index left = packing.columns;
    for (; left >= width; left -= width, from += width, to += packing.capacity * width)
      for (Index row = 0; row < rows; ++row) copy_row(from + row * stride, width, to + row * width);
    if (left == 0) continue;
    for (Index row = 0; row < rows; ++row)
      std::fill(std::copy_n(from + row * stride, left, to + row * width), to + (row + 1) * width, T(0));
  }
}

/// to = the transpose of the square block at `from`, whose side is 16 bytes.
template <class T>
void transpose_block(const T* from, Index stride, T* to, Index width) {
  using V [[gnu::vector_size(16), gnu::aligned(alignof(T)), gnu::may_alias]] = T;
  auto row = [&](Index i) { return *reinterpret_cast<const V*>(from + i * stride); };
  auto put = [&](Index i, V v) { *reinterpret_cast<V*>(to + i * width) = v; };
  if constexpr (sizeof(T) == 4) {
    auto low = [](V a, V b) { return __builtin_shufflevector(a, b, 0, 4, 1, 5); };
    auto high = [](V a, V b) { return __builtin_shufflevector(a, b, 2, 6, 3, 7); };
    const V a = row(0), b = row(1), c = row(2), d = row(3);
    const V p = low(a, c), q = high(a, c), r = low(b, d), s = high(b, d);
    put(0, low(p, r));
    put(1, high(p, r));
    put(2, low(q, s));
    put(3, high(q, s));
  } else {
    const V a = row(0), b = row(1);
    put(0, __builtin_shufflevector(a, b, 0, 2));
    put(1, __builtin_shufflevector(a, b, 1, 3));
  }
}

template <class T>
void fill(Index m, Index n, const Start<T>& start, T* c, Index c_row) {
  for (Index row = 0; row < m; ++row) {
    if (start.data == nullptr)
      std::fill_n(c + row * c_row, n, T(0));
    else if (start.data + row * start.row != c + row * c_row)
      std::copy_n(start.data + row * start.row, n, c + row * c_row);
  }
}

/// Rows of each of the fewest groups.
Index rows_of_groups(Index m, Index most) {
  if (m <= most) return std::max<Index>(m, 1);
  Index groups = (m + most - 1) / most;
  return (m + groups - 1) / groups;
}

}  // namespace

template <class T>
Index panel_columns() {
  return kernels<T>().panel;
}

template <class T>
Index group_rows(Index m) {
  return rows_of_groups(m, kernels<T>().max_rows);
}

template <class T>
Left<T> left_in_place(const T* a, Index stride, Index m) {
  const bool crowded = stride * static_cast<Index>(sizeof(T)) % way == 0;
  const Index rows = rows_of_groups(m, crowded ? std::min(kernels<T>().max_rows, most_crowded) : kernels<T>().max_rows);
  return {a, stride, 1, rows * stride, rows};
}

template <class T>
void multiply(Team& team, Index m, Index n, Index k, const Left<T>& a, const Right<T>& b, const Start<T>& start, T* c,
              Index c_row) {
  if (k == 0) fill(m, n, start, c, c_row);
  if (m == 0 || n == 0 || k == 0) return;
  // How the work is cut does not change a single bit, so here it may follow the number of threads.
  const Index worth = std::max(m, reading) * n * k / work_each;
  const bool far = k * n * static_cast<Index>(sizeof(T)) > private_cache();
  const Product<T> product{k, a, b, start, c, c_row, kernels<T>(), far};
  const Index threads = worth <= 1 ? 1 : std::min(worth, team.size());
  if (threads == 1) {
    product.run({0, m, 0, n});
    return;
  }
  // By rows where every core can keep the whole right-hand factor: then it also has, from the step before, the rows
  // that element-wise statements, which are cut by rows, left in its cache. Otherwise in more pieces than threads, so
  // that a thread that is slowed down, as on a shared machine, leaves some of its own to the others.
  const bool by_rows = m >= n || (m >= 8 * threads && !far);
  const Index pieces = by_rows ? threads : std::min(worth, 4 * threads);
  const bool in_place = a.k == 1;
  const Index length = by_rows ? m : n, grain = !by_rows ? 2 * product.kernels.panel : in_place ? 1 : a.rows;
  const Index each = ((length + grain - 1) / grain + pieces - 1) / pieces * grain;
  team.for_each_block((length + each - 1) / each, [&](Index block) {
    const Index begin = block * each, end = std::min(begin + each, length);
    if (!by_rows) {
      product.run({0, m, begin, end});
    } else if (in_place) {
      const auto rows = left_in_place(a.data + begin * a.row, a.row, end - begin);
      const Start<T> from{start.data != nullptr ? start.data + begin * start.row : nullptr, start.row};
      Product<T>{k, rows, b, from, c + begin * c_row, c_row, product.kernels, far}.run({0, end - begin, 0, n});
    } else {
      product.run({begin, end, 0, n});
    }
  });
}

template <class T>
void pack_rows(Team& team, Index rows, std::span<const Packing<T>> packings) {
  Index columns = 0;
  for (const Packing<T>& packing : packings) columns += packing.columns;
  const Index blocks = std::clamp<Index>(rows * columns / (2 * parallel_grain), 1, std::min<Index>(16, rows));
  team.for_each_block(blocks, [&](Index block) {
    const Index begin = block == 0 ? 0 : rows * block / blocks, end = blocks == 1 ? rows : rows * (block + 1) / blocks;
    for (const Packing<T>& packing : packings)
      with_width(packing.width, [&](auto width) { pack_some(packing, width, begin, end); });
  });
}

template <class T>
void pack_transposed(Team& team, const T* from, Index stride, Index rows, Index columns, Index width, T* to) {
  Index groups = (columns + width - 1) / width;
  Index blocks = std::clamp<Index>(rows * columns / (4 * parallel_grain), 1, std::min<Index>(16, groups));
  team.for_each_block(blocks, [&](Index block) {
    for (Index group = groups * block / blocks; group < groups * (block + 1) / blocks; ++group) {
      const Index size = std::min(width, columns - group * width);
      const T* source = from + group * width * stride;
      T* at = to + group * rows * width;
      Index row = 0;
      if constexpr (sizeof(T) <= 8) {
        constexpr Index side = 16 / sizeof(T);
        for (; size % side == 0 && row + side <= rows; row += side)
          for (Index i = 0; i < size; i += side)
            transpose_block(source + i * stride + row, stride, at + row * width + i, width);
      }
      for (; row < rows; ++row)
        for (Index i = 0; i < size; ++i) at[row * width + i] = source[i * stride + row];
      if (size < width)
        for (row = 0; row < rows; ++row) std::fill(at + row * width + size, at + (row + 1) * width, T(0));
    }
  });
}

#define UNROLL_INSTANTIATE(T)                                                                                      \
  template Index panel_columns<T>();                                                                               \
  template Index group_rows<T>(Index);                                                                             \
  template Left<T> left_in_place(const T*, Index, Index);                                                          \
  template void multiply(Team&, Index, Index, Index, const Left<T>&, const Right<T>&, const Start<T>&, T*, Index); \
  template void pack_rows(Team&, Index, std::span<const Packing<T>>);                                              \
  template void pack_transposed(Team&, const T*, Index, Index, Index, Index, T*)
UNROLL_INSTANTIATE(float);
UNROLL_INSTANTIATE(double);
UNROLL_INSTANTIATE(Dual);

}  // namespace unroll::detail
