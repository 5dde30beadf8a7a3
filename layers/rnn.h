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
  enum class Nonlinearity { tanh, relu };
  struct Options {
    /// relu with W_hh the identity at the start is the IRNN of Le, Jaitly and Hinton 2015.
    Nonlinearity nonlinearity = Nonlinearity::tanh;
    bool bias = true;
    /// h = tanh(LN(W_hh h') + LN(W_xh x) + b), with gains of 1 (Ba, Kiros and Hinton 2016, "Layer normalization").
    bool layer_norm = false;
  };
  RNNCell(Index inputs, Index hidden, Generator& rng, Options options);

  Var project(const Var& x) const;
  State operator()(const Var& x, const State& s) const;
  static constexpr std::array<std::string_view, 1> names{"h"};

  Parameter W_xh, W_hh, b;
  Parameter gain_ih{{0}}, gain_hh{{0}};  ///< empty without the option

 private:
  Options options_;
};

/// A layer, or a stack, of simple recurrent cells: see Recurrent.
using RNN = Recurrent<RNNCell>;
extern template class Recurrent<RNNCell>;

}  // namespace unroll
