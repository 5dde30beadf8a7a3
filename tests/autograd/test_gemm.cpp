// The matrix product under matmul: against a plain loop, whatever the sizes, strides and arrangement of the factors.

#include <autograd/gemm.h>
#include <tests/support.h>

#include <doctest/doctest.h>

#include <oneapi/tbb/global_control.h>

using namespace unroll;
using namespace unroll::detail;
using namespace unroll::testing;

namespace {

/// start + A B by the definition, in double.
template <class T>
std::vector<double> plain(Index m, Index n, Index k, const Tensor& a, const Tensor& b,
                          const std::vector<double>& start) {
  std::vector<double> c = start;
  for (Index i = 0; i < m; ++i)
    for (Index j = 0; j < n; ++j)
      for (Index p = 0; p < k; ++p)
        c[static_cast<std::size_t>(i * n + j)] +=
            static_cast<double>(a.data<T>()[i * k + p]) * static_cast<double>(b.data<T>()[p * n + j]);
  return c;
}

template <class T>
constexpr DType type_of = std::is_same_v<T, float> ? float32 : float64;

/// All the ways to compute the same product; every one must give the same bits.
template <class T>
std::vector<std::vector<T>> products(Index m, Index n, Index k, const Tensor& a, const Tensor& b,
                                     const Start<T>& start) {
  Team team;
  const Index panel = panel_columns<T>(), group = group_rows<T>(m), capacity = k + 3;
  auto size = [](Index elements) { return static_cast<std::size_t>(elements); };
  const T *A = a.data<T>(), *B = b.data<T>();
  std::vector<T> right(size(packed_size(k, n, panel))), from_transpose(right.size());
  std::vector<T> left(size(packed_size(capacity, m, group))), at(size(k * m)), bt(size(n * k));
  for (Index p = 0; p < k; ++p)
    for (Index i = 0; i < m; ++i) at[size(p * m + i)] = A[i * k + p];
  for (Index p = 0; p < k; ++p)
    for (Index j = 0; j < n; ++j) bt[size(j * k + p)] = B[p * n + j];
  pack_rows<T>(team, k, {B, n, n, panel, right.data(), k});
  pack_transposed(team, bt.data(), k, k, n, panel, from_transpose.data());
  const Index half = k / 2;
  pack_rows<T>(team, half, {at.data(), m, m, group, left.data(), capacity});
  pack_rows<T>(team, k - half, {at.data() + half * m, m, m, group, left.data(), capacity, half});

  std::vector<std::vector<T>> all;
  auto run = [&](const Left<T>& x, const Right<T>& y) {
    all.emplace_back(size(m * n), T(7));
    multiply(team, m, n, k, x, y, start, all.back().data(), n);
  };
  run(left_in_place(A, k, m), right_in_place(B, n));
  run(left_in_place(A, k, m), packed_right(right.data(), k));
  run(left_in_place(A, k, m), packed_right(from_transpose.data(), k));
  run(packed_left(left.data(), capacity, m), packed_right(right.data(), k));
  return all;
}

}  // namespace

