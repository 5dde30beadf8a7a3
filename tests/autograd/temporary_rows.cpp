// Stands in for test_elementwise.cpp until that is there; to be deleted then.

#include <tests/autograd/operations.h>

namespace unroll::testing {

std::vector<std::string> elementwise_names() {
  return {"add", "subtract", "multiply", "divide", "negate", "exp", "log", "sqrt", "square", "tanh", "sigmoid", "relu"};
}

}  // namespace unroll::testing
