#pragma once

#include <autograd/matmul.h>
#include <layers/module.h>

namespace unroll {

/// y = x W + b, with x [..., D], W [D, H], b [H] and y [..., H].
///
/// W and b start uniform in +-1/sqrt(D), PyTorch's default (LeCun et al. 1998, "Efficient BackProp"); see initialize.h
/// for others. Stored as PyTorch's `weight` (transposed, [H, D]) and `bias`.
class Linear : public Module {
 public:
  struct Options {
    bool bias = true;
  };
  /// Throws Error unless both sizes are at least 1.
  Linear(Index inputs, Index outputs, Generator& rng, Options options);
  Linear(Index inputs, Index outputs, Generator& rng) : Linear(inputs, outputs, rng, Options()) {}

  /// Throws Error unless x's last axis is D and its type the weights'.
  Var operator()(const Var& x, Source where = Source::here()) const;

  Parameter W, b;

 private:
  bool has_bias_;
};

/// logits = h W^T + b, with h [..., D], W [V, D], b [V] and logits [..., V]: an output layer that shares the weights of
/// an embedding, of which a model then has only one table to learn.
///
///     struct Model : Module {
///       Embedding embedding;
///       TiedLinear head;
///       explicit Model(Generator& rng) : embedding(10000, 256, rng), head(embedding.W) {
///         initialize::normal(embedding.W, rng, 0, 1.0 / 16);  // logits of size 1 at first: 1 / sqrt(256)
///         add("embedding", embedding);
///         add("head", head);
///       }
///     };
///
/// b starts at 0. Stored as PyTorch's `weight` ([V, D], once, under the name that was added first) and `bias`.
/// Source: Press and Wolf 2017, "Using the output embedding to improve language models"; Inan et al. 2017.
class TiedLinear : public Module {
 public:
  using Options = Linear::Options;
  /// `weight` is somebody else's and must outlive this layer. Throws Error unless it is a matrix.
  explicit TiedLinear(Parameter& weight, Options options);
  explicit TiedLinear(Parameter& weight) : TiedLinear(weight, Options()) {}

  /// Throws Error unless h's last axis is D and its type the weights'.
  Var operator()(const Var& h, Source where = Source::here()) const;

  Parameter& W;
  Parameter b;

 private:
  bool has_bias_;
};

}  // namespace unroll
