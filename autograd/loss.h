#pragma once

// What a model is trained to make small: how far predictions are from targets. All of them are natural logarithms
// (nats) where there are logarithms, and all reduce their terms as a Reduction says. CTC is in ctc.h.

#include <autograd/expression.h>
#include <autograd/indices.h>

#include <optional>

namespace unroll {

/// What becomes of the terms of a loss: all of them as they are, or one scalar. The mean of no terms throws Error;
/// their sum is 0. Accumulated in double.
enum class Reduction { none, mean, sum };

/// What a prediction is compared with: a Var (or an expression, which becomes one), or a Tensor, which becomes a
/// constant on the prediction's tape and has to live only as long as the call.
class Target {
 public:
  Target(const Var& var) : var_(var) {}               // NOLINT(google-explicit-constructor)
  Target(const Tensor& tensor) : tensor_(&tensor) {}  // NOLINT(google-explicit-constructor)
  template <class E>
    requires requires { typename E::RecordsAsVar; }
  Target(const E& expression, Source where = Source::here()) : var_(expression, where) {}  // NOLINT

  const Shape& shape() const { return tensor_ != nullptr ? tensor_->shape() : var_.shape(); }
  DType dtype() const { return tensor_ != nullptr ? tensor_->dtype() : var_.dtype(); }
  TensorView value() const { return tensor_ != nullptr ? tensor_->view() : var_.value(); }
  /// Throws Error when it is a Var of another tape.
  void check(const detail::Graph& graph, const char* function, Source where) const;
  /// It as a value on that tape.
  Var on(detail::Graph& graph, Source where) const;

