#pragma once

#include <autograd/expression.h>
#include <layers/module.h>

#include <concepts>
#include <functional>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace unroll {

namespace detail {

template <class F>
concept VarFunction = requires(F& f, const Var& x) {
  { f(x) } -> std::convertible_to<Var>;
};

/// A function that makes a module: `[&] { return Linear(3, 4, rng); }`.
template <class F>
concept ModuleFactory = std::invocable<F&> && std::derived_from<std::invoke_result_t<F&>, Module>;

template <class T>
inline constexpr bool is_owner = false;
template <class T>
inline constexpr bool is_owner<std::unique_ptr<T>> = std::derived_from<T, Module>;

}  // namespace detail

/// Parts that are called one after another, each with what the one before gave: y = f_n(... f_2(f_1(x))).
///
///     Sequential net([&] { return Linear(784, 100, rng); },            // made in place
///                    [](const Var& x) { return tanh(x); },             // any function of a Var
///                    std::make_unique<Dropout>(0.2, rng),              // or handed over
///                    head);                                            // a module of yours, by reference
///     Var logits = net(x);
///
/// Modules are registered under their positions, "0", "1", ..., as in PyTorch's `nn.Sequential`; functions count, so
/// that the names above are 0.weight, 0.bias, 3.weight and 3.bias. What is given by reference must outlive the
/// Sequential, and so must what a function captures by reference.
class Sequential : public Module {
 public:
  template <class... Parts>
    requires(sizeof...(Parts) > 0)
  explicit Sequential(Parts&&... parts) {
    (append(std::forward<Parts>(parts)), ...);
  }
  Sequential() = default;
  Sequential(const Sequential&) = delete;
  Sequential(Sequential&&) = delete;  // else the template above would take it for a part

  /// Adds a part at the end: a module by reference, a std::unique_ptr to one, a function that takes nothing and returns
  /// one, or a function of a Var, which is copied. A part that takes a Source after its Var is given the caller's.
  /// Throws Error on a null pointer, and on a module that comes twice or after the Sequential itself has become part of
  /// another module.
  template <class Part>
  Sequential& append(Part&& part);

  /// Nothing in it: y = x. Throws what the parts throw.
  Var operator()(const Var& x, Source where = Source::here());

  /// The number of parts.
  Index size() const { return static_cast<Index>(parts_.size()); }

 private:
  using Function = std::function<Var(const Var&, Source)>;

  template <class F>
  static Var call(F& f, const Var& x, Source where) {
    if constexpr (requires { f(x, where); })
      return as_var(f(x, where), where);
    else
      return as_var(f(x), where);
  }
  template <class Y>
  static Var as_var(const Y& y, Source where) {
    if constexpr (std::same_as<Y, Var>)
      return y;
    else
      return Var(y, where);  // an expression, recorded at the caller's line
  }
  template <class M>
  void append_module(M& module);

  std::vector<std::unique_ptr<Module>> owned_;
  std::vector<Function> parts_;
};

template <class M>
void Sequential::append_module(M& module) {
  static_assert(detail::VarFunction<M>,
                "Sequential: this module does not map a Var to a Var; put the call into a function of yours");
  add(std::to_string(parts_.size()), module);
  parts_.emplace_back([&module](const Var& x, Source where) { return call(module, x, where); });
}

template <class Part>
Sequential& Sequential::append(Part&& part) {
  using P = std::remove_cvref_t<Part>;
  if constexpr (std::derived_from<P, Module>) {
    static_assert(std::is_lvalue_reference_v<Part>,
                  "Sequential: a temporary module would be gone; write [&] { return Linear(3, 4, rng); }");
    append_module(part);
  } else if constexpr (detail::is_owner<P>) {
    if (part == nullptr) fail("Sequential: part {} is a null pointer; hand over a module", parts_.size());
    append_module(*part);
    owned_.push_back(std::move(part));
  } else if constexpr (detail::ModuleFactory<P>) {
    using M = std::invoke_result_t<P&>;
    std::unique_ptr<M> module(new M(part()));  // where it was made, for it cannot be moved
    append_module(*module);
    owned_.push_back(std::move(module));
  } else {
    static_assert(detail::VarFunction<P>, "Sequential: a part is a module or a function of a Var");
    parts_.emplace_back(
        [f = P(std::forward<Part>(part))](const Var& x, Source where) mutable { return call(f, x, where); });
  }
  return *this;
}

}  // namespace unroll
