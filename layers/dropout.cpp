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
  return Var(x * detail::draw(*x.graph(), rng_, x.shape(), x.dtype(), 1 - p_, 1 / (1 - p_), where), where);
}

namespace detail {

Var draw(Graph& graph, Generator& rng, const Shape& shape, DType dtype, double p, double one, Source where) {
  const NodeId id = graph.add_leaf(shape, dtype, where);
  graph.draws_from(rng);
  // The mask's own type: on the tape of a jvp or hvp, every leaf holds Duals.
  rng.fill_bernoulli(graph.node(id).value, graph.node(id).dtype, shape.count(), p, one);
  return graph.var(id);
}

}  // namespace detail
}  // namespace unroll
