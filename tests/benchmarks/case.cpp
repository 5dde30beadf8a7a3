#include <autograd/random.h>
#include <tests/benchmarks/case.h>

#include <cmath>

namespace unroll::benchmarks {

Index gates(const std::string& cell) { return cell == "lstm" ? 4 : cell == "gru" ? 3 : cell == "mgu" ? 2 : 1; }

Index classes(const Sizes& sizes) { return sizes == Sizes{20, 35, 200, 200, 2} ? 10'000 : 96; }

double flops(const Case& c) {
  // A layer's forward is a product of [T N, D] and one of T times [N, H] with GH columns: 2 T N GH (D + H). Its
  // backward is twice that, for the weights and for what they were multiplied with, of which the first layer's input
  // may need no gradient. A head of V words is 2 T N H V, three times.
  const auto& [batch, steps, input, hidden, layers] = c.sizes;
  const double rows = 2.0 * static_cast<double>(batch * steps);
  auto product = [&](Index a, Index b) { return rows * static_cast<double>(a) * static_cast<double>(b); };
  const Index width = gates(c.cell) * hidden;
  const double forward = product(width, input + hidden) + static_cast<double>(layers - 1) * product(width, 2 * hidden);
  if (c.topic == topic::inference || c.topic == topic::streaming) return forward;
  if (c.topic == topic::sweep_dx) return 3 * forward;
  const double sweep = 3 * forward - product(width, input);
  return c.topic == topic::training ? sweep + 3 * product(hidden, classes(c.sizes)) : sweep;
}

Problem::Problem(const Case& c) : task(c) {
  const auto& [batch, steps, input, hidden, depth] = c.sizes;
  Generator rng(1);
  auto random = [&](const Shape& shape, double bound) {
    Tensor tensor(shape);
    rng.fill_uniform(tensor, -bound, bound);
    return tensor;
  };
  const double bound = 1 / std::sqrt(static_cast<double>(hidden));
  const Index width = gates(c.cell) * hidden;
  x = random({steps, batch, input}, 1);
  dy = random({steps, batch, hidden}, 1);
  for (Index layer = 0; layer < depth; ++layer)
    layers.push_back({random({layer == 0 ? input : hidden, width}, bound), random({hidden, width}, bound),
                      random({width}, bound), c.cell == "gru" ? random({width}, bound) : Tensor(Shape{width})});
  if (c.topic != topic::training && c.topic != topic::memory) return;
  head_W = random({hidden, classes(c.sizes)}, bound);
  head_b = random({classes(c.sizes)}, bound);
  for (Index row = 0; row < steps * batch; ++row)
    targets.push_back(static_cast<std::int32_t>(rng.below(classes(c.sizes))));
}

}  // namespace unroll::benchmarks
