#pragma once

// What several tests need: random tensors, relative differences, checks of error texts.

#include <autograd/check_gradient.h>
#include <autograd/parameter.h>
#include <autograd/random.h>
#include <autograd/tape.h>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

namespace unroll::testing {

/// Uniform in [low, high), the same for a seed everywhere.
inline Tensor random_tensor(const Shape& shape, std::uint64_t seed, double low = -1, double high = 1,
                            DType dtype = float64) {
  Tensor tensor(shape, dtype);
  Generator(seed).fill_uniform(tensor, low, high);
  return tensor;
}

/// max |a - b| / max(|a|, |b|) over all elements: 0 for equal tensors, infinite for another shape or a NaN on one
/// side. Equal infinities are equal.
inline double relative_error(const TensorView& a, const TensorView& b) {
  constexpr double infinite = std::numeric_limits<double>::infinity();
  if (a.shape() != b.shape()) return infinite;
  std::vector<double> x = a.to_vector(), y = b.to_vector();
  double difference = 0, size = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    if (x[i] == y[i] && std::isinf(x[i])) continue;
    if (!std::isfinite(x[i]) || !std::isfinite(y[i])) return infinite;
    difference = std::max(difference, std::abs(x[i] - y[i]));
    size = std::max({size, std::abs(x[i]), std::abs(y[i])});
  }
  return difference == 0 ? 0 : difference / size;
}

/// True when shape, type and every bit agree.
inline bool same_bits(const TensorView& a, const TensorView& b) {
  if (a.shape() != b.shape() || a.dtype() != b.dtype()) return false;
  std::vector<double> x = a.to_vector(), y = b.to_vector();
  return std::equal(x.begin(), x.end(), y.begin(), [](double p, double q) {
    return (p == q && std::signbit(p) == std::signbit(q)) || (std::isnan(p) && std::isnan(q));
  });
}

/// The relative error of the gradient of fn: (Tape&, const std::vector<Var>&) -> Var against central differences.
template <class F>
double gradient_error(const F& fn, const std::vector<Tensor>& inputs, const std::vector<Parameter*>& parameters = {}) {
  return check_gradient(fn, inputs, parameters).error;
}

/// The text of the Error that f throws; empty when it throws none.
template <class F>
std::string error_of(F&& f) {
  try {
    f();
  } catch (const Error& error) {
    return error.what();
  }
  return {};
}

inline void check_error(const std::string& message, std::initializer_list<std::string_view> parts,
                        std::string_view expression, const char* file, int line) {
  auto failed = [&](const std::string& what) {
    ADD_FAIL_CHECK_AT(file, line, fmt::format("{}: {}; the message is: {}", expression, what, message));
  };
  CHECK(true);  // counts as an assertion
  if (message.empty()) return failed("threw no unroll::Error");
  if (message.find('\n') != std::string::npos) failed("more than one line");
  for (std::string_view part : parts)
    if (message.find(part) == std::string::npos) failed(fmt::format("does not say \"{}\"", part));
}

}  // namespace unroll::testing

/// Checks that the expression throws an Error of one line that contains every part.
#define CHECK_ERROR(expression, ...)                                                                               \
  unroll::testing::check_error(unroll::testing::error_of([&] { (void)(expression); }), {__VA_ARGS__}, #expression, \
                               __FILE__, __LINE__)

/// The same; the message must also end in this line of the test: "... (test_x.cpp:12)". To be written on one line.
#define CHECK_ERROR_HERE(expression, ...)                                                                        \
  unroll::testing::check_error(unroll::testing::error_of([&] { (void)(expression); }),                           \
                               {unroll::detail::short_location({__FILE__, __LINE__}), __VA_ARGS__}, #expression, \
                               __FILE__, __LINE__)
