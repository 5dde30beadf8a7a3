#pragma once

#include <autograd/tensor.h>

#include <limits>
#include <map>
#include <string>

namespace unroll {

/// Lowers the learning rate when a metric has stopped improving. PyTorch's ReduceLROnPlateau.
///
///     ReduceOnPlateau plateau({.factor = 0.5, .patience = 2});
///     adam.set_rate_factor(plateau.observe(validation_loss));  // after each epoch
///
/// A metric that is to fall is better than the best so far, b, when it is below b (1 - threshold), or with an absolute
/// threshold below b - threshold; one that is to rise, when it is above b (1 + threshold) or b + threshold. One that
/// can be negative needs an absolute threshold. NaN is not better than anything. When more than `patience` metrics in a
/// row were not better, the factor is lowered, and the next `cooldown` of them do not count.
class ReduceOnPlateau {
 public:
  enum class Mode { min, max };
  enum class Threshold { relative, absolute };
  struct Options {
    Mode mode = Mode::min;    ///< whether the metric is to fall or to rise
    double factor = 0.1;      ///< what the factor is multiplied with when it is lowered, in (0, 1)
    Index patience = 10;      ///< at least 0
    double threshold = 1e-4;  ///< at least 0; a relative one below 1
    Threshold threshold_mode = Threshold::relative;
    Index cooldown = 0;     ///< at least 0
    double min_factor = 0;  ///< what the factor does not fall below, in [0, 1]
  };
  /// Throws Error on an option out of range.
  explicit ReduceOnPlateau(Options options);
  ReduceOnPlateau() : ReduceOnPlateau(Options()) {}

  /// Takes the metric, such as the validation loss after an epoch, and returns `factor`.
  double observe(double metric);
  /// The factor on the learning rate: 1 at first.
  double factor() const { return factor_; }

  /// All that a resumed training needs to go on the same: the factor, the best metric, and the counts of metrics that
  /// were not better and of those left to cool down.
  std::map<std::string, Tensor> state_dict() const;
  /// Throws Error, and changes nothing, unless the entries are those of `state_dict`.
  void load_state_dict(const std::map<std::string, Tensor>& state);

 private:
  bool better(double metric) const;

  Options options_;
  double factor_ = 1;
  double best_;
  Index bad_ = 0;
  Index cooling_ = 0;
};

}  // namespace unroll
