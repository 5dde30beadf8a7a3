#pragma once

// A cell of a user's own: the README's minimal gated unit. (Its parameters have the names of the library's cells,
// because the benchmarks fill them in by name.)

#include <autograd/autograd.h>
#include <layers/recurrent.h>

namespace unroll::benchmarks {

struct MGUCell : Module {
  struct State {
    Var h;
  };
  struct Options {};

  MGUCell(Index inputs, Index hidden, Generator&, Options)
      : W({inputs, 2 * hidden}), U({hidden, 2 * hidden}), b({2 * hidden}) {
    add("weight_ih", W);
    add("weight_hh", U);
    add("bias_ih", b);
  }
  Var project(const Var& x) const { return matmul(x, W) + b; }
  State operator()(const Var& x, const State& s) const {
    auto [f_x, n_x] = chunk<2>(x);
    auto [f_h, n_h] = chunk<2>(matmul(s.h, U));
    Var f = sigmoid(f_x + f_h);
    Var h = (1 - f) * s.h + f * tanh(n_x + f * n_h);
    return {h};
  }

  Parameter W, U, b;
};

}  // namespace unroll::benchmarks
