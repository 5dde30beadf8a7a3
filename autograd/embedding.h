#pragma once

#include <autograd/expression.h>
#include <autograd/indices.h>

namespace unroll {

class Tape;

/// y[i] = table[ids[i]]: row look-up. table [V, D], ids [...] each in [0, V), y [..., D]. A row's gradients are added
/// in the ids' order: the same bits for any number of threads. Throws Error when an id is out of range or the table is
/// not a matrix.
Var embedding(Tape& tape, const Argument& table, const Indices& ids, Source where = Source::here());

/// The same with a padding index: its row of the table gives values like any other but receives no gradient, so that it
/// stays what it is. In [-V, V), negative ones counting from the end; Throws Error when it is not.
Var embedding(Tape& tape, const Argument& table, const Indices& ids, Index padding, Source where = Source::here());

}  // namespace unroll
