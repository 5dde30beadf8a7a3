#pragma once

#include <autograd/embedding.h>
#include <layers/module.h>

namespace unroll {

/// y[i] = W[ids[i]]: a learned vector for each token. ids [...] in [0, V), W [V, D], y [..., D].
///
/// W starts standard normal, as in PyTorch. Stored as PyTorch's `weight`.
class Embedding : public Module {
 public:
  Embedding(Index tokens, Index size, Generator& rng);

  /// Throws Error when an id is out of range.
  Var operator()(Tape& tape, const Indices& ids, Source where = Source::here()) const {
    return embedding(tape, W, ids, where);
  }

  Parameter W;
};

}  // namespace unroll
