#include <layers/recurrent.h>

namespace unroll::detail {

void check_sequence(const Var& x, bool batch_first, Index inputs, DType dtype, std::span<const Index> lengths,
                    Source where) {
  if (!x) fail_at(where, "Recurrent: the input is an empty Var; assign a value to it first");
  const Shape& shape = x.shape();
  if (shape.rank() != 3 || shape[2] != inputs)
    fail_at(where, "Recurrent: the input is {}; it must be [{}, {}]", shape,
            batch_first ? "batch, time" : "time, batch", inputs);
  if (shape[batch_first ? 1 : 0] == 0) fail_at(where, "Recurrent: the input is {}; at least one step is needed", shape);
  const Index sequences = shape[batch_first ? 0 : 1];
  if (!lengths.empty() && static_cast<Index>(lengths.size()) != sequences)
    fail_at(where, "Recurrent: {} lengths for {} sequences (the input is {})", lengths.size(), sequences, shape);
  if (x.dtype() != dtype && !x.graph()->dual())
    fail_at(where, "Recurrent: the input is {} and the weights are {}; convert one of them", x.dtype(), dtype);
}

void check_probability(const char* option, double p) {
  if (!(p >= 0 && p < 1)) fail("Recurrent: {} is {}; it must be a probability in [0, 1)", option, p);
}

Var zero_state(const Var& x, const Shape& shape, Source where) {
  Graph& graph = *x.graph();
  const NodeId id = graph.add_leaf(shape, x.dtype(), where);
  std::fill_n(graph.node(id).value, graph.node(id).bytes(), std::byte{0});
  return graph.var(id);
}

Var Zoneout::operator()(double p, const Var& before, const Var& after, Source where) const {
  if (!training) return Var(p * before + (1 - p) * after, where);
  const Var stays = draw(*before.graph(), *rng, before.shape(), before.dtype(), p, 1, where);
  return Var(unroll::where(stays, before, after), where);
}

}  // namespace unroll::detail
