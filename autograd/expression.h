#pragma once

// Element-wise expressions. Operators on Vars, Parameters, Tensors and numbers build a value that only
// describes the computation; becoming a Var records it, whatever its length, as one node whose forward and
// backward are one pass over memory each (statement.h). How an operation is added: elementwise.h.

#include <autograd/statement.h>
#include <autograd/var.h>

#include <concepts>
#include <tuple>

namespace unroll {

template <class T>
concept Number = std::is_arithmetic_v<T>;

namespace detail {

/// The operands an expression can end in. Each says what it is in a kernel and how it gets onto the tape.
struct VarLeaf {
  using Kernel = Input;
  Var var;
  Graph* graph() const { return var.graph(); }
  void collect(Graph& graph, NodeId*& ids, double*&, Source where) const {
    *ids++ = graph.check(var, "element-wise expression", where);
  }
};

struct ParameterLeaf {
  using Kernel = Input;
  Parameter* parameter;
  Graph* graph() const { return nullptr; }
  void collect(Graph& graph, NodeId*& ids, double*&, Source where) const { *ids++ = graph.bind(*parameter, where); }
};

/// A Tensor in an expression is a constant. Its elements are copied when the statement is recorded, so it
/// has to live only that long.
struct TensorLeaf {
  using Kernel = Input;
  const Tensor* tensor;
  Graph* graph() const { return nullptr; }
  void collect(Graph& graph, NodeId*& ids, double*&, Source where) const {
    *ids++ = graph.add_leaf(*tensor, false, where);
  }
};

struct NumberLeaf {
  using Kernel = Constant;
  double value;
  Graph* graph() const { return nullptr; }
  void collect(Graph&, NodeId*&, double*& numbers, Source) const { *numbers++ = value; }
};

}  // namespace detail

/// An operation applied to operands: a description, not yet computed. It holds handles, pointers to
/// Parameters and Tensors, and numbers; kept in an `auto`, it is computed anew wherever it is used.
template <class Op, class... Args>
struct Expression {
  using RecordsAsVar = void;
  using Kernel = detail::Apply<Op, typename Args::Kernel...>;
  std::tuple<Args...> args;

  detail::Graph* graph() const {
    return std::apply(
        [](const auto&... arg) {
          detail::Graph* found = nullptr;
          ((found = found != nullptr ? found : arg.graph()), ...);
          return found;
        },
        args);
  }
  void collect(detail::Graph& graph, detail::NodeId*& ids, double*& numbers, Source where) const {
    std::apply([&](const auto&... arg) { (arg.collect(graph, ids, numbers, where), ...); }, args);
  }
};

namespace detail {

template <class T>
inline constexpr bool is_expression = false;
template <class Op, class... Args>
inline constexpr bool is_expression<Expression<Op, Args...>> = true;

/// Things that are not expressions but become Vars when they are used in one, such as a matrix product.
template <class T>
concept BecomesVar = requires { typename T::RecordsAsVar; } && !is_expression<T>;

/// Sums of matrix products, which add up in one buffer instead (matmul.h).
template <class T>
inline constexpr bool is_affine = false;

template <class T>
concept Operand = std::same_as<T, Var> || std::derived_from<T, Parameter> || std::same_as<T, Tensor> ||
                  is_expression<T> || BecomesVar<T>;

inline VarLeaf leaf(const Var& var) { return {var}; }
inline ParameterLeaf leaf(const Parameter& parameter) { return {const_cast<Parameter*>(&parameter)}; }
inline TensorLeaf leaf(const Tensor& tensor) { return {&tensor}; }
inline NumberLeaf leaf(Number auto number) { return {static_cast<double>(number)}; }
template <class Op, class... Args>
const Expression<Op, Args...>& leaf(const Expression<Op, Args...>& expression) {
  return expression;
}
template <BecomesVar T>
VarLeaf leaf(const T& value) {
  return {Var(value)};
}
template <class T>
using LeafOf = std::remove_cvref_t<decltype(leaf(std::declval<const T&>()))>;

}  // namespace detail

namespace detail {
template <class T>
concept Addend = is_affine<T> || std::same_as<T, Var> || std::derived_from<T, Parameter> || is_expression<T>;
template <class A, class B>
concept AffineSum = Addend<A> && Addend<B> && (is_affine<A> || is_affine<B>);
}  // namespace detail

/// What an element-wise function takes: at least one Var, Parameter, Tensor or expression among numbers.
template <class... T>
concept Operands = (detail::Operand<T> || ...) && ((detail::Operand<T> || Number<T>)&&...);

/// Applies an element-wise operation (a struct with `value` and `derivative`; see elementwise.h).
template <class Op, class... Args>
  requires Operands<Args...>
Expression<Op, detail::LeafOf<Args>...> apply(const Args&... args) {
  return {{detail::leaf(args)...}};
}

namespace detail {

template <class Kernel, class E>
NodeId record_expression(const E& expression, Graph*& graph, Source where) {
  std::array<NodeId, Kernel::inputs> ids;
  std::array<double, Kernel::constants + 1> numbers{};
  graph = expression.graph();
  if (graph == nullptr)
    fail_at(where, "element-wise expression: it holds no Var, so no tape; start from tape.use(parameter)");
  NodeId* id = ids.data();
  double* number = numbers.data();
  expression.collect(*graph, id, number, where);
  return record_statement(*graph, statement<Kernel>, ids.data(), numbers.data(), where);
}

}  // namespace detail

template <class E>
  requires requires { typename E::RecordsAsVar; }
Var::Var(const E& expression, Source where) {
  if constexpr (detail::is_expression<E>) {
    detail::Graph* graph = nullptr;
    detail::NodeId id = detail::record_expression<typename E::Kernel>(expression, graph, where);
    *this = graph->var(id);
  } else {
    *this = expression.record(where);
  }
}

/// What an operation takes: a Var, a Parameter, or an expression (which becomes a Var).
class Argument {
 public:
  Argument(const Var& var) : var_(var) {}                                                   // NOLINT
  Argument(const Parameter& parameter) : parameter_(const_cast<Parameter*>(&parameter)) {}  // NOLINT
  template <class E>
    requires requires { typename E::RecordsAsVar; }
  Argument(const E& expression, Source where = Source::here()) : var_(expression, where) {}  // NOLINT

  /// Null when it is a Parameter: the tape then comes from the argument beside it.
  detail::Graph* graph() const { return var_.graph(); }
  detail::NodeId bind(detail::Graph& graph, const char* function, Source where) const {
    return parameter_ != nullptr ? graph.bind(*parameter_, where) : graph.check(var_, function, where);
  }

 private:
  Var var_;
  Parameter* parameter_ = nullptr;
};

}  // namespace unroll
