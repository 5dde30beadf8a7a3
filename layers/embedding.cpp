#include <layers/embedding.h>

namespace unroll {

Embedding::Embedding(Index tokens, Index size, Generator& rng) : W({tokens, size}) {
  rng.fill_normal(W.value());
  add("weight", W);
}

}  // namespace unroll
