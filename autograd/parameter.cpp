#include <autograd/parameter.h>

#include <cstring>

namespace unroll {

Tensor& Parameter::allocated_grad() {
  if (grad_.shape() != shape() || grad_.dtype() != dtype()) {
    grad_ = Tensor(shape(), dtype());
    has_grad_ = false;
    whole_ = true;
  }
  return grad_;
}

void Parameter::zero_grad() {
  allocated_grad().fill(0);
  has_grad_ = false;
  whole_ = true;
}

void Parameter::set_sparse(bool sparse) {
  if (sparse && shape().rank() == 0) fail("\"{}\" is a scalar; only a table of rows can be sparse", name_);
  sparse_ = sparse;
  whole_ = true;
}

void Parameter::to(DType dtype) {
  ++version_;
  value_ = value_.to(dtype);
  grad_ = grad_.to(dtype);
}

Tensor& Parameter::claim_grad(bool& fresh) {
  Tensor& grad = allocated_grad();
  const bool by_rows = grad_rows() != nullptr;
  if (by_rows && !has_grad_) clear_rows();
  fresh = !has_grad_ && !by_rows;  // where rows are known, all others are zero
  has_grad_ = true;
  whole_ = true;
  return grad;
}

Tensor& Parameter::claim_grad_rows(std::span<const std::int32_t> rows, Index without) {
  Tensor& grad = allocated_grad();
  if (!has_grad_) clear_rows();
  has_grad_ = true;
  if (whole_) return grad;
  for (const std::int32_t row : rows) {
    const auto at = static_cast<std::size_t>(row);
    if (row == without || in_rows_[at]) continue;
    in_rows_[at] = true;
    rows_.push_back(row);
  }
  return grad;
}

/// Makes the gradient of a sparse parameter zero, at the cost of the rows that were used.
void Parameter::clear_rows() {
  const auto rows = static_cast<std::size_t>(shape()[0]);
  if (whole_) {
    grad_.fill(0);
    rows_.clear();
    rows_.reserve(rows);
    in_rows_.assign(rows, false);
    whole_ = false;
  }
  const Index size = rows == 0 ? 0 : grad_.size() / shape()[0];
  const std::size_t bytes = static_cast<std::size_t>(size) * size_of(dtype());
  for (const Index row : rows_) {
    std::memset(static_cast<std::byte*>(grad_.raw()) + static_cast<std::size_t>(row) * bytes, 0, bytes);
    in_rows_[static_cast<std::size_t>(row)] = false;
  }
  rows_.clear();
}

}  // namespace unroll
