#pragma once

#include <autograd/var.h>
#include <autograd/watch.h>

#include <memory>
#include <string>
#include <vector>

namespace unroll {

/// Records what is computed and walks it backwards.
///
///     Tape tape;
///     Var x = tape.variable(Tensor({2}, {1, 2}));
///     Var y = sum(x * x);
///     tape.backward(y);
///     x.grad();                                        // [2, 4]
///
/// Values live in an arena that `clear` rewinds: after its first step a training loop makes no heap allocation.
/// Many tapes may live at once, also on different threads; one tape belongs to one thread at a time. A tape can be
/// moved; the Vars on it stay valid.
class Tape {
 public:
  Tape() : Tape(true) {}
  /// A tape for inference: computes the same values, records nothing that only a gradient would need.
  static Tape inference() { return Tape(false); }

  /// For derivatives.h: a tape that computes with pairs of value and tangent.
  static Tape dual(bool recording) { return Tape(recording, true); }

  /// A value that no gradient is wanted for: an input, a mask. The tensor is copied.
  Var constant(const TensorView& tensor, Source where = Source::here());
  /// A value whose gradient is kept: `x.grad()` after `backward`.
  Var variable(const TensorView& tensor, Source where = Source::here());
  Var zeros(const Shape& shape, DType dtype = float32, Source where = Source::here());
  /// The parameter as a value on this tape, for expressions that hold no Var yet.
  Var use(Parameter& parameter, Source where = Source::here());

  /// Adds dL/dp to the gradient of every parameter and variable that `loss` depends on, by one walk from
  /// the last node to the first. Throws Error unless `loss` is a single element of this tape.
  void backward(const Var& loss, Source where = Source::here());
  /// The vector-Jacobian product: the same for a `y` of any shape, given dL/dy of that shape.
  void backward(const Var& y, const TensorView& seed, Source where = Source::here());

  /// dL/dx for each x of a list (parameters by `use`), and nothing else: no parameter's or variable's own gradient
  /// changes, and only what leads to the list is swept. Zeros where the value does not depend on x. A view shares its
  /// gradient with the value it looks at. Throws Error like `backward`, and for an x that needs no gradient.
  std::vector<Tensor> gradients(const Var& loss, std::span<const Var> wrt, Source where = Source::here());
  std::vector<Tensor> gradients(const Var& y, const TensorView& seed, std::span<const Var> wrt,
                                Source where = Source::here());

  /// Forgets every value, keeps the memory. Vars of before are refused from then on.
  void clear();

  /// A place to come back to: `rewind_to` forgets what was recorded since. A stream of any length runs in
  /// constant memory so. Throws Error when the mark itself has been forgotten.
  using Mark = detail::Graph::Mark;
  Mark mark() const { return graph_->mark(); }
  void rewind_to(const Mark& mark, Source where = Source::here()) { graph_->rewind_to(mark, where); }

  /// The number of recorded values, and the bytes they use and the tape holds.
  std::size_t size() const { return graph_->size(); }
  std::size_t bytes_in_use() const { return graph_->bytes_in_use(); }
  std::size_t bytes_held() const { return graph_->bytes_held(); }
  bool recording() const { return graph_->recording(); }

  // --- What the tape says of itself, in the program's own lines ---------------------------------------------------
  /// From now on the first operation that makes a NaN or an infinity of finite operands throws Error, forward or in
  /// backward: its name, line and shapes, how many elements and the first of them, the ranges of its operands. Every
  /// value is read once more.
  void find_anomaly(bool on = true);
  /// Measures what every operation costs from now on, adding up over steps, until `stop_profile`.
  void start_profile();
  void stop_profile();
  /// What has been measured: `fmt::print("{}", tape.profile())` gives tables by operation and by line.
  Profile profile() const;
  /// A drawing of what is recorded, in Graphviz's language (`dot -Tsvg`): one box for a value, or with `fold` for all
  /// that one line recorded in one shape, so that the unrolled steps of a recurrent layer are one.
  std::string to_dot(bool fold = false) const;
  /// A table of what is recorded: operation, shape, line, how often, and the memory it takes.
  std::string summary() const;

  /// For operations.
  detail::Graph& graph() { return *graph_; }

 private:
  explicit Tape(bool recording, bool dual = false) : graph_(std::make_unique<detail::Graph>(recording, dual)) {}
  std::unique_ptr<detail::Graph> graph_;
};

}  // namespace unroll
