#include <oneapi/tbb/parallel_for.h>
#include <tests/benchmarks/harness.h>
#include <tests/benchmarks/limits.h>

namespace unroll::benchmarks {

Contender triad(int threads, Index elements) {
  struct Arrays {
    Tensor a, b;
  };
  auto arrays = std::make_shared<Arrays>(Arrays{Tensor::full({elements}, 1), Tensor::full({elements}, 1)});
  auto run = [arrays, threads, each = elements / threads] {
    using Array = Eigen::Array<float, Eigen::Dynamic, 1>;
    tbb::parallel_for(0, threads, [&](int part) {
      Eigen::Map<Array> a(arrays->a.data<float>() + part * each, each);
      a += 0.5F * Eigen::Map<const Array>(arrays->b.data<float>() + part * each, each);
    });
  };
  return {"limit", run, [] { return Values(); }};
}

Contender reading(const ProblemPtr& problem) {
  auto run = [problem] {
    using Array = Eigen::Array<float, Eigen::Dynamic, 1>;
    [[maybe_unused]] volatile float sum = 0;
    for (Index t = 0; t < problem->task.sizes.steps; ++t)
      for (const LayerWeights& layer : problem->layers)
        for (const Tensor* weight : {&layer.W_ih, &layer.W_hh})
          sum = Eigen::Map<const Array>(weight->data<float>(), weight->shape().count()).sum();
  };
  return {"limit", run, [] { return Values(); }};
}

const Limits& limits(int threads) {
  static std::map<int, Limits> known;
  auto [at, is_new] = known.try_emplace(threads);
  if (!is_new) return at->second;
  const Effort effort{.sample_ms = 20, .fewest = 10, .most = 10, .seconds = 0};
  if (const auto product = gemm_peak(threads))
    at->second.gflops = gemm_flops / measure({*product}, effort).front().second.min / 1e6;
  at->second.gigabytes_per_second =
      triad_bytes * triad_elements / measure({triad(threads)}, effort).front().second.min / 1e6;
  return at->second;
}

}  // namespace unroll::benchmarks
