#pragma once

#include <autograd/derivatives.h>

#include <string>

namespace unroll {

struct GradientCheckOptions {
  double tolerance = 1e-6;  ///< of the relative error
  double step = 1e-5;       ///< of the central differences, times max(1, |x|)
  Index all_up_to = 4096;   ///< elements of an input that are checked one by one; of larger ones, random directions
  int directions = 8;       ///< how many of them
  std::uint64_t seed = 0;   ///< of the directions, and of the weights that make a scalar of y
};

/// What check_gradient found.
struct GradientCheck {
  double error = 0;   ///< max |backward - difference| / max |either|, over an input, and the largest over the inputs;
                      ///< differences that rounding alone makes count as none
  std::string worst;  ///< "input 1 of shape [2, 3], element [1, 0]: 0.25 by backward, 0.31 by differences"
  Index kinks =
      0;           ///< elements at a kink (relu at 0) or all but, whose gradient lies between the slopes on either side
  bool ok = true;  ///< error <= tolerance
  explicit operator bool() const { return ok; }
};

/// Compares the gradients that `backward` gives for f, in double precision, with central differences, for every input
/// and parameter. A y that is not a scalar is summed with random weights. Users run it on layers of their own:
///
///     layer.to(float64);
///     auto check = check_gradient([&](Tape&, const auto& x) { return layer(x[0]); }, {x}, layer.parameters());
///     if (!check) fmt::print("{}\n", check.worst);
///
/// Throws Error when a parameter is not float64, or when f gives two values at one point (random numbers).
GradientCheck check_gradient(const Function& f, std::vector<Tensor> inputs,
                             const std::vector<Parameter*>& parameters = {}, const GradientCheckOptions& options = {},
                             Source where = Source::here());

}  // namespace unroll