TEST_CASE_TEMPLATE("products agree with the definition, whatever their sizes", T, float, double) {
  struct Size {
    Index m, n, k;
  };
  const Size sizes[] = {{1, 1, 1},     {1, 64, 16},   {1, 256, 64},    {1, 200, 3},  {2, 31, 5},
                        {3, 100, 70},  {5, 33, 1},    {14, 32, 64},    {15, 65, 17}, {29, 16, 600},
                        {64, 97, 513}, {300, 40, 20}, {33, 128, 1030}, {1, 5, 7},    {1, 1100, 21},
                        {1, 70, 1030}, {10, 48, 33},  {20, 70, 40},    {97, 40, 9}};
  for (const Size& size : sizes) {
    const Index m = size.m, n = size.n, k = size.k;
    CAPTURE(m);
    CAPTURE(n);
    CAPTURE(k);
    const Tensor a = random_tensor({m, k}, 1).to(type_of<T>), b = random_tensor({k, n}, 2).to(type_of<T>);
    const Tensor row = random_tensor({n}, 3).to(type_of<T>);
    std::vector<double> start;
    for (Index i = 0; i < m * n; ++i) start.push_back(static_cast<double>(row.data<T>()[i % n]));
    const auto all = products<T>(m, n, k, a, b, {row.data<T>(), 0});
    const auto expected = plain<T>(m, n, k, a, b, start);
    double worst = 0;
    for (std::size_t i = 0; i < expected.size(); ++i)
      worst = std::max(worst, std::abs(expected[i] - static_cast<double>(all[0][i])));
    CHECK(worst < (sizeof(T) == 4 ? 2e-5 : 1e-12));
    for (std::size_t way = 1; way < all.size(); ++way) {
      CAPTURE(way);
      CHECK(std::memcmp(all[way].data(), all[0].data(), all[0].size() * sizeof(T)) == 0);
    }
  }
}

TEST_CASE_TEMPLATE("rows that lie a page apart are multiplied like others", T, float, double) {
  const Index m = 130, n = 150, k = 1024;
  // Eighths: every sum is exact.
  auto eighths = [](const Shape& shape, int seed) {
    Tensor x = random_tensor(shape, seed).to(type_of<T>);
    for (Index i = 0; i < x.size(); ++i) x.data<T>()[i] = std::round(x.data<T>()[i] * 8) / 8;
    return x;
  };
  const Tensor a = eighths({m, k}, 1), b = eighths({k, n}, 2);
  const std::vector<double> expected = plain<T>(m, n, k, a, b, std::vector<double>(static_cast<std::size_t>(m * n)));
  for (const std::vector<T>& c : products<T>(m, n, k, a, b, {}))
    CHECK(std::equal(c.begin(), c.end(), expected.begin(), expected.end()));
}

TEST_CASE_TEMPLATE("a row of a product does not depend on how many rows there are, nor on the number of threads", T,
                   float, double) {
  const Index k = 300;
  // Two threads are worth it at the last size alone.
  for (Index n : {1, 4, 8, 13, 20, 67, 320}) {
    const Index m = n == 320 ? 200 : 30;
    CAPTURE(n);
    const Tensor a = random_tensor({m, k}, 1).to(type_of<T>), b = random_tensor({k, n}, 2).to(type_of<T>);
    auto product = [&](Index first, Index rows, std::size_t threads) {
      oneapi::tbb::global_control limit(oneapi::tbb::global_control::max_allowed_parallelism, threads);
      Team team;
      std::vector<T> c(static_cast<std::size_t>(rows * n));
      multiply<T>(team, rows, n, k, left_in_place(a.data<T>() + first * k, k, rows), right_in_place(b.data<T>(), n), {},
                  c.data(), n);
      return c;
    };
    const std::vector<T> whole = product(0, m, 2);
    CHECK(product(0, m, 1) == whole);
    for (Index rows : {1, 2, 3, 4, 6, 7, 8, 11, 13, 14, 15, 29}) {
      CAPTURE(rows);
      const std::vector<T> last = product(m - rows, rows, 1);
      CHECK(std::equal(last.begin(), last.end(), whole.end() - rows * n));
    }
  }
}

TEST_CASE("a product with nothing to multiply is its start") {
  Team team;
  std::vector<float> c(6, 7), start{1, 2, 3};
  multiply<float>(team, 2, 3, 0, left_in_place<float>(nullptr, 0, 2), right_in_place<float>(nullptr, 3),
                  {start.data(), 0}, c.data(), 3);
  CHECK(c == std::vector<float>{1, 2, 3, 1, 2, 3});
  multiply<float>(team, 2, 3, 0, left_in_place<float>(nullptr, 0, 2), right_in_place<float>(nullptr, 3), {}, c.data(),
                  3);
  CHECK(c == std::vector<float>(6, 0));
}
