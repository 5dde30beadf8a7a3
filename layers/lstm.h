#pragma once

#include <layers/recurrent.h>

namespace unroll {

/// One step of a long short-term memory. With s the logistic function and * element by element:
///
///     f = s(W_f [h', x] + b_f)        what of the cell state to keep
///     i = s(W_i [h', x] + b_i)        what of the candidates to write
///     o = s(W_o [h', x] + b_o)        what of the cell to show
///     c~ = tanh(W_c [h', x] + b_c)    the candidates
///     c = f * c' + i * c~             the cell state: where gradients survive
///     h = o * tanh(c)
///
/// The four gates are columns of one matrix, in PyTorch's order i, f, g (= c~), o: W_ih [D, 4H],
/// W_hh [H, 4H], b [4H]. Weights and biases start uniform in +-1/sqrt(H), as in PyTorch, but for the
/// forget gate's bias, which starts at `forget_bias` (Gers et al. 2000; Jozefowicz et al. 2015).
/// Stored as weight_ih, weight_hh, bias_ih and bias_hh; PyTorch adds the two biases, we keep their sum.
/// Sources: Hochreiter and Schmidhuber 1997; Gers, Schmidhuber and Cummins 2000, "Learning to forget".
class LSTMCell : public Module {
 public:
  struct State {
    Var h, c;
  };
  struct Options {
    double forget_bias = 1;
  };
  LSTMCell(Index inputs, Index hidden, Generator& rng, Options options);

  Var project(const Var& x) const;
  State operator()(const Var& gates_x, const State& s) const;

  Parameter W_ih, W_hh, b;
};

/// A layer, or a stack, of LSTM cells: see Recurrent.
using LSTM = Recurrent<LSTMCell>;

}  // namespace unroll
