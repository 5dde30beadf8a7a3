#include <autograd/parameter.h>

namespace unroll {

Tensor& Parameter::allocated_grad() {
  if (grad_.shape() != shape() || grad_.dtype() != dtype()) {
    grad_ = Tensor(shape(), dtype());
    has_grad_ = false;
  }
  return grad_;
}

void Parameter::zero_grad() {
  allocated_grad().fill(0);
  has_grad_ = false;
}

void Parameter::to(DType dtype) {
  ++version_;
  value_ = value_.to(dtype);
  grad_ = grad_.to(dtype);
}

Tensor& Parameter::claim_grad(bool& fresh) {
  Tensor& grad = allocated_grad();
  fresh = !has_grad_;
  has_grad_ = true;
  return grad;
}

}  // namespace unroll
