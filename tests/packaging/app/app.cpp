#include <autograd/tensor.h>

int main() {
  unroll::Tensor t({2, 2}, {1, 2, 3, 4});
  fmt::print("{}\n", t);
  return t.at({1, 1}) == 4 ? 0 : 1;
}
