#pragma once

// The rows of the element-wise operations, and the checks that every row goes through (made in test_elementwise.cpp).

#include <autograd/autograd.h>
#include <tests/support.h>

#include <functional>
#include <string>
#include <vector>

namespace unroll::testing {

/// An element-wise operation: on Vars, and on one element by the C library.
struct Elementwise {
  using Inputs = std::vector<Var>;
  std::string name;
  int operands;
  std::function<Var(const Inputs&)> on_vars;
  std::function<double(double, double)> on_numbers;
  double low = -2, high = 2;  ///< where the operands are drawn from
  double accuracy = 5e-7;     ///< the relative error in float32
  double least = 1e-30;       ///< values below count like this one
};

/// The names of the rows of each file, from which `elementwise_names` is made.
std::vector<std::string> arithmetic_names();  // test_elementwise.cpp
std::vector<std::string> elementary_names();  // test_elementary.cpp
std::vector<std::string> activation_names();  // test_activations.cpp
inline std::vector<std::string> names_of(const std::vector<Elementwise>& rows) {
  std::vector<std::string> names;
  for (const Elementwise& row : rows) names.push_back(row.name);
  return names;
}

/// Values in both types with every broadcast, and accurate over a fine grid.
void check_values(const std::vector<Elementwise>& rows);
/// Derivatives against finite differences: broadcast, with operands that are used twice, views, or need none.
void check_derivatives(const std::vector<Elementwise>& rows);
/// Forward derivatives along a direction, and second derivatives.
void check_second_derivatives(const std::vector<Elementwise>& rows);

/// y and dy/dx of a function of one Var at one place.
struct Point {
  double y, dx;
};
template <class F>
Point at(F&& f, double x, DType type = float64) {
  Tape tape;
  Var v = tape.variable(Tensor({1}, {x}, type));
  Var y = f(v);
  if (!y.needs_grad()) return {y.item(), 0};
  tape.backward(y);
  return {y.item(), v.grad().item()};
}

}  // namespace unroll::testing
