#include <examples/common/sampling.h>

#include <algorithm>
#include <cmath>
#include <numeric>

namespace unroll::examples {

Index draw(const TensorView& logits, double temperature, Index top_k, Generator& rng) {
  const std::vector<double> x = logits.to_vector();
  std::vector<std::size_t> order(x.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::stable_sort(order, [&](std::size_t a, std::size_t b) { return x[a] > x[b]; });
  if (top_k > 0 && static_cast<std::size_t>(top_k) < order.size()) order.resize(static_cast<std::size_t>(top_k));
  if (temperature == 0) return static_cast<Index>(order.front());

  std::vector<double> weight;
  for (std::size_t id : order) weight.push_back(std::exp((x[id] - x[order.front()]) / temperature));
  double left = rng.uniform() * std::accumulate(weight.begin(), weight.end(), 0.0);
  for (std::size_t i = 0; i < order.size(); ++i)
    if ((left -= weight[i]) < 0) return static_cast<Index>(order[i]);
  return static_cast<Index>(order.front());
}

}  // namespace unroll::examples
