#include <autograd/check_gradient.h>

#include <autograd/random.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace unroll {

namespace {

std::string place(Index element, const Shape& shape) {
  std::string text;
  for (int axis = shape.rank() - 1; axis >= 0; --axis) {
    text = fmt::format("{}{}{}", element % shape[axis], text.empty() ? "" : ", ", text);
    element /= shape[axis];
  }
  return "[" + text + "]";
}

/// The tensors that f depends on, and the weighted sum of what it gives.
class Checked {
 public:
  Checked(const Function& f, std::vector<Tensor>& inputs, const std::vector<Parameter*>& parameters,
          const GradientCheckOptions& options)
      : f_(f), inputs_(inputs), parameters_(parameters), options_(options), inference_(Tape::inference()) {}

  std::size_t size() const { return inputs_.size() + parameters_.size(); }
  const Shape& shape(std::size_t k) { return tensor(k).shape(); }
  std::string name(std::size_t k) const {
    if (k < inputs_.size()) return fmt::format("input {}", k);
    const Parameter& parameter = *parameters_[k - inputs_.size()];
    return parameter.name().empty() ? fmt::format("parameter {}", k - inputs_.size()) : parameter.name();
  }

  std::vector<Tensor> gradients(Source where) {
    Tape tape;
    std::vector<Var> x = on(tape);
    Var y = f_(tape, x);
    for (Parameter* parameter : parameters_) x.push_back(tape.use(*parameter));
    weights_ = Tensor(y.shape(), float64);
    if (y.shape().count() == 1)
      weights_.fill(1);
    else
      Generator(options_.seed, 1).fill_uniform(weights_, 0.5, 1.5);
    if (y.dtype() != float64)
      fail_at(where, "check_gradient: the function's value is float32; convert its parameters: module.to(float64)");
    return tape.gradients(y, weights_, x, where);
  }

  double value() {
    inference_.clear();
    Tensor y(f_(inference_, on(inference_)).value());
    double sum = 0;
    magnitude_ = 0;
    for (Index i = 0; i < y.size(); ++i) {
      const double term = y.data<double>()[i] * weights_.data<double>()[i];
      sum += term;
      magnitude_ += std::abs(term);
    }
    return sum;
  }
  /// What rounding alone may make of a slope.
  double noise() const {
    return 8 * std::numeric_limits<double>::epsilon() * std::max(1.0, magnitude_) / options_.step;
  }

  /// The slope of the value along `direction` (of elements `begin` to `end` of tensor k), by central differences;
  /// and on either side alone.
  struct Slopes {
    double central, left, right;
  };
  Slopes slopes(std::size_t k, Index begin, Index end, const double* direction, double step) {
    double* x = tensor(k).data<double>();
    std::vector<double> before(x + begin, x + end);
    auto at = [&](double distance) {
      for (Index i = begin; i < end; ++i) x[i] = before[static_cast<std::size_t>(i - begin)] + distance * direction[i];
      double y = value();
      std::ranges::copy(before, x + begin);
      return y;
    };
    const double above = at(step), here = at(0), below = at(-step);
    return {(above - below) / (2 * step), (here - below) / step, (above - here) / step};
  }
  /// Steps are exact in binary, so that x + step - x is the step.
  double step(std::size_t k, Index element) {
    double size = std::max(1.0, std::abs(tensor(k).data<double>()[element]));
    return std::exp2(std::round(std::log2(options_.step * size)));
  }

 private:
  Tensor& tensor(std::size_t k) { return k < inputs_.size() ? inputs_[k] : parameters_[k - inputs_.size()]->value(); }
  std::vector<Var> on(Tape& tape) const {
    std::vector<Var> x;
    for (const Tensor& input : inputs_) x.push_back(tape.variable(input));
    return x;
  }

  const Function& f_;
  std::vector<Tensor>& inputs_;
  const std::vector<Parameter*>& parameters_;
  const GradientCheckOptions& options_;
  Tape inference_;
  Tensor weights_;
  double magnitude_ = 0;
};

/// Compares one gradient, and keeps the worst of all.
class Comparison {
 public:
  Comparison(Checked& checked, const GradientCheckOptions& options, GradientCheck& result)
      : checked_(checked), options_(options), result_(result) {}

  void all_elements(std::size_t k, const Tensor& gradient) {
    const double* g = gradient.data<double>();
    const auto n = static_cast<std::size_t>(gradient.size());
    const std::vector<double> ones(n, 1.0);
    std::vector<double> differences(n);
    for (Index i = 0; i < gradient.size(); ++i)
      differences[static_cast<std::size_t>(i)] = checked_.slopes(k, i, i + 1, ones.data(), checked_.step(k, i)).central;
    double size = 0;
    for (std::size_t i = 0; i < n; ++i) size = std::max({size, std::abs(g[i]), std::abs(differences[i])});
    for (std::size_t i = 0; i < n; ++i) {
      auto element = static_cast<Index>(i);
      if (!agree(g[i], differences[i], size)) look_closer(k, element, g[i], differences[i], size);
      keep_worst(k, element, gradient.shape(), g[i], differences[i], size);
    }
  }

