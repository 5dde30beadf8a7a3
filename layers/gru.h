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
/// The reset gate is applied after the recurrent product, as in PyTorch and cuDNN; Options has the paper's form. The
/// gates are columns of one matrix, in PyTorch's order r, z, n: W_ih [D, 3H], W_hh [H, 3H], b_ih [3H], b_hh [3H]. All
/// start uniform in +-1/sqrt(H), as in PyTorch. Stored as weight_ih, weight_hh, bias_ih, bias_hh.
/// Source: Cho et al. 2014; the form with the reset gate after the product, Chung et al. 2014.
class GRUCell : public Module {
 public:
  struct State {
    Var h;
  };
  struct Options {
    bool bias = true;
    /// False: n = tanh(W_n x + b_n + U_n (r * h')), as in the paper. There is one bias then, b_ih; W_hh [H, 2H] is that
    /// of r and z, and W_hn [H, H], stored as weight_hn, that of n.
    bool reset_after = true;
    /// Every product is normalised, those of all gates together: LN(W_ih x) + b_ih, LN(W_hh h') + b_hh and, in the
    /// paper's form, LN(W_hn (r * h')), with gains of 1 (Ba, Kiros and Hinton 2016, "Layer normalization").
    bool layer_norm = false;
  };
  GRUCell(Index inputs, Index hidden, Generator& rng, Options options);

  Var project(const Var& x) const;
  State operator()(const Var& gates_x, const State& s) const { return (*this)(gates_x, s, s.h); }
  /// `h` is h' as the recurrent products see it: with dropped units, where there are any.
  State operator()(const Var& gates_x, const State& s, const Var& h) const;

  struct Gates {
    Var r, z, n;
  };
  Gates gates(const Var& gates_x, const State& before, const State& after) const;
  static constexpr std::array<std::string_view, 4> names{"r", "z", "n", "h"};

  Parameter W_ih{{0}}, W_hh{{0}}, b_ih{{0}}, b_hh{{0}};
  Parameter W_hn{{0}}, gain_ih{{0}}, gain_hh{{0}}, gain_hn{{0}};  ///< empty without the option

 private:
  Var recurrent(const Var& h) const;
  Var candidate(const Var& reset) const;

  Options options_;
};

/// A layer, or a stack, of gated recurrent units: see Recurrent.
using GRU = Recurrent<GRUCell>;
extern template class Recurrent<GRUCell>;

}  // namespace unroll
