#include <optim/clip.h>

#include <optim/elementwise_update.h>

#include <algorithm>
#include <cmath>

namespace unroll {

namespace {

/// Calls `f(parameter)` for those whose gradient counts, each once.
template <class F>
void for_each_grad(const std::vector<Parameter*>& parameters, F&& f) {
  for (auto p = parameters.begin(); p != parameters.end(); ++p)
    if ((*p)->has_grad() && (*p)->trainable() && std::find(parameters.begin(), p, *p) == p) f(**p);
}

template <class F>
double reduce_grad(Parameter& parameter, F&& f) {
  Tensor& grad = parameter.grad();
  if (grad.empty()) return 0;
  return with_type(grad.dtype(), [&]<class T>(T) {
    return static_cast<double>(f(Eigen::Map<const Eigen::Array<T, Eigen::Dynamic, 1>>(grad.data<T>(), grad.size())));
  });
}

/// The largest magnitude. Throws when a gradient is not finite.
double largest_grad(const std::vector<Parameter*>& parameters, const char* function) {
  double largest = 0;
  for_each_grad(parameters, [&](Parameter& parameter) {
    if (reduce_grad(parameter, [](auto g) { return g.allFinite() ? 1 : 0; }) == 0 && parameter.size() > 0)
      fail("{}: the gradient of \"{}\" {} is not finite; lower the learning rate, or look for a division by zero",
           function, parameter.name(), parameter.shape());
    largest = std::max(largest, reduce_grad(parameter, [](auto g) { return g.abs().maxCoeff(); }));
  });
  return largest;
}

/// sqrt(sum of (g / scale)^2) * scale, in double.
double norm_of_grads(const std::vector<Parameter*>& parameters, double scale) {
  double sum = 0;
  for_each_grad(parameters, [&](Parameter& parameter) {
    sum += reduce_grad(parameter, [&](auto g) { return (g.template cast<double>() / scale).square().sum(); });
  });
  return std::sqrt(sum) * scale;
}

}  // namespace

double clip_grad_norm(const std::vector<Parameter*>& parameters, double max_norm) {
  if (!(max_norm > 0)) fail("clip_grad_norm: max_norm is {}; it must be above 0", max_norm);
  double norm = norm_of_grads(parameters, 1);
  if (!(norm > 1e-140 && std::isfinite(norm))) {  // a square may have left the range of double
    double largest = largest_grad(parameters, "clip_grad_norm");
    norm = largest == 0 ? 0 : norm_of_grads(parameters, std::exp2(std::ilogb(largest)));
  }
  if (norm <= max_norm) return norm;
  for_each_grad(parameters, [&](Parameter& parameter) {
    detail::update_elementwise([=]<class A>(A g) { g *= static_cast<typename A::Scalar>(max_norm / norm); },
                               parameter.grad());
  });
  return norm;
}

void clip_grad_value(const std::vector<Parameter*>& parameters, double max) {
  if (!(max > 0)) fail("clip_grad_value: max is {}; it must be above 0", max);
  if (largest_grad(parameters, "clip_grad_value") <= max) return;
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
