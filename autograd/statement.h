#pragma once

// The kernels of element-wise statements. From the type of an expression the compiler derives a forward
// pass and a backward pass over packets of neighbouring elements; everything between the loads and the stores
// stays in registers. The backward recomputes the intermediate values instead of storing them.

#include <autograd/graph.h>
#include <autograd/packet.h>

#include <algorithm>
#include <functional>
#include <string_view>
#include <tuple>

namespace unroll {

namespace detail {

/// What a derivative makes of the gradient from above.
template <class P, class E>
UNROLL_INLINE P chain(const P& g, const Eigen::ArrayBase<E>& derivative) {
  return g * derivative.derived();
}
template <class P>
UNROLL_INLINE const P& chain(const P& g, One) {
  return g;
}
template <class P>
UNROLL_INLINE P chain(const P& g, MinusOne) {
  return -g;
}
template <class P, class D>
UNROLL_INLINE P chain(const P& g, const Masked<P, D>& derivative) {
  return packet::keep(derivative.mask, chain(g, derivative.derivative));
}

template <class D>
inline constexpr bool is_zero = std::is_same_v<D, Zero> || std::is_same_v<D, None>;
template <class D>
inline constexpr bool is_masked = false;
template <class P, class D>
inline constexpr bool is_masked<Masked<P, D>> = true;
template <class D>
inline constexpr bool is_finite = std::is_empty_v<D>;
template <class P, class D>
inline constexpr bool is_finite<Masked<P, D>> = is_finite<D>;

/// The rule that keeps NaN out of gradients: where the gradient from above is exactly 0, exactly 0 goes on, through
/// infinite derivatives too. Followed at the root of a statement and below operations that choose among operands.
template <class P>
UNROLL_INLINE void stop_zeros(const P& g, P* dx, int inputs) {
  const Mask<P> stopped = packet::vanishes(g);
  if (!packet::any(stopped)) return;  // most often: a branch costs less than a masking for each input
  for (int k = 0; k < inputs; ++k) dx[k] = packet::drop(stopped, dx[k]);
}

/// The structure of an expression without its operands: inputs and constants are numbered from the left.
struct Input {
  static constexpr int inputs = 1, constants = 0;
  static constexpr std::array<bool, 1> differentiable{true};
  static constexpr bool finite = true;

  template <class P, int I, int C>
  struct Evaluated {
    static constexpr int first = I, count = 1;
    static constexpr bool finite = true;
    const P& y;
    UNROLL_INLINE Evaluated(const P* x, const P*) : y(x[I]) {}
    UNROLL_INLINE void reverse(const P& g, P* dx) const { dx[I] = g; }
  };
};

struct Constant {
  static constexpr int inputs = 0, constants = 1;
  static constexpr std::array<bool, 0> differentiable{};
  static constexpr bool finite = true;

  template <class P, int I, int C>
  struct Evaluated {
    static constexpr int count = 0;
    const P& y;
    UNROLL_INLINE Evaluated(const P*, const P* constants) : y(constants[C]) {}
    UNROLL_INLINE void reverse(const P&, P*) const {}
  };
};

template <class Op, class... Args>
class Apply {
 public:
  static constexpr int inputs = (0 + ... + Args::inputs), constants = (0 + ... + Args::constants);

 private:
  struct Traits {
    std::array<bool, inputs> differentiable;
    bool finite;
  };
  template <class... D>
  static constexpr Traits judge(const std::tuple<D...>*) {
    Traits traits{{}, (true && ... && (is_finite<D> && Args::finite))};
    auto next = traits.differentiable.begin();
    auto append = [&](const auto& of_argument, bool handed_down) {
      for (bool below : of_argument) *next++ = below && handed_down;
    };
    (append(Args::differentiable, !std::is_same_v<D, None>), ...);
    return traits;
  }
  template <class D>
  static constexpr Traits judge(const D*) {
    return judge(static_cast<const std::tuple<D>*>(nullptr));
  }
  template <class>
  using P = const Packet<double>&;
  using Derivatives = decltype(Op::derivative(std::declval<P<Args>>()..., std::declval<P<Op>>()));
  static constexpr const std::remove_reference_t<Derivatives>* derivatives = nullptr;

 public:
  /// Of every input. False where nothing but a mask is computed from it.
  static constexpr std::array<bool, inputs> differentiable = judge(derivatives).differentiable;
  /// True of sums and choices: no derivative in it can be infinite.
  static constexpr bool finite = judge(derivatives).finite;

  /// The values of the operation and, first, of everything below it.
  template <class P, int I, int C>
  struct Evaluated {
    static constexpr int first = I, count = inputs;
    static constexpr bool finite = Apply::finite;

