#include <autograd/gemm_kernel.h>

#include <type_traits>
#include <utility>

namespace unroll::detail {

namespace {

/// A register's worth of numbers, at any address.
template <class T, int bytes>
struct Register {
  using Type [[gnu::vector_size(bytes), gnu::aligned(alignof(T)), gnu::may_alias]] = T;
};

/// f(0), ..., f(n - 1) with constant arguments, so that arrays indexed by them can live in registers.
template <int n, class F>
[[gnu::always_inline]] inline void repeat(F&& f) {
  [&]<int... I>(std::integer_sequence<int, I...>) __attribute__((always_inline)) {
    (f(std::integral_constant<int, I>{}), ...);
  }
  (std::make_integer_sequence<int, n>{});
}

template <class T, int bytes, int rows, int registers>
[[gnu::always_inline]] inline void compute(const Tile<T>& tile) {
  using R = typename Register<T, bytes>::Type;
  constexpr int width = bytes / static_cast<int>(sizeof(T));
  // Registers 2 q and 2 q + 1 are panel q.
  auto column = [](int j, Index panel) __attribute__((always_inline)) { return j / 2 * panel + j % 2 * width; };

  R sum[rows][registers];
  repeat<rows>([&](auto i) __attribute__((always_inline)) {
    repeat<registers>([&](auto j) __attribute__((always_inline)) { sum[i][j] = R{}; });
  });
  // A pointer for every third row: what the processor's addressing reaches from there needs no register of its own.
  const T* a[(rows + 2) / 3];
  repeat<(rows + 2) / 3>([&](auto q) __attribute__((always_inline)) { a[q] = tile.a + 3 * q * tile.a_row; });
  const T* b = tile.b;
  const Index a_row = tile.a_row, a_k = tile.a_k, b_panel = tile.b_panel, b_k = tile.b_k, ahead = tile.ahead;
  auto sum_up = [&](auto fetches, Index count) __attribute__((always_inline)) {
    for (Index p = count; p > 0; --p, b += b_k) {
      R right[registers];
      repeat<registers>([&](auto j) __attribute__((always_inline)) {
        if constexpr (fetches && j * bytes % 64 == 0) __builtin_prefetch(b + ahead + column(j, b_panel), 0, 2);
        right[j] = *reinterpret_cast<const R*>(b + column(j, b_panel));
#if defined(__x86_64__) && !defined(__clang__)
        // GCC would read it from memory again for every row of A: with few rows that takes longer than multiplying.
        if constexpr (rows > 1 && bytes >= 16) asm("" : "+v"(right[j]));
#endif
      });
      repeat<rows>([&](auto i) __attribute__((always_inline)) {
        const T left = a[i / 3][i % 3 * a_row];
        repeat<registers>([&](auto j) __attribute__((always_inline)) {
#if defined(__x86_64__) && !defined(__clang__)
          // For AMD's processors GCC splits the multiply-add of a loop that has but one, and it would round otherwise.
          if constexpr (rows == 1 && (bytes == 16 || bytes == 32)) asm("" : "+v"(sum[i][j]));
#endif
          sum[i][j] += left * right[j];
        });
      });
      repeat<(rows + 2) / 3>([&](auto q) __attribute__((always_inline)) { a[q] += a_k; });
    }
  };
  // What is needed at the end only, and perhaps far away, is asked for row by row, in the first half of the time. Of
  // few rows that takes longer than it saves.
  const T *start = tile.start, *c = tile.c;
  const Index each = rows < 4 ? 0 : tile.k / (2 * rows);
  auto run = [&](auto fetches) __attribute__((always_inline)) {
    for (int i = 0; i < rows; ++i) {
      repeat<registers>([&](auto j) __attribute__((always_inline)) {
        if constexpr (j * bytes % 64 == 0) {
          if (start != nullptr) __builtin_prefetch(start + j * width);
          if constexpr (rows >= 4) __builtin_prefetch(c + j * width, 1);
        }
      });
      if (start != nullptr) start += tile.start_row;
      c += tile.c_row;
      if constexpr (rows >= 4) sum_up(fetches, each);
    }
    sum_up(fetches, tile.k - rows * each);
  };
  if (ahead > 0)
    run(std::true_type{});
  else
    run(std::false_type{});
  repeat<rows>([&](auto i) __attribute__((always_inline)) {
    repeat<registers>([&](auto j) __attribute__((always_inline)) {
      if (tile.start != nullptr) sum[i][j] += *reinterpret_cast<const R*>(tile.start + i * tile.start_row + j * width);
      *reinterpret_cast<R*>(tile.c + i * tile.c_row + j * width) = sum[i][j];
    });
  });
}

/// The kernels of one kind of processor. `Run` is what compiles `compute` for it.
template <class T, int bytes, int max_rows, template <class, int, int, int> class Run>
constexpr Kernels<T> table() {
  Kernels<T> kernels{2 * bytes / static_cast<Index>(sizeof(T)), max_rows, {}, {}, {}, {}, nullptr};
  [&]<int... I>(std::integer_sequence<int, I...>) {
    ((kernels.narrow[I + 1] = Run<T, bytes, I + 1, 2>::run), ...);
    ((kernels.half[I + 1] = Run<T, bytes, I + 1, 1>::run), ...);
    ((kernels.quarter[I + 1] = Run<T, bytes / 2, I + 1, 1>::run), ...);
  }(std::make_integer_sequence<int, max_rows>{});
  kernels.widest = Run<T, bytes, 1, 8>::run;
  kernels.wide[1] = Run<T, bytes, 1, 4>::run;
  kernels.wide[2] = Run<T, bytes, 2, 4>::run;
  if constexpr (max_rows >= 14) kernels.wide[3] = Run<T, bytes, 3, 4>::run;
  return kernels;
}

template <class T, int bytes, int rows, int registers>
struct Baseline {
  static void run(const Tile<T>& tile) { compute<T, bytes, rows, registers>(tile); }
};

#ifdef __x86_64__
// Whatever processor the rest is compiled for, products use what the one at hand can do.
template <class T, int bytes, int rows, int registers>
struct Avx2 {
  [[gnu::target("avx2,fma")]] static void run(const Tile<T>& tile) { compute<T, bytes, rows, registers>(tile); }
};
template <class T, int bytes, int rows, int registers>
struct Avx512 {
  [[gnu::target("avx512f,avx2,fma")]] static void run(const Tile<T>& tile) { compute<T, bytes, rows, registers>(tile); }
};
#endif

/// Pairs (value, tangent) are for few and small products: plain loops.
template <class T, int bytes, int rows, int registers>
struct Plain {
  static void run(const Tile<T>& tile) {
    constexpr Index panel = 128 / sizeof(T), columns = registers * bytes / static_cast<int>(sizeof(T));
    for (Index i = 0; i < rows; ++i)
      for (Index j = 0; j < columns; ++j) {
        T sum{};
        for (Index p = 0; p < tile.k; ++p)
          sum += tile.a[i * tile.a_row + p * tile.a_k] * tile.b[j / panel * tile.b_panel + p * tile.b_k + j % panel];
        if (tile.start != nullptr) sum += tile.start[i * tile.start_row + j];
        tile.c[i * tile.c_row + j] = sum;
      }
  }
};

template <class T>
const Kernels<T>& choose() {
#ifdef __x86_64__
  static constexpr Kernels<T> avx512 = table<T, 64, 14, Avx512>(), avx2 = table<T, 32, 6, Avx2>();
  if (__builtin_cpu_supports("avx512f")) return avx512;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return avx2;
#endif
  static constexpr Kernels<T> baseline = table<T, 16, 6, Baseline>();
  return baseline;
}

template <>
const Kernels<Dual>& choose() {
  static constexpr Kernels<Dual> plain = table<Dual, 64, 6, Plain>();
  return plain;
}

}  // namespace

template <class T>
const Kernels<T>& kernels() {
  static const Kernels<T>& chosen = choose<T>();
  return chosen;
}

template const Kernels<float>& kernels();
template const Kernels<double>& kernels();
template const Kernels<Dual>& kernels();

}  // namespace unroll::detail
