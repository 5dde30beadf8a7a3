#pragma once

#include <autograd/expression.h>

#include <array>
#include <span>
#include <type_traits>

namespace unroll {

namespace detail {

/// A part of a program that can be run again: what it computes from the tape's present values, as one or more Vars.
struct Segment {
  void (*run)(const void* function, const Var* inputs, Var* outputs);
  const void* function;
  std::size_t function_bytes;
  std::size_t input_count, output_count;
};

/// Runs the segment, keeps its outputs alone, and records how to run it again. `outputs` is filled.
void checkpoint(Graph& graph, const Segment& segment, const Var* inputs, Var* outputs, Source where);

template <class T>
struct Outputs {  // anything that is or becomes a Var
  static constexpr std::size_t count = 1;
  static Var* of(Var& y) { return &y; }
  using Type = Var;
};
template <std::size_t N>
struct Outputs<std::array<Var, N>> {
  static constexpr std::size_t count = N;
  static Var* of(std::array<Var, N>& y) { return y.data(); }
  using Type = std::array<Var, N>;
};

}  // namespace detail

/// y = f(x...), for which the tape keeps only y: backward runs f again to have what is between (Griewank and Walther
/// 2000, "Revolve"; Chen et al. 2016, "Training deep nets with sublinear memory cost"). A chain of T steps in segments
/// of sqrt(T) needs memory for 2 sqrt(T) of them and one forward pass more.
///
///     for (const Var& part : windows) h = checkpoint([&rnn](Var x, Var h) { return rnn.run(x, h); }, part, h);
///
/// f takes Vars and returns a Var, an expression or a std::array of Vars. It is copied onto the tape, so it captures
/// plain data only: handles and references to what outlives the backward, such as layers. Gradients are the same bits
/// as without the checkpoint. Random numbers are the same the second time if they are drawn by the library's layers, or
/// after Graph::draws_from. Throws what f throws; nothing is left recorded then.
template <class F, class... X>
auto checkpoint(const F& f, const X&... x) {
  using Result = std::invoke_result_t<const F&, std::conditional_t<true, Var, X>...>;
  using Outputs = detail::Outputs<Result>;
  static_assert(std::is_trivially_copyable_v<F> && std::is_trivially_destructible_v<F>,
                "checkpoint: the function may capture plain data only: Vars, numbers, references");
  static_assert(sizeof...(X) > 0, "checkpoint: give it at least one Var");
  const std::array<Var, sizeof...(X)> inputs{Var(x)...};
  typename Outputs::Type y;
  auto run = [](const void* function, const Var* in, Var* out) {
    typename Outputs::Type result = [&]<std::size_t... K>(std::index_sequence<K...>) {
      return typename Outputs::Type((*static_cast<const F*>(function))(in[K]...));
    }(std::index_sequence_for<X...>{});
    for (std::size_t k = 0; k < Outputs::count; ++k) out[k] = Outputs::of(result)[k];
  };
  if (inputs[0].graph() == nullptr) fail("checkpoint: an empty Var; assign a value to it first");
  detail::checkpoint(*inputs[0].graph(), {run, &f, sizeof(F), sizeof...(X), Outputs::count}, inputs.data(),
                     Outputs::of(y), {});
  return y;
}

}  // namespace unroll
