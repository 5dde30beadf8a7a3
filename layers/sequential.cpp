#include <layers/sequential.h>

namespace unroll {

Var Sequential::operator()(const Var& x, Source where) {
  Var y = x;
  for (const Function& part : parts_) y = part(y, where);
  return y;
}

}  // namespace unroll
