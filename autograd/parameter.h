#pragma once

#include <autograd/tensor.h>

#include <span>
#include <string>
#include <vector>

namespace unroll {

/// A tensor that is learned: a name, a value and its gradient. It lives outside any tape and is used
/// directly in expressions: `matmul(x, W) + b`. Where layers and optimizers meet.
///
/// It stays where it was made (it can be neither copied nor moved), so tapes, modules and optimizers may
/// point to it; it must outlive them.
class Parameter {
 public:
  /// Throws Error when the shape does not fit in memory.
  explicit Parameter(const Shape& shape, DType dtype = float32) : value_(shape, dtype) {}
  Parameter(std::string name, Tensor value) : name_(std::move(name)), value_(std::move(value)) {}
  Parameter(const Parameter&) = delete;
  Parameter& operator=(const Parameter&) = delete;

  /// The name in messages, files and tables, such as "lstm.weight_hh_l0"; given by its module.
  const std::string& name() const { return name_; }
  void set_name(std::string name) { name_ = std::move(name); }

  const Shape& shape() const { return value_.shape(); }
  DType dtype() const { return value_.dtype(); }
  Index size() const { return value_.size(); }
  /// To be changed in place, for a tape that has used it knows its memory. Ask for it anew after the last use on a
  /// tape: a tape may keep a copy, and sees by `version` that it is out of date.
  Tensor& value() {
    ++version_;
    return value_;
  }
  const Tensor& value() const { return value_; }
  std::uint64_t version() const { return version_; }

  /// The sum of the gradients of the backward calls since the last optimizer step (or `zero_grad`). An
  /// optimizer's step uses it up: it can still be read, and the next backward starts it anew.
  Tensor& grad() { return allocated_grad(); }
  const Tensor& grad() const { return const_cast<Parameter*>(this)->allocated_grad(); }
  /// True when a backward has reached the parameter since the last step.
  bool has_grad() const { return has_grad_; }
  void zero_grad();
  /// For optimizers: the gradient has been used; the next backward starts anew.
  void use_up_grad() { has_grad_ = false; }

  /// A frozen parameter takes part in the forward pass only: no gradient is computed for it.
  bool trainable() const { return trainable_; }
  void set_trainable(bool trainable) { trainable_ = trainable; }

  /// A sparse parameter is a table [rows, ...] of which a step uses few rows, such as an embedding's. Its gradient is
  /// still a tensor of its shape, but only the rows that a backward has reached are cleared, clipped and stepped: an
  /// optimizer leaves the averages and the weight decay of the others as they are until their turn comes ("lazy", as in
  /// PyTorch's SparseAdam). Only lookups along the first axis (`embedding`, `index_select`) know their rows; any
  /// other use makes the step one over all of them.
  void set_sparse(bool sparse);
  bool sparse() const { return sparse_; }
  /// The rows that the gradients since the last step have reached, each once, where they are all that can differ from
  /// zero; null when the whole gradient counts.
  const std::vector<Index>* grad_rows() const { return sparse_ && !whole_ ? &rows_ : nullptr; }

  /// Converts value and gradient to another type. Not while a tape that has used it is still to be swept.
  void to(DType dtype);

  /// For the tape: memory for the gradient, and whether what is in it counts.
  Tensor& claim_grad(bool& fresh);
  /// The same of a sparse parameter, for a sum into the given rows (but `without`) alone: what is there is valid.
  Tensor& claim_grad_rows(std::span<const std::int32_t> rows, Index without);

 private:
  Tensor& allocated_grad();
  void clear_rows();

  std::string name_;
  Tensor value_;
  Tensor grad_;
  std::uint64_t version_ = 0;
  bool has_grad_ = false;
  bool trainable_ = true;
  bool sparse_ = false;
  // Of a sparse parameter: the gradient is zero outside rows_, unless it is whole_.
  bool whole_ = true;
  std::vector<Index> rows_;
  std::vector<bool> in_rows_;
};

}  // namespace unroll
