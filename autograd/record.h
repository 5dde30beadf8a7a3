#pragma once

// How an operation that is not element-wise is made: `record` with a forward and a backward. The library's
// own operations (reduce.cpp, loss.cpp, embedding.cpp) use the same call as a user's.
//
//     /// y = x with its gradient reversed: dL/dx = -dL/dy (Ganin et al. 2016, gradient reversal).
//     Var reverse_gradient(const Var& x, Source where = Source::here()) {
//       return record("reverse_gradient", {x}, x.shape(),
//                     [](auto y, auto x) { y = x; },
//                     [](auto& d) { d.add(0, -d.dy()); }, where);
//     }

#include <autograd/expression.h>

namespace unroll {

/// What a backward sees: the values, dL/dy, and where dL/dx goes. All as row-major matrices: the last axis
/// is the columns, the others together the rows.
template <class T>
class Derivative {
 public:
  Derivative(detail::Graph& graph, detail::NodeId id) : graph_(graph), id_(id) {}

  ConstMatrixMap<T> y() const { return graph_.view(id_).matrix<T>(); }
  ConstMatrixMap<T> dy() const { return map<const T>(id_, graph_.node(id_).grad); }
  ConstMatrixMap<T> x(int k) const { return graph_.view(input(k)).template matrix<T>(); }
  /// False when nobody wants the gradient of input k: its work can be left out.
  bool needs(int k) const { return graph_.node(input(k)).needs_grad; }
  /// dL/dx_k += contribution, where it is wanted. An adjoint always accumulates.
  template <class E>
  void add(int k, const Eigen::DenseBase<E>& contribution) {
    if (!needs(k)) return;
    detail::GradTarget target = graph_.target(input(k));
    auto dx = map<T>(input(k), target.data);
    if (target.fresh)
      dx = contribution.derived();
    else
      dx += contribution.derived();
  }
  /// dL/dx_k itself, to be added to in place.
  MatrixMap<T> dx(int k) { return map<T>(input(k), graph_.accumulator(input(k))); }

  detail::Graph& graph() const { return graph_; }
  detail::NodeId input(int k) const { return graph_.node(id_).inputs[k]; }

 private:
  template <class U>
  auto map(detail::NodeId id, std::byte* data) const {
    const Layout& layout = *graph_.node(id).layout;
    using Map = std::conditional_t<std::is_const_v<U>, ConstMatrixMap<T>, MatrixMap<T>>;
    return Map(reinterpret_cast<T*>(data), layout.shape.rows(), layout.shape.columns(),
               Eigen::OuterStride<>(layout.row_stride()));
  }

  detail::Graph& graph_;
  detail::NodeId id_;
};

/// The types of elements that an operation's forward and backward are compiled for.
struct Reals {};  ///< float32 and float64
struct Duals {};  ///< these, and the pairs of value and tangent that second derivatives are computed with (dual.h)

namespace detail {

template <class Scalars, class F>
void with_scalar_of(DType type, F&& f) {
  if constexpr (std::is_same_v<Scalars, Duals>)
    with_scalar(type, f);
  else
    with_type(type, f);
}

template <class Scalars, class Backward>
void run_backward(Graph& graph, NodeId id) {
  with_scalar_of<Scalars>(graph.node(id).dtype, [&]<class T>(T) {
    Derivative<T> derivative(graph, id);
    graph.payload<Backward>(id)(derivative);
  });
}

NodeId start_record(const Operation& operation, std::span<const Argument> arguments, const Shape& shape, Graph*& graph,
                    NodeId* inputs, Source where);
[[noreturn]] void fail_without_duals(const char* name, Source where);

}  // namespace detail

/// Records y = forward(x...) of the given shape on the tape of its inputs.
///
/// `forward(y, x...)` fills y; `backward(d)` adds to the gradients (see Derivative). Both are called with
/// matrices of the inputs' type, so they are written with `auto`. What they capture is copied onto the tape
/// and dropped without a destructor: plain values only, with memory from `Graph::array` where they must keep
/// more. `record<Duals>` has second derivatives too, without another line, if both also compile for Dual: with
/// `using std::exp;` before `exp(x)`, and sums accumulated in `Wide<T>`. Throws Error when the inputs disagree in type
/// or tape, and on the tape of a jvp or hvp without Duals.
template <class Scalars = Reals, class Forward, class Backward, std::size_t N>
Var record(const char* name, const Argument (&inputs)[N], const Shape& shape, Forward&& forward, Backward backward,
           Source where = Source::here()) {
  static const detail::Operation operation{name, detail::run_backward<Scalars, Backward>};
  detail::Graph* graph = nullptr;
  detail::NodeId ids[N];
  detail::NodeId id = detail::start_record(operation, inputs, shape, graph, ids, where);
  if (std::is_same_v<Scalars, Reals> && graph->node(id).dtype == DType::dual) detail::fail_without_duals(name, where);
  graph->keep(id, backward);
  detail::with_scalar_of<Scalars>(graph->node(id).dtype, [&]<class T>(T) {
    MatrixMap<T> y(graph->value<T>(id), shape.rows(), shape.columns(), Eigen::OuterStride<>(shape.columns()));
    [&]<std::size_t... K>(std::index_sequence<K...>) {
      forward(y, graph->view(ids[K]).template matrix<T>()...);
    }(std::make_index_sequence<N>{});
  });
  graph->computed(id, ids);
  return graph->var(id);
}

}  // namespace unroll
