#include <optim/clip.h>

#include <optim/elementwise_update.h>

#include <cmath>

namespace unroll {

namespace {

template <class T>
using Array = Eigen::Map<const Eigen::Array<T, Eigen::Dynamic, 1>>;

double sum_of_squares(const Tensor& tensor) {
  return with_type(tensor.dtype(), [&]<class T>(T) {
    return Array<T>(tensor.data<T>(), tensor.size()).template cast<double>().square().sum();
  });
}

/// The gradients that count. Throws when one is not finite.
template <class F>
void for_each_grad(const std::vector<Parameter*>& parameters, F&& f) {
  for (Parameter* parameter : parameters)
    if (parameter->has_grad() && parameter->trainable()) f(*parameter);
}

double checked_sum_of_squares(Parameter& parameter, const char* function) {
  double sum = sum_of_squares(parameter.grad());
  if (!std::isfinite(sum))
    fail("{}: the gradient of \"{}\" {} is not finite; lower the learning rate, or look for a division by zero",
         function, parameter.name(), parameter.shape());
  return sum;
}

}  // namespace

double clip_grad_norm(const std::vector<Parameter*>& parameters, double max_norm) {
  if (!(max_norm > 0)) fail("clip_grad_norm: max_norm is {}; it must be above 0", max_norm);
  double sum = 0;
  for_each_grad(parameters, [&](Parameter& parameter) { sum += checked_sum_of_squares(parameter, "clip_grad_norm"); });
  double norm = std::sqrt(sum);
  if (norm <= max_norm) return norm;
  for_each_grad(parameters, [&](Parameter& parameter) {
    detail::update_elementwise([=]<class A>(A g) { g *= static_cast<typename A::Scalar>(max_norm / norm); },
                               parameter.grad());
  });
  return norm;
}

void clip_grad_value(const std::vector<Parameter*>& parameters, double max) {
  if (!(max > 0)) fail("clip_grad_value: max is {}; it must be above 0", max);
  for_each_grad(parameters, [&](Parameter& parameter) { checked_sum_of_squares(parameter, "clip_grad_value"); });
  for_each_grad(parameters, [&](Parameter& parameter) {
    detail::update_elementwise(
        [=]<class A>(A g) {
          using T = typename A::Scalar;
          g = g.max(static_cast<T>(-max)).min(static_cast<T>(max));
        },
        parameter.grad());
  });
}

}  // namespace unroll
