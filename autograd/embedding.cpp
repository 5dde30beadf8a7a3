#include <autograd/embedding.h>

#include <autograd/indexing.h>
#include <autograd/tape.h>

namespace unroll {

namespace {

Var matrix(Tape& tape, const Argument& table, Source where) {
  const Var weights = tape.graph().var(table.bind(tape.graph(), "embedding", where));
  if (weights.rank() != 2) fail_at(where, "embedding: the table has shape {}; it must be a matrix", weights.shape());
  return weights;
}

}  // namespace

Var embedding(Tape& tape, const Argument& table, const Indices& ids, Source where) {
  return detail::select_slices("embedding", matrix(tape, table, where), 0, ids, -1, where);
}

Var embedding(Tape& tape, const Argument& table, const Indices& ids, Index padding, Source where) {
  const Var weights = matrix(tape, table, where);
  const Index rows = weights.shape()[0], row = padding < 0 ? padding + rows : padding;
  if (row < 0 || row >= rows)
    fail_at(where, "embedding: padding index {}; a table of shape {} has rows {} to {}", padding, weights.shape(),
            -rows, rows - 1);
  return detail::select_slices("embedding", weights, 0, ids, row, where);
}

}  // namespace unroll