    template <std::size_t... K>
    static auto types(std::index_sequence<K...>) {
      constexpr std::array<int, sizeof...(Args)> n{Args::inputs...}, c{Args::constants...};
      constexpr auto before = [](const auto& counts, std::size_t k) {
        int sum = 0;
        for (std::size_t i = 0; i < k; ++i) sum += counts[i];
        return sum;
      };
      return std::type_identity<
          std::tuple<typename Args::template Evaluated<P, I + before(n, K), C + before(c, K)>...>>{};
    }
    using Arguments = typename decltype(types(std::index_sequence_for<Args...>{}))::type;

    Arguments args;
    P y;

    UNROLL_INLINE Evaluated(const P* x, const P* constants)
        : Evaluated(x, constants, std::index_sequence_for<Args...>{}) {}
    template <std::size_t... K>
    UNROLL_INLINE Evaluated(const P* x, const P* constants, std::index_sequence<K...>)
        : args(std::tuple_element_t<K, Arguments>(x, constants)...), y(Op::value(std::get<K>(args).y...)) {}

    UNROLL_INLINE void reverse(const P& g, P* dx) const { reverse(g, dx, std::index_sequence_for<Args...>{}); }
    template <std::size_t... K>
    UNROLL_INLINE void reverse(const P& g, P* dx, std::index_sequence<K...>) const {
      if constexpr (sizeof...(K) == 1) {
        hand_down(std::get<0>(args), g, Op::derivative(std::get<0>(args).y, y), dx);
      } else {
        auto derivatives = Op::derivative(std::get<K>(args).y..., y);
        (hand_down(std::get<K>(args), g, std::get<K>(derivatives), dx), ...);
      }
    }
    template <class Argument, class D>
    UNROLL_INLINE static void hand_down(const Argument& argument, const P& g, const D& derivative, P* dx) {
      if constexpr (Argument::count == 0) {
        return;
      } else if constexpr (is_zero<D>) {
        for (int k = 0; k < Argument::count; ++k) dx[Argument::first + k] = P::Zero();
      } else if constexpr (is_masked<D> && !Argument::finite) {
        const P handed = chain(g, derivative);
        argument.reverse(handed, dx);
        stop_zeros(handed, dx + Argument::first, Argument::count);
      } else {
        argument.reverse(chain(g, derivative), dx);
      }
    }
  };
};

/// A statement in postfix form, for people to read: an operation's name and how many operands it takes from before.
struct Token {
  std::string_view name;  ///< empty: an input; "#": a constant
  int operands = 0;
};

/// "Sigmoid" of unroll::ops::Sigmoid.
template <class Op>
constexpr std::string_view name_of_type() {
  std::string_view text = __PRETTY_FUNCTION__;
  text.remove_prefix(text.find("Op = ") + 5);
  text = text.substr(0, text.find_first_of(";]"));
  return text.substr(text.rfind(':') + 1);
}

template <class Kernel>
struct Written;
template <>
struct Written<Input> {
  static constexpr std::array<Token, 1> tokens{};
};
template <>
struct Written<Constant> {
  static constexpr std::array<Token, 1> tokens{Token{"#"}};
};
template <class Op, class... Args>
struct Written<Apply<Op, Args...>> {
  static constexpr auto tokens = [] {
    std::array<Token, (1 + ... + Written<Args>::tokens.size())> all{};
    auto next = all.begin();
    ((next = std::copy(Written<Args>::tokens.begin(), Written<Args>::tokens.end(), next)), ...);
    *next = {name_of_type<Op>(), sizeof...(Args)};
    return all;
  }();
};

/// What a kernel does with one input's gradient.
enum class Adjoint : std::uint8_t { skip, write, add };

/// A stretch of a row of a statement that fills whole packets: the elements of every operand are neighbours.
struct Stretch {
  Index count;           ///< of elements
  const void* const* x;  ///< the inputs' first elements
  const double* constants;
  void* y;          ///< forward: the result
  const void* dy;   ///< backward: the result's gradient
  void* const* dx;  ///< the inputs' gradients, and what to do with each
  const Adjoint* adjoint;
  const Index* ahead = nullptr;  ///< how far from each input's elements others lie that are needed next; null: unknown
};
using StretchKernel = void(const Stretch&);

/// A longer statement does not compile; a part of it can be a Var of its own.
inline constexpr std::size_t most_inputs = 128;

/// All that the library needs to know about a statement: no template is compiled twice for it.
struct Statement {
  Operation operation;
  std::size_t inputs, constants;
  std::span<const Token> tokens;
  const bool* differentiable;               ///< of every input
  bool wholly;                              ///< of all
  StretchKernel *forward[3], *backward[3];  ///< by type
};

/// Stores the same number in every lane, register by register. (Eigen's Constant is stored lane by lane, and GCC copies
/// a packet by 16 bytes: a register that is read back at once would have to wait for several stores.)
UNROLL_INLINE void splat(Dual value, Dual* to) { *to = value; }
template <class T>
UNROLL_INLINE void splat(T value, T* to) {
  using Register = packet::detail::Register<T>;
  constexpr int size = Eigen::internal::unpacket_traits<Register>::size;
  const auto lanes = Eigen::internal::pset1<Register>(value);
  for (int at = 0; at < Packet<T>::SizeAtCompileTime; at += size) Eigen::internal::pstoreu(to + at, lanes);
}
template <class T>
UNROLL_INLINE Packet<T> splat(T value) {
  Packet<T> packet;
  splat(value, packet.data());
  return packet;
}

template <class Kernel, class T>
struct Splats {
  Packet<T> values[Kernel::constants + 1];
  explicit Splats(const double* constants) {
    for (int i = 0; i < Kernel::constants; ++i) splat(T(constants[i]), values[i].data());
  }
};

template <class Kernel, class T>
void forward_stretch(const Stretch& stretch) {
  static_assert(Kernel::inputs <= most_inputs,
                "too many operands in one statement: give a part of it a Var of its own");
  using P = Packet<T>;
  using Evaluated = typename Kernel::template Evaluated<P, 0, 0>;
  constexpr int n = Kernel::inputs;
  const Splats<Kernel, T> constants(stretch.constants);
  const T* from[n];
  for (int k = 0; k < n; ++k) from[k] = static_cast<const T*>(stretch.x[k]);
  T* y = static_cast<T*>(stretch.y);
  for (Index at = 0; at < stretch.count; at += P::SizeAtCompileTime) {
    P x[n];
    for (int k = 0; k < n; ++k) x[k] = Eigen::Map<const P>(from[k] + at);
    Eigen::Map<P>(y + at) = Evaluated(x, constants.values).y;
  }
}

template <class Kernel, class T>
void backward_stretch(const Stretch& stretch) {
  using P = Packet<T>;
  using Evaluated = typename Kernel::template Evaluated<P, 0, 0>;
  constexpr int n = Kernel::inputs;
  const Splats<Kernel, T> constants(stretch.constants);
  const T *from[n], *dy = static_cast<const T*>(stretch.dy);
  T* to[n];
  for (int k = 0; k < n; ++k) {
    from[k] = static_cast<const T*>(stretch.x[k]);
    to[k] = static_cast<T*>(stretch.dx[k]);
  }
  for (Index at = 0; at < stretch.count; at += P::SizeAtCompileTime) {
    P x[n], dx[n];
    // What was computed long ago lies far away, and in stretches too short for the processor to see what comes.
    if (stretch.ahead != nullptr)
      for (int k = 0; k < n; ++k) __builtin_prefetch(from[k] + at + stretch.ahead[k]);
    for (int k = 0; k < n; ++k) x[k] = Eigen::Map<const P>(from[k] + at);
    const P g = Eigen::Map<const P>(dy + at);
    Evaluated(x, constants.values).reverse(g, dx);
    if constexpr (!Kernel::finite) stop_zeros(g, dx, n);
    for (int k = 0; k < n; ++k) {
      Eigen::Map<P> d(to[k] + at);
      if (stretch.adjoint[k] == Adjoint::write)
        d = dx[k];
      else if (stretch.adjoint[k] == Adjoint::add)
        d += dx[k];
    }
  }
}

void statement_backward(Graph& graph, NodeId id);
double statement_flops(const Graph& graph, NodeId id, std::span<const NodeId> inputs, bool backward);

/// The constants of a statement that was recorded, where they are known: kept for a backward.
std::span<const double> statement_constants(const Graph& graph, NodeId id);

template <class Kernel>
inline constexpr Statement statement{
    {"element-wise", statement_backward, statement_flops},
    Kernel::inputs,
    Kernel::constants,
    Written<Kernel>::tokens,
    Kernel::differentiable.data(),
    std::ranges::all_of(Kernel::differentiable, std::identity()),
    {forward_stretch<Kernel, float>, forward_stretch<Kernel, double>, forward_stretch<Kernel, Dual>},
    {backward_stretch<Kernel, float>, backward_stretch<Kernel, double>, backward_stretch<Kernel, Dual>}};

/// Records a statement over inputs that are on the tape: checks types and shapes, computes the result.
NodeId record_statement(Graph& graph, const Statement& statement, const NodeId* inputs, const double* constants,
                        Source where);

}  // namespace detail
}  // namespace unroll
