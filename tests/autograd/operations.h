#pragma once

// The table of operations. Every operation of the library has a row (a test fails when one has none), and every row
// goes through the same checks: see test_operations.cpp.

#include <tests/support.h>

#include <functional>
#include <string>
#include <vector>

namespace unroll::testing {

using Vars = std::vector<Var>;

struct OperationRow {
  /// The public function, and after a space what is special about this row: "sum keeping the axes".
  std::string name;
  /// Shapes of the operands, one list for each case: size-1 and empty axes among them where they make sense.
  std::vector<std::vector<Shape>> cases;
  std::function<Var(Tape&, const Vars&)> call;
  /// The value, by plain loops in double precision: written from the definition, not from the code.
  std::function<Tensor(const std::vector<Tensor>&)> reference;
  /// Operands are drawn uniformly from here.
  double low = -2, high = 2;
  /// False for those without a gradient (argmax, floor): only values are checked.
  bool differentiable = true;
  /// How far a value in float32 may be from the reference, relative to the largest element; a gradient ten times that.
  double float32_tolerance = 2e-5;
};

/// The rows of one family; each is defined beside the family's other tests.
std::vector<OperationRow> reduction_rows();       // test_reduce.cpp
std::vector<OperationRow> loss_rows();            // test_loss.cpp
std::vector<OperationRow> shape_rows();           // test_shape_ops.cpp
std::vector<OperationRow> linear_algebra_rows();  // test_linear_algebra.cpp

/// The names of the rows of the other table, that of element-wise operations: they have checks of their own.
std::vector<std::string> elementwise_names();  // test_elementwise.cpp

}  // namespace unroll::testing
