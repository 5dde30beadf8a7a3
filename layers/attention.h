#pragma once

// Attention of a recurrent decoder: at every step it looks back at all that an encoder has said, and takes the mean of
// it, weighted by how well each part answers the present query. (Attention without recurrence: autograd/attention.h.)

#include <autograd/expression.h>
#include <layers/module.h>

#include <span>

namespace unroll {

/// What an encoder has said, as an attention reads it: made once for a batch of sequences, used at every step.
///
/// N sequences of T steps, E values each; A is the size of the keys. Where a sequence has ended, values and keys are
/// those of an encoder output of zeros, and the mask is 0.
struct AttentionMemory {
  Var values;  ///< [N, T, E]
  Var keys;    ///< [N, T, A]
  Var mask;    ///< [N, 1, T], ones up to each length; empty when every sequence has T steps
};

/// What a query found, and where.
struct Attended {
  Var context;  ///< [M, E]: for each query the weighted mean of the values
  Var weights;  ///< [M, T]: in [0, 1]; a row's sum is 1, or 0 for a sequence of length 0
};

/// Attention by a small network, a_ij the weight of step j for query i of the same sequence:
///
///     e_ij = v . tanh(q_i W + k_j U),    a_i = softmax(e_i),    c_i = sum_j a_ij k_j
///
///     AdditiveAttention attention(256, 512, 128, rng);
///     auto memory = attention.remember(encoder(x).y, lengths);  // [T, N, 512]; k U, once
///     auto [context, weights] = attention(state.h, memory);     // [N, 256] -> [N, 512], [N, T]; at every step
///
/// Q is the query's size, E the encoder's, A the number of hidden units: W [Q, A], U [E, A], v [A], uniform at the
/// start in +-1/sqrt of the number of terms in their sums, like Linear. Stored as weight_query [A, Q], weight_key [A,
/// E] and weight_score [A]. Source: Bahdanau, Cho and Bengio 2015, "Neural machine translation by jointly learning to
/// align and translate", section A.1.2.
class AdditiveAttention : public Module {
 public:
  /// Throws Error unless the sizes are at least 1.
  AdditiveAttention(Index query, Index encoder, Index hidden, Generator& rng);

  /// outputs [T, N, E]: an encoder's, at every step. lengths [N], each in [0, T]: what is past a sequence's length, be
  /// it NaN, has weight 0 and changes no value and no gradient; without lengths, every sequence has T steps. A sequence
  /// of length 0 gives context 0 and weights 0. Throws Error when a shape, type or length does not fit.
  AttentionMemory remember(const Var& outputs, std::span<const Index> lengths = {},
                           Source where = Source::here()) const;
  /// query [M, Q], where M is a multiple of N: each sequence has as many queries, one after another, as a beam search
  /// has hypotheses of it. Throws Error when a shape or type does not fit. Time and memory: M T A.
  Attended operator()(const Var& query, const AttentionMemory& memory, Source where = Source::here()) const;

  Parameter W, U, v;
};

/// How MultiplicativeAttention compares a query q [Q] and a key k [E].
enum class AttentionScore {
  dot,      ///< q . k, for Q = E
  general,  ///< q . (k W), with W [E, Q]
};

/// Attention by inner products, a_ij the weight of step j for query i of the same sequence:
///
///     e_ij = score(q_i, k_j) scale,    a_i = softmax(e_i),    c_i = sum_j a_ij k_j
///
/// Used like AdditiveAttention. The score is an AttentionScore; the scale is 1, or with `scaled` 1/sqrt(Q), which keeps
/// the scores of large layers out of softmax's flat parts (Vaswani et al. 2017, section 3.2.1). W, where there is one,
/// is uniform at the start in +-1/sqrt(E) and stored as `weight` [Q, E], Luong's W_a.
/// Source: Luong, Pham and Manning 2015, "Effective approaches to attention-based neural machine translation", eq. 8.
class MultiplicativeAttention : public Module {
 public:
  struct Options {
    AttentionScore score = AttentionScore::general;
    bool scaled = false;
  };
  /// Throws Error unless the sizes are at least 1, and equal where the score is `dot`.
  MultiplicativeAttention(Index query, Index encoder, Generator& rng, Options options);
  MultiplicativeAttention(Index query, Index encoder, Generator& rng)
      : MultiplicativeAttention(query, encoder, rng, Options()) {}

  /// Both as in AdditiveAttention. Time and memory of a step: M T (Q + E) and M T.
  AttentionMemory remember(const Var& outputs, std::span<const Index> lengths = {},
                           Source where = Source::here()) const;
  Attended operator()(const Var& query, const AttentionMemory& memory, Source where = Source::here()) const;

  Parameter W;

 private:
  Index query_, encoder_;
  Options options_;
};

}  // namespace unroll
