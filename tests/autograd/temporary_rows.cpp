// Stands in for test_elementwise.cpp until that is there; to be deleted then.

#include <tests/autograd/operations.h>

namespace unroll::testing {

std::vector<std::string> elementwise_names() {
  return {"add",   "subtract", "multiply",   "divide", "fma",   "comparisons", "where",   "maximum",  "minimum",
          "clamp", "exp",      "expm1",      "log",    "log1p", "sqrt",        "rsqrt",   "square",   "abs",
          "sign",  "pow",      "floor",      "ceil",   "round", "sin",         "cos",     "tan",      "asin",
          "acos",  "atan",     "sinh",       "cosh",   "tanh",  "erf",         "sigmoid", "softplus", "log_sigmoid",
          "relu",  "softsign", "leaky_relu", "elu",    "selu",  "celu",        "silu",    "gelu",     "gelu_tanh"};
}

}  // namespace unroll::testing
