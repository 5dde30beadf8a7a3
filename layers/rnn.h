#pragma once

#include <layers/recurrent.h>

namespace unroll {

/// One step of a simple recurrent network: h = tanh(W_hh h' + W_xh x + b).
///
/// W_xh [D, H], W_hh [H, H], b [H], uniform in +-1/sqrt(H) at the start, as in PyTorch. Stored as weight_ih,
/// weight_hh, bias_ih and bias_hh; PyTorch adds the two biases, we keep their sum.
/// Source: Elman 1990, "Finding structure in time".
class RNNCell : public Module {
 public:
  struct State {
    Var h;
  };
  struct Options {};
  RNNCell(Index inputs, Index hidden, Generator& rng, Options options);

  Var project(const Var& x) const;
  State operator()(const Var& x, const State& s) const;

  Parameter W_xh, W_hh, b;
};

/// A layer, or a stack, of simple recurrent cells: see Recurrent.
using RNN = Recurrent<RNNCell>;

}  // namespace unroll
