#pragma once

#include <autograd/parallel.h>
#include <autograd/tensor.h>

namespace unroll::detail {

/// Calls `f(x...)` with pieces of the tensors as Eigen arrays of their type: an update in the paper's symbols
/// becomes one pass over memory, in parallel. The tensors agree in shape and type. How they are cut into
/// pieces follows from their size alone.
template <class F, class... Tensors>
void update_elementwise(F&& f, Tensor& first, Tensors&... rest) {
  with_type(first.dtype(), [&]<class T>(T) {
    constexpr Index each = parallel_grain;
    Index count = first.size();
    for_each_block((count + each - 1) / each, [&](Index piece) {
      Index begin = piece * each, size = std::min(each, count - begin);
      auto part = [&](auto& tensor) {
        return Eigen::Map<Eigen::Array<T, Eigen::Dynamic, 1>>(tensor.template data<T>() + begin, size);
      };
      f(part(first), part(rest)...);
    });
  });
}

}  // namespace unroll::detail
