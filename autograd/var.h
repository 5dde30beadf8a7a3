#pragma once

#include <autograd/graph.h>

namespace unroll {

/// A value on a tape: a small handle, copied freely, valid until its tape is cleared or rewound past it.
///
/// Any element-wise expression becomes a Var, and by that one node, when it is assigned to one:
/// `Var c = sigmoid(f) * c0 + sigmoid(i) * tanh(g);` (see expression.h).
class Var {
 public:
  /// A handle to nothing, to be assigned to later.
  Var() = default;
  /// Records the expression as one node. See expression.h.
  template <class E>
    requires requires { typename E::RecordsAsVar; }
  Var(const E& expression, Source where = Source::here());  // NOLINT(google-explicit-constructor)

  explicit operator bool() const { return graph_ != nullptr; }
  const Shape& shape() const { return node().layout->shape; }
  int rank() const { return shape().rank(); }
  /// The size of an axis; negative axes count from the last. Throws Error when out of range.
  Index size(int axis, Source where = Source::here()) const { return shape()[shape().axis(axis, "size", where)]; }
  DType dtype() const { return node().dtype == float32 ? float32 : float64; }
  bool needs_grad() const { return node().needs_grad; }

  /// The numbers, until the tape is cleared.
  TensorView value() const;
  /// The only element. Throws Error unless there is exactly one.
  double item() const { return value().item(); }
  /// dL/d(this) after `backward(L)`. Kept for leaves made by `Tape::variable`, and for others after
  /// `keep_grad`. Throws Error when there is none.
  TensorView grad(Source where = Source::here()) const;
  /// Asks the next backward to keep this value's gradient.
  Var keep_grad() const;

  /// The t-th slice along the first axis: a view, without it. Throws Error when out of range.
  Var operator[](Index t) const;

 private:
  friend class detail::Graph;
  Var(detail::Graph* graph, detail::NodeId id, std::uint32_t stamp) : graph_(graph), id_(id), stamp_(stamp) {}
  const detail::Node& node() const;

 public:
  /// For operations: where the value is recorded. Null for an empty handle.
  detail::Graph* graph() const { return graph_; }

 private:
  detail::Graph* graph_ = nullptr;
  detail::NodeId id_ = 0;
  std::uint32_t stamp_ = 0;
};

inline detail::NodeId detail::Graph::check(const Var& var, const char* function, Source where) const {
  if (var.graph_ != this || var.id_ >= nodes_.size() || nodes_[var.id_].stamp != var.stamp_) [[unlikely]]
    refuse(var, function, where);
  return var.id_;
}
inline Var detail::Graph::var(NodeId id) { return {this, id, nodes_[id].stamp}; }

}  // namespace unroll
