#pragma once

#include <autograd/expression.h>

#include <optional>

namespace unroll {

/// Which keys a query may attend to: a Var, or a Tensor (of either type, and needed only during the call). Nothing:
/// all.
class AttentionMask {
 public:
  AttentionMask() = default;
  AttentionMask(const Var& mask) : var_(mask) {}         // NOLINT(google-explicit-constructor)
  AttentionMask(const Tensor& mask) : tensor_(&mask) {}  // NOLINT(google-explicit-constructor)

  /// Null when there is none.
  const Tensor* tensor() const { return tensor_; }
  const Var* var() const { return var_ ? &var_ : nullptr; }

 private:
  Var var_;
  const Tensor* tensor_ = nullptr;
};

struct AttentionOptions {
  /// Of a shape that broadcasts to [..., T, S]: a query may attend to the keys at which it is not 0. A batch of N
  /// sequences of lengths up to S has [N, 1, S], ones up to each length. It is a constant: no gradient flows into it.
  AttentionMask mask{};
  /// Query t may attend to the keys 0 to t only (of those the mask allows).
  bool causal = false;
  /// What the products are multiplied with; 1 / sqrt(d) unless given.
  std::optional<double> scale{};
};

/// What attention gives, and where it looked.
struct Attention {
  Var output;   ///< [..., T, e]
  Var weights;  ///< [..., T, S]: of each query, what it takes of every value; a row's sum is 1, or 0 where it may take
                ///< none
};

/// y = softmax(q k^T scale) v: for every query the mean of the values, weighted by how well their keys match it
/// (Vaswani et al. 2017, Attention Is All You Need, equation 1).
///
/// query [..., T, d], key [..., S, d], value [..., S, e], y [..., T, e], with T queries and S keys of d features; the
/// axes before them (batch, heads) broadcast. Keys that a query may not attend to have weight 0; a query with no key
/// left (or S = 0) gives zeros and has no gradient. Throws Error when shapes or types do not fit.
///
/// All T S weights are kept on the tape: memory and time grow with the product of the two lengths.
Var scaled_dot_product_attention(const Var& query, const Var& key, const Var& value,
                                 const AttentionOptions& options = {}, Source where = Source::here());

/// The same with the weights, to be looked at or used.
Attention attention_with_weights(const Var& query, const Var& key, const Var& value,
                                 const AttentionOptions& options = {}, Source where = Source::here());

}  // namespace unroll
