#include <autograd/embedding.h>

#include <autograd/record.h>
#include <autograd/tape.h>

#include <algorithm>

namespace unroll {

Var embedding(Tape& tape, const Argument& table, const Indices& ids, Source where) {
  detail::Graph& graph = tape.graph();
  const Var weights = graph.var(table.bind(graph, "embedding", where));
  const Shape shape = weights.shape();
  if (shape.rank() != 2) fail_at(where, "embedding: the table has shape {}; it must be a matrix", shape);
  for (Index i = 0; i < ids.size(); ++i)
    if (ids[i] < 0 || ids[i] >= shape[0])
      fail_at(where, "embedding: id {} is {}; a table of shape {} has rows 0 to {}", i, ids[i], shape, shape[0] - 1);
  auto n = ids.size();
  auto* rows = graph.array<std::int32_t>(static_cast<std::size_t>(n));
  std::ranges::copy(ids.values(), rows);
  return record<Duals>(
      "embedding", {weights}, ids.shape().insert(ids.shape().rank(), shape[1]),
      [=](auto y, auto from) {
        for (Index i = 0; i < n; ++i) y.row(i) = from.row(rows[i]);
      },
      [=](auto& d) {
        auto dx = d.dx(0);
        auto dy = d.dy();
        for (Index i = 0; i < n; ++i) dx.row(rows[i]) += dy.row(i);
      },
      where);
}

}  // namespace unroll
