#pragma once

#include <autograd/embedding.h>
#include <layers/module.h>

#include <optional>

namespace unroll {

/// y[i] = W[ids[i]]: a learned vector for each token. ids [...] in [0, V), W [V, D], y [..., D].
///
/// W starts standard normal, as in PyTorch, but for the padding's row, which starts at 0. Stored as PyTorch's `weight`.
/// An output layer that shares W is TiedLinear.
class Embedding : public Module {
 public:
  struct Options {
    /// The id that fills up short sequences, in [-V, V), negative ones counting from the end. Its row gets no gradient
    /// from this layer, so that it stays what it is. (A layer that shares W may give it one.)
    std::optional<Index> padding = {};
    /// A step then costs the rows that were used instead of all V: see Parameter::set_sparse, also for what that means
    /// for an optimizer's averages.
    bool sparse = false;
  };
  /// Throws Error unless both sizes are at least 1 and the padding is in range.
  Embedding(Index tokens, Index size, Generator& rng, Options options);
  Embedding(Index tokens, Index size, Generator& rng) : Embedding(tokens, size, rng, Options()) {}

  /// Throws Error when an id is out of range.
  Var operator()(Tape& tape, const Indices& ids, Source where = Source::here()) const;

  Parameter W;

 private:
  std::optional<Index> padding_;
};

}  // namespace unroll
