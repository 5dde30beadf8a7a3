#include <layers/check_input.h>

namespace unroll::detail {

void check_input(const char* layer, const Var& x, Index size, const Parameter& parameter, Source where) {
  if (!x) fail_at(where, "{}: an empty Var; assign a value to it first", layer);
  if (x.rank() == 0 || x.shape().columns() != size)
    fail_at(where, "{}: x is {} and the weight {}; x's last axis must be {}", layer, x.shape(), parameter.shape(),
            size);
  if (x.dtype() != parameter.dtype() && !x.graph()->dual())  // in a jvp, values are of another type than weights
    fail_at(where, "{}: x is {} and the weight {}; convert one of them, the layer by to({})", layer, x.dtype(),
            parameter.dtype(), x.dtype());
}

}  // namespace unroll::detail
