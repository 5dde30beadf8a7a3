#include <layers/dropout.h>

#include <autograd/elementwise.h>

namespace unroll {

Dropout::Dropout(double p, Generator& rng) : p_(p), rng_(rng.split(rng.bits())) {
  if (!(p >= 0 && p < 1)) fail("Dropout: p is {}; it must be a probability in [0, 1)", p);
  add("generator", rng_);
}

Var Dropout::operator()(const Var& x, Source where) {
  if (!x) fail_at(where, "Dropout: an empty Var; assign a value to it first");
  if (!training() || p_ == 0) return x;
  detail::Graph& graph = *x.graph();
  detail::NodeId mask = graph.add_leaf(x.shape(), x.dtype(), where);
  graph.draws_from(rng_);
  // The mask's own type: on the tape of a jvp or hvp, every leaf holds Duals.
  rng_.fill_bernoulli(graph.node(mask).value, graph.node(mask).dtype, x.shape().count(), 1 - p_, 1 / (1 - p_));
  return Var(x * graph.var(mask), where);
}

}  // namespace unroll
