#include <layers/embedding.h>

#include <layers/initialize.h>

namespace unroll {

namespace {

/// The shape of W, checked before there is memory for it.
Shape table_shape(Index tokens, Index size) {
  if (tokens < 1 || size < 1) fail("Embedding: {} tokens of size {}; each must be at least 1", tokens, size);
  return {tokens, size};
}

}  // namespace

Embedding::Embedding(Index tokens, Index size, Generator& rng, Options options)
    : W(table_shape(tokens, size)), padding_(options.padding) {
  initialize::normal(W, rng);
  if (padding_) {
    if (*padding_ < -tokens || *padding_ >= tokens)
      fail("Embedding: padding index {}; with {} tokens it must be in [{}, {})", *padding_, tokens, -tokens, tokens);
    const Index row = *padding_ < 0 ? *padding_ + tokens : *padding_;
    W.value().matrix<float>().row(row).setZero();
  }
  W.set_sparse(options.sparse);
  add("weight", W);
}

Var Embedding::operator()(Tape& tape, const Indices& ids, Source where) const {
  return padding_ ? embedding(tape, W, ids, *padding_, where) : embedding(tape, W, ids, where);
}

}  // namespace unroll
