#pragma once

#include <autograd/expression.h>
#include <autograd/indices.h>

namespace unroll {

class Tape;

/// y[i] = table[ids[i]]: row look-up. table [V, D], ids [...] each in [0, V), y [..., D].
/// Throws Error when an id is out of range or the table is not a matrix.
Var embedding(Tape& tape, const Argument& table, const Indices& ids, Source where = Source::here());

}  // namespace unroll
