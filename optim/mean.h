#pragma once

#include <autograd/tensor.h>

#include <map>
#include <string>

namespace unroll {

/// The mean of values as they come, sum(weight * value) / sum(weight), in double: of the losses since the last report,
/// say, or over batches of different sizes.
class Mean {
 public:
  /// Throws Error unless the weight is finite and at least 0.
  void add(double value, double weight = 1);
  /// NaN as long as nothing, or nothing with a weight, was added.
  double value() const { return sum_ / weight_; }
  double weight() const { return weight_; }
  void reset() { sum_ = weight_ = 0; }

  std::map<std::string, Tensor> state_dict() const;
  /// Throws Error, and changes nothing, when the entries are not a mean's.
  void load_state_dict(const std::map<std::string, Tensor>& state);

 private:
  double sum_ = 0, weight_ = 0;
};

}  // namespace unroll
