#include <optim/mean.h>

#include <optim/saved_state.h>

#include <cmath>

namespace unroll {

void Mean::add(double value, double weight) {
  if (!(std::isfinite(weight) && weight >= 0)) fail("Mean: the weight is {}; it must be finite and at least 0", weight);
  sum_ += weight * value;
  weight_ += weight;
}

std::map<std::string, Tensor> Mean::state_dict() const {
  return {{"sum", Tensor::scalar(sum_, float64)}, {"weight", Tensor::scalar(weight_, float64)}};
}

void Mean::load_state_dict(const std::map<std::string, Tensor>& state) {
  const double sum = detail::saved_number("Mean", state, "sum"), weight = detail::saved_number("Mean", state, "weight");
  if (!(std::isfinite(weight) && weight >= 0)) fail("Mean: the saved weight is {}; the state is damaged", weight);
  if (state.size() != 2) fail("Mean: the saved state has {} entries, not 2; it is of something else", state.size());
  sum_ = sum;
  weight_ = weight;
}

}  // namespace unroll
