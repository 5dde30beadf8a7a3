/// A recurrent cell of one's own, in this one file: its gradients checked, and trained against the GRU.

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

/// Sequences of 5 to 60 bits, to be asked for the first at the end.
struct Bits {
  static constexpr Index longest = 60;
  Tensor x;
  std::vector<Index> lengths;
  std::vector<std::int32_t> first;

  Bits(Index count, Generator& rng) : x({longest, count, 1}) {
    for (Index n = 0; n < count; ++n) {
      for (Index t = 0; t < longest; ++t) x.set({t, n, 0}, static_cast<double>(rng.below(2)));
      first.push_back(static_cast<std::int32_t>(x.at({0, n, 0})));
      lengths.push_back(5 + rng.below(longest - 4));
    }
  }
};

/// Trains two layers of a cell, and prints how it went.
template <class Layer>
void train(const char* name) {
  Generator rng(1), data(2);
  Layer layer(1, 32, rng, {.layers = 2, .dropout = 0.1});  // stacks, dropout and lengths come with Recurrent
  Linear head(32, 2, rng);
  std::vector<Parameter*> parameters = layer.parameters();
  parameters.insert(parameters.end(), {&head.W, &head.b});
  auto answer = [&](Tape& tape, const Bits& bits) {
    return head(layer.final_state(tape.constant(bits.x), {}, bits.lengths).values.back());  // each at its own end
  };
  fmt::print("{:<6}{:>8}", name, layer.count());
  Adam adam(parameters, {.rate = 0.01});
  Tape tape;
  for (int step = 1; step <= 300; ++step) {
    const Bits bits(64, data);
    tape.clear();
    Var loss = cross_entropy(answer(tape, bits), bits.first);
    tape.backward(loss);
    clip_grad_norm(parameters, 1);
    adam.step();
    if (step % 100 == 0) fmt::print("{:>10.4f}", loss.item());
  }
  layer.eval();
  tape.clear();
  const Bits unseen(1000, data);
  const std::vector<std::int32_t> said = argmax(answer(tape, unseen).value());
  int right = 0;
  for (std::size_t n = 0; n < said.size(); ++n) right += said[n] == unseen.first[n];
  fmt::print("{:>8.1f} %\n", right / 10.0);
}

int main() {
  Generator rng(1);
  Recurrent<MGUCell> mgu(3, 4, rng, {.layers = 2});
  mgu.to(float64);
  Tensor x({5, 2, 3}, float64);
  rng.fill_normal(x);
  auto check = check_gradient([&](Tape&, const auto& in) { return mgu(in[0]).y; }, {x}, mgu.parameters());
  fmt::print("{}\n\n", check ? "The cell's gradients agree with finite differences." : check.worst);
  if (!check) return 1;

  fmt::print("{:<6}{:>8}{:>10}{:>10}{:>10}{:>10}\n", "cell", "weights", "loss, 100", "200", "300 steps", "right");
  train<GRU>("GRU");
  train<Recurrent<MGUCell>>("MGU");
}