  /// Along random directions of +-1; where one disagrees, the halves of it are tried until an element is found.
  void random_directions(std::size_t k, const Tensor& gradient) {
    const double* g = gradient.data<double>();
    Generator random(options_.seed, 2 + k);
    std::vector<double> direction(static_cast<std::size_t>(gradient.size()));
    double size = 0;
    for (Index i = 0; i < gradient.size(); ++i) size = std::max(size, std::abs(g[i]));
    for (int n = 0; n < options_.directions; ++n) {
      for (double& d : direction) d = random.below(2) == 0 ? -1 : 1;
      Index begin = 0, end = gradient.size();
      Slope slope = along(k, begin, end, direction, g);
      const double whole_size = std::max({size, std::abs(slope.by_backward), std::abs(slope.by_differences)});
      if (agree(slope.by_backward, slope.by_differences, whole_size)) {
        result_.error = std::max(result_.error, error_of(slope.by_backward, slope.by_differences, whole_size));
        continue;
      }
      while (end - begin > 1) {
        Index middle = begin + (end - begin) / 2;
        Slope lower = along(k, begin, middle, direction, g), upper = along(k, middle, end, direction, g);
        (lower.difference() >= upper.difference() ? end : begin) = middle;
      }
      slope = along(k, begin, end, direction, g);
      const double sign = direction[static_cast<std::size_t>(begin)];
      double difference = sign * slope.by_differences;
      double element_size = std::max({size, std::abs(g[begin]), std::abs(difference)});
      look_closer(k, begin, g[begin], difference, element_size);
      keep_worst(k, begin, gradient.shape(), g[begin], difference, element_size);
    }
  }

 private:
  struct Slope {
    double by_backward, by_differences;
    double difference() const {
      double d = std::abs(by_backward - by_differences);
      return std::isfinite(d) ? d : std::numeric_limits<double>::infinity();
    }
  };
  Slope along(std::size_t k, Index begin, Index end, const std::vector<double>& direction, const double* g) {
    double by_backward = 0;
    for (Index i = begin; i < end; ++i) by_backward += g[i] * direction[static_cast<std::size_t>(i)];
    return {by_backward, checked_.slopes(k, begin, end, direction.data(), options_.step).central};
  }

  double error_of(double gradient, double difference, double size) const {
    const double apart = std::abs(gradient - difference);
    if (gradient == difference || apart <= checked_.noise()) return 0;
    return std::isnan(apart) ? std::numeric_limits<double>::infinity() : apart / size;
  }
  bool agree(double gradient, double difference, double size) const {
    return error_of(gradient, difference, size) <= options_.tolerance;
  }

  /// With smaller steps a kink nearby no longer matters. At a kink the slopes on either side stay apart however small
  /// the step, and every gradient between them is right; `difference` becomes the gradient then.
  void look_closer(std::size_t k, Index element, double gradient, double& difference, double size) {
    const std::vector<double> one(static_cast<std::size_t>(element) + 1, 1.0);
    double step = checked_.step(k, element), apart = 0;
    for (int i = 0; i < 3; ++i, step /= 16) {
      Checked::Slopes s = checked_.slopes(k, element, element + 1, one.data(), step);
      if (agree(gradient, s.central, size)) {
        difference = s.central;
        return;
      }
      double now = std::abs(s.right - s.left);
      bool kink = i > 0 && now > 0.5 * apart && now > 10 * options_.tolerance * size;
      auto [low, high] = std::minmax(s.left, s.right);
      double slack = options_.tolerance * size;
      if (kink && gradient >= low - slack && gradient <= high + slack) {
        difference = gradient;
        ++result_.kinks;
        return;
      }
      apart = now;
    }
  }

  void keep_worst(std::size_t k, Index element, const Shape& shape, double gradient, double difference, double size) {
    const double error = error_of(gradient, difference, size);
    if (error < result_.error || (error == 0 && !result_.worst.empty())) return;
    result_.error = error;
    result_.worst = fmt::format("{} of shape {}, element {}: {:.9g} by backward, {:.9g} by differences",
                                checked_.name(k), shape, place(element, shape), gradient, difference);
  }

  Checked& checked_;
  const GradientCheckOptions& options_;
  GradientCheck& result_;
};

}  // namespace

GradientCheck check_gradient(const Function& f, std::vector<Tensor> inputs, const std::vector<Parameter*>& parameters,
                             const GradientCheckOptions& options, Source where) {
  for (Tensor& input : inputs) input = input.to(float64);
  for (const Parameter* parameter : parameters)
    if (parameter->dtype() != float64)
      fail_at(where, "check_gradient: parameter '{}' is float32; convert the module: module.to(float64)",
              parameter->name());
  Checked checked(f, inputs, parameters, options);
  std::vector<Tensor> gradients = checked.gradients(where);
  const double first = checked.value(), second = checked.value();
  if (first != second && !(std::isnan(first) && std::isnan(second)))
    fail_at(where, "check_gradient: the function gave {} and then {} at one point; it must not draw random numbers",
            first, second);
  GradientCheck result;
  Comparison comparison(checked, options, result);
  for (std::size_t k = 0; k < gradients.size(); ++k) {
    if (gradients[k].size() <= options.all_up_to)
      comparison.all_elements(k, gradients[k]);
    else
      comparison.random_directions(k, gradients[k]);
  }
  result.ok = result.error <= options.tolerance;
  return result;
}

}  // namespace unroll
