#pragma once

#include <layers/recurrent.h>

namespace unroll {

/// One step of a gated recurrent unit. With s the logistic function and * element by element:
///
///     r = s(W_r x + b_r + U_r h' + d_r)             what of the past the candidate sees
///     z = s(W_z x + b_z + U_z h' + d_z)             what of the past to keep
///     n = tanh(W_n x + b_n + r * (U_n h' + d_n))    the candidate
///     h = (1 - z) * n + z * h'
///
/// The reset gate is applied after the recurrent product, as in PyTorch and cuDNN. The gates are columns of
/// one matrix, in PyTorch's order r, z, n: W_ih [D, 3H], W_hh [H, 3H], b_ih [3H], b_hh [3H]. All start
/// uniform in +-1/sqrt(H), as in PyTorch. Stored as weight_ih, weight_hh, bias_ih, bias_hh.
/// Source: Cho et al. 2014; the form with the reset gate after the product, Chung et al. 2014.
class GRUCell : public Module {
 public:
  struct State {
    Var h;
  };
  struct Options {};
  GRUCell(Index inputs, Index hidden, Generator& rng, Options options);

  Var project(const Var& x) const;
  State operator()(const Var& gates_x, const State& s) const;

  Parameter W_ih, W_hh, b_ih, b_hh;
};

/// A layer, or a stack, of gated recurrent units: see Recurrent.
using GRU = Recurrent<GRUCell>;

}  // namespace unroll
