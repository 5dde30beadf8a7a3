#pragma once

#include <layers/recurrent.h>

namespace unroll {

/// One step of a long short-term memory. With s the logistic function and * element by element:
///
///     f = s(W_f [h', x] + b_f)        what of the cell state to keep
///     i = s(W_i [h', x] + b_i)        what of the candidates to write
///     o = s(W_o [h', x] + b_o)        what of the cell to show
///     g = tanh(W_g [h', x] + b_g)     the candidates
///     c = f * c' + i * g              the cell state: where gradients survive
///     h = o * tanh(c)
///
/// The four gates are columns of one matrix, in PyTorch's order i, f, g, o: W_ih [D, 4H], W_hh [H, 4H], b [4H]. Weights
/// and biases start uniform in +-1/sqrt(H), as in PyTorch, but for the forget gate's bias, which starts at
/// `forget_bias` (Gers et al. 2000; Jozefowicz et al. 2015). Stored as weight_ih, weight_hh, bias_ih and bias_hh;
/// PyTorch adds the two biases, we keep their sum. Sources: Hochreiter and Schmidhuber 1997; Gers, Schmidhuber and
/// Cummins 2000, "Learning to forget".
class LSTMCell : public Module {
 public:
  struct State {
    Var h, c;
  };
  /// All can be combined.
  struct Options {
    double forget_bias = 1;
    bool bias = true;
    /// The gates see the cell state: + p_i * c' in i, + p_f * c' in f, + p_o * c in o, with p [H] starting at 0 (Gers
    /// and Schmidhuber 2000, "Recurrent nets that time and count").
    bool peepholes = false;
    /// i = 1 - f: only as much is written as is forgotten. The matrices have three blocks, f, g, o (Greff et al. 2017,
    /// "LSTM: a search space odyssey", variant CIFG).
    bool coupled = false;
    /// The products are normalised, and c where it is shown: LN(W_hh h') + LN(W_ih x) + b over all gates together, with
    /// gains of 1, and h = o * tanh(LN(c)) (Ba, Kiros and Hinton 2016, "Layer normalization", equations 20 to 22).
    bool layer_norm = false;
    /// Not 0: h = W_hr (o * tanh(c)), of this size P < H; then W_hh is [P, 4H] (Sak, Senior and Beaufays 2014;
    /// PyTorch's proj_size). W_hr [H, P] is stored as weight_hr.
    Index projection = 0;
  };
  /// Throws Error unless 0 <= projection < hidden.
  LSTMCell(Index inputs, Index hidden, Generator& rng, Options options);

  Var project(const Var& x) const;
  State operator()(const Var& gates_x, const State& s) const;

  Index state_size(std::size_t k) const { return k == 0 && options_.projection > 0 ? options_.projection : hidden_; }
  struct Gates {
    Var i, f, g, o;
  };
  Gates gates(const Var& gates_x, const State& before, const State& after) const;
  static constexpr std::array<std::string_view, 6> names{"i", "f", "g", "o", "h", "c"};

  Parameter W_ih{{0}}, W_hh{{0}}, b{{0}};
  // Empty without the option:
  Parameter W_hr{{0}}, peephole_i{{0}}, peephole_f{{0}}, peephole_o{{0}};
  Parameter gain_ih{{0}}, gain_hh{{0}}, gain_c{{0}}, bias_c{{0}};

 private:
  Gates sums(const Var& gates_x, const State& s) const;

  Index hidden_;
  Options options_;
};

/// A layer, or a stack, of LSTM cells: see Recurrent.
using LSTM = Recurrent<LSTMCell>;
extern template class Recurrent<LSTMCell>;

}  // namespace unroll