 private:
  Var var_;
  const Tensor* tensor_ = nullptr;
};

/// Of the losses with classes, as PyTorch has them. Not every field is for every loss: see there.
struct CrossEntropyOptions {
  Reduction reduction = Reduction::mean;
  /// Rows with this target count for nothing: no loss, no gradient, whatever their logits; the mean is over the others.
  /// It may be a class or not (PyTorch's is -100). Unset, every row counts and every target must be a class.
  std::optional<std::int32_t> ignore_index = {};
  /// [V], w: the weight of each class, at least 0; all 1 when unset.
  std::optional<Tensor> class_weights = {};
  /// e in [0, 1]: the share of the target's probability that is spread evenly over all V classes (Szegedy et al. 2016,
  /// "Rethinking the Inception Architecture", section 7).
  double label_smoothing = 0;
};

/// The loss of a row is the negative log-likelihood of its target t under softmax(logits):
///     l = -(1 - e) w_t log p_t - e / V sum_c w_c log p_c,   p = softmax(logits),
/// that is -log p_t without options. Softmax, logarithm and their derivative (p - one-hot) are one stable operation.
/// The mean is over the rows' target weights: sum l / sum w_t, as PyTorch's.
///
/// logits [..., V]; targets of the leading shape (or as many of them in any shape), each in [0, V). The result is a
/// scalar, or of the leading shape with Reduction::none. A logit of minus infinity is a class of probability 0.
/// Throws Error when the counts differ, a target is out of range, an option is, and when the mean has nothing to
/// average: no rows, all of them ignored, or all of weight 0 (where PyTorch gives NaN).
Var cross_entropy(const Var& logits, const Indices& targets, const CrossEntropyOptions& options = {},
                  Source where = Source::here());

/// The same with a distribution t over the classes as target of each row:
///     l = -sum_c w_c ((1 - e) t_c + e / V) log p_c.
/// A class of target 0 adds nothing, also when its logit is minus infinity. The mean is over rows, whatever the
/// weights.
///
/// logits and probabilities [..., V]; every probability in [0, 1], their sum is not checked. Differentiable in both.
/// Throws Error when the shapes differ, a probability is out of range, an option is or is an `ignore_index`, and when
/// the mean has no rows.
Var cross_entropy(const Var& logits, const Target& probabilities, const CrossEntropyOptions& options = {},
                  Source where = Source::here());

/// Negative log-likelihood: cross_entropy of logarithms of probabilities instead of logits, with the same options.
/// `nll(log_softmax(x), t)` is `cross_entropy(x, t)`, less fast.
Var nll(const Var& log_probabilities, const Indices& targets, const CrossEntropyOptions& options = {},
        Source where = Source::here());

struct BinaryCrossEntropyOptions {
  /// w: what a positive example counts for; of a shape that broadcasts to that of x, such as {} or [C]. At least 0.
  std::optional<Tensor> positive_weight = {};
  Reduction reduction = Reduction::mean;
};

/// -w t log s(x) - (1 - t) log(1 - s(x)) with the sigmoid s and t in [0, 1], element by element: each is a
/// yes-or-no question of its own. Computed from softplus(x) = log(1 + e^x), so stable for logits of any size; where t
/// is exactly 0 or 1, the other term is 0 even for an infinite logit. dl/dx = (1 - t) s(x) - w t (1 - s(x)). Throws
/// Error when the shapes differ, a target is outside [0, 1], or a weight is negative.
Var binary_cross_entropy_with_logits(const Var& x, const Target& targets, const BinaryCrossEntropyOptions& options = {},
                                     Source where = Source::here());

/// (x - y)^2, element by element; the mean of it unless told otherwise. Throws Error unless the shapes agree.
Var mse(const Var& x, const Target& y, Reduction reduction = Reduction::mean, Source where = Source::here());

/// |x - y|, element by element; the derivative is 0 where they are equal. Throws Error unless the shapes agree.
Var l1(const Var& x, const Target& y, Reduction reduction = Reduction::mean, Source where = Source::here());

struct HuberOptions {
  double delta = 1;  ///< above 0: errors beyond it count linearly
  Reduction reduction = Reduction::mean;
};

/// With r = x - y: r^2 / 2 where |r| <= delta, else delta (|r| - delta / 2), element by element (Huber 1964). The
/// derivative is r, clamped to [-delta, delta]. PyTorch's smooth L1 loss with `beta` is this one divided by delta =
/// beta. Throws Error unless the shapes agree and delta is above 0 and finite.
Var huber(const Var& x, const Target& y, const HuberOptions& options = {}, Source where = Source::here());

struct HingeOptions {
  double margin = 1;  ///< m, above 0
  Reduction reduction = Reduction::mean;
};

/// max(0, m - y x), element by element, for targets y of exactly -1 or 1 (Cortes and Vapnik 1995). The derivative is -y
/// where y x < m, 0 elsewhere, at the margin too; none reaches y. Throws Error unless the shapes agree, every target is
/// -1 or 1, and m is above 0 and finite.
Var hinge(const Var& x, const Target& y, const HingeOptions& options = {}, Source where = Source::here());

/// The pinball loss, whose smallest mean is where x is the q-quantile of y (Koenker and Bassett 1978):
/// q (y - x) where y >= x, else (1 - q) (x - y), element by element. The derivative is 0 where they are equal.
/// Throws Error unless the shapes agree and q is in (0, 1).
Var pinball(const Var& x, const Target& y, double q, Reduction reduction = Reduction::mean,
            Source where = Source::here());
/// Several quantiles at once: x [..., Q], y [...], and the Q levels q that x's last axis stands for. With
/// Reduction::none, [..., Q].
Var pinball(const Var& x, const Target& y, std::span<const double> q, Reduction reduction = Reduction::mean,
            Source where = Source::here());
inline Var pinball(const Var& x, const Target& y, std::initializer_list<double> q,
                   Reduction reduction = Reduction::mean, Source where = Source::here()) {
  return pinball(x, y, std::span(q.begin(), q.size()), reduction, where);
}

/// The relative entropy sum_c t_c (log t_c - x_c) of each row, of the distribution with logarithms x from the target
/// distribution t (Kullback and Leibler 1951). 0 log 0 = 0: a class of target 0 adds nothing, even where x is minus
/// infinity, and the derivative in that t is taken as 0.
///
/// log_probabilities and probabilities [..., V]; every probability in [0, 1]. A term is a row: with Reduction::none the
/// result is of the leading shape, and the mean is over rows (PyTorch's "batchmean" for [N, V]; its "mean" divides by V
/// as well). Throws Error when the shapes differ or are {}, or a probability is out of range.
Var kl_divergence(const Var& log_probabilities, const Target& probabilities, Reduction reduction = Reduction::mean,
                  Source where = Source::here());

struct GaussianNllOptions {
  double epsilon = 1e-6;  ///< above 0: what smaller variances are replaced with
  bool full = false;      ///< adds the constant log(2 pi) / 2
  Reduction reduction = Reduction::mean;
};

/// The negative log-likelihood of y under a normal distribution, element by element (Nix and Weigend 1994):
/// (log v + (x - y)^2 / v) / 2 with mean x and v = max(variance, epsilon). As in PyTorch, the derivative in a variance
/// below epsilon is the one at epsilon, so that it can grow again.
///
/// x and y of one shape; the variance of one that broadcasts to it. Throws Error when the shapes do not fit, a variance
/// is negative, or epsilon is not above 0 and finite.
Var gaussian_nll(const Var& x, const Target& y, const Target& variance, const GaussianNllOptions& options = {},
                 Source where = Source::here());

}  // namespace unroll
