#pragma once

// What the machine can do at most, measured in the same run.

#include <tests/benchmarks/case.h>

namespace unroll::benchmarks {

/// One product of square matrices by oneDNN, where it is installed; the rows of each, and what that is in operations.
/// Larger ones are no faster.
std::optional<Contender> gemm_peak(int threads);
inline constexpr Index gemm_rows = 768;
inline constexpr double gemm_flops = 2.0 * gemm_rows * gemm_rows * gemm_rows;

/// One pass of a = a + s b over two arrays, in parallel. It reads two numbers and writes one for each element; and no
/// more than that, since what it writes it has read.
inline constexpr Index triad_elements = 20'000'000;
inline constexpr double triad_bytes = 3 * 4;  // for each element
Contender triad(int threads, Index elements = triad_elements);

/// A recurrent layer's weights added up once for every step: a stream is no faster than they come from the caches.
Contender reading(const ProblemPtr& problem);

/// The best that was seen of either of the first two. Zero where it cannot be measured.
struct Limits {
  double gflops = 0, gigabytes_per_second = 0;
};
/// Measured when first asked for.
const Limits& limits(int threads);

}  // namespace unroll::benchmarks
