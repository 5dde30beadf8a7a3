/// A recurrent cell of one's own, in this one file: it learns to tell the first bit of sequences of 5 to 20 bits.

#include <autograd/autograd.h>
#include <layers/layers.h>
#include <optim/optim.h>

using namespace unroll;

/// Minimal gated unit, a GRU with one gate (Zhou et al. 2016). s is the logistic function, * element by element:
///     f = s(W_f x + U_f h' + b_f),  n = tanh(W_n x + f * (U_n h') + b_n),  h = (1 - f) * h' + f * n
class MGUCell : public Module {
 public:
  struct State {
    Var h;
  };
  struct Options {};

  MGUCell(Index inputs, Index hidden, Generator& rng, Options)
      : W({inputs, 2 * hidden}), U({hidden, 2 * hidden}), b({2 * hidden}) {
    initialize::xavier_uniform(W, rng);
    initialize::orthogonal(U, rng, {.blocks = 2});
    initialize::constant(initialize::block(b, 0, 2), -1);  // remember, at first
    add("weight_ih", W, {.transposed = true});
    add("weight_hh", U, {.transposed = true});
    add("bias", b);
  }
  Var project(const Var& x) const { return matmul(x, W) + b; }  // the input's part, for all steps at once
  State operator()(const Var& x, const State& s) const {        // one step
    auto [f_x, n_x] = chunk<2>(x);
    auto [f_h, n_h] = chunk<2>(matmul(s.h, U));
    Var f = sigmoid(f_x + f_h);
    Var h = (1 - f) * s.h + f * tanh(n_x + f * n_h);
    return {h};
  }

  Parameter W, U, b;
};

int main() {
  const Index longest = 20, batch = 64;
  Generator rng(1);
  Recurrent<MGUCell> mgu(1, 32, rng, {.layers = 2, .dropout = 0.1});  // stacks, lengths and dropout come with Recurrent
  Linear head(32, 2, rng);
  std::vector<Parameter*> parameters = mgu.parameters();
  parameters.insert(parameters.end(), {&head.W, &head.b});
  Adam adam(parameters, {.rate = 0.01});
  Tape tape;
  for (int step = 1; step <= 300; ++step) {
    Tensor bits({longest, batch, 1});
    std::vector<Index> lengths;
    std::vector<std::int32_t> first;
    for (Index n = 0; n < batch; ++n) {
      for (Index t = 0; t < longest; ++t) bits.set({t, n, 0}, static_cast<double>(rng.below(2)));
      first.push_back(static_cast<std::int32_t>(bits.at({0, n, 0})));
      lengths.push_back(5 + rng.below(longest - 4));
    }
    tape.clear();
    Var h = mgu.final_state(tape.constant(bits), {}, lengths).values.back();  // [batch, 32], each at its own end
    Var loss = cross_entropy(head(h), first);
    tape.backward(loss);
    adam.step();
    if (step % 100 == 0) fmt::print("step {}: loss {:.4f}\n", step, loss.item());
  }
}
