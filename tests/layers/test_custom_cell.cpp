// A cell that a user writes outside the library: it works in Recurrent like those of the library.

#include <autograd/autograd.h>
#include <layers/recurrent.h>
#include <tests/support.h>

#include <doctest/doctest.h>

#include <cmath>

using namespace unroll;
using namespace unroll::testing;

namespace {

/// One step of a minimal gated unit: a gated recurrent unit with one gate for both purposes.
///
///     f = s(W_f x + b_f + U_f h')
///     n = tanh(W_n x + b_n + U_n (f * h'))
///     h = (1 - f) * h' + f * n
///
/// Source: Zhou et al. 2016, "Minimal gated unit for recurrent neural networks", equations 7a to 7c.
class MGUCell : public Module {
 public:
  struct State {
    Var h;
  };
  struct Options {
    double gate_bias = 1;
  };
  MGUCell(Index inputs, Index hidden, Generator& rng, Options options)
      : W({inputs, 2 * hidden}), U_f({hidden, hidden}), U_n({hidden, hidden}), b({2 * hidden}) {
    const double bound = 1 / std::sqrt(static_cast<double>(hidden));
    for (Parameter* p : {&W, &U_f, &U_n}) rng.fill_uniform(p->value(), -bound, bound);
    for (Index j = 0; j < hidden; ++j) b.value().set({j}, options.gate_bias);
    add("weight_ih", W, {.transposed = true});
    add("weight_gate", U_f, {.transposed = true});
    add("weight_candidate", U_n, {.transposed = true});
    add("bias", b);
  }

  Var project(const Var& x) const { return matmul(x, W) + b; }
  State operator()(const Var& gates_x, const State& s) const {
    auto [f_x, n_x] = chunk<2>(gates_x);
    Var f = sigmoid(f_x + matmul(s.h, U_f));
    Var kept = f * s.h;
    Var n = tanh(n_x + matmul(kept, U_n));
    Var h = (1 - f) * s.h + f * n;
    return {h};
  }

  Parameter W, U_f, U_n, b;
};

static_assert(RecurrentCell<MGUCell>);
using MGU = Recurrent<MGUCell>;

struct Model : MGU {
  Generator rng{1};
  Model() : MGU(3, 4, rng, {.layers = 2, .cell = {.gate_bias = 0.5}}) {
    to(float64);
    for (std::uint64_t seed = 100; Parameter * parameter : parameters())
      parameter->value() = random_tensor(parameter->shape(), seed++);
  }
};

}  // namespace

TEST_CASE("a user's cell: names, options and initial values") {
  Generator rng(1);
  MGU mgu(3, 4, rng, {.layers = 2, .cell = {.gate_bias = 0.5}});
  std::vector<std::string> names;
  for (const Parameter* parameter : mgu.parameters()) names.push_back(parameter->name());
  CHECK(names == std::vector<std::string>{"weight_ih_l0", "weight_gate_l0", "weight_candidate_l0", "bias_l0",
                                          "weight_ih_l1", "weight_gate_l1", "weight_candidate_l1", "bias_l1"});
  for (Index j = 0; j < 8; ++j) CHECK(mgu.cells()[1].b.value().at({j}) == (j < 4 ? 0.5 : 0));
  CHECK(mgu.state_dict().at("weight_ih_l0").shape() == Shape{8, 3});
}

TEST_CASE("a user's cell: the equations in plain loops") {
  Model model;
  Tensor x = random_tensor({6, 2, 3}, 7);
  Tape tape;
  const Tensor y(model(tape.constant(x)).y.value());
  for (const MGUCell& cell : model.cells()) {
    Tensor out({6, 2, 4}, float64);
    for (Index n = 0; n < 2; ++n) {
      std::vector<double> h(4), f(4), next(4);
      for (Index t = 0; t < 6; ++t) {
        auto of_x = [&](Index column) {
          double total = cell.b.value().at({column});
          for (Index d = 0; d < x.shape()[2]; ++d) total += x.at({t, n, d}) * cell.W.value().at({d, column});
          return total;
        };
        for (Index j = 0; j < 4; ++j) {
          double total = of_x(j);
          for (Index k = 0; k < 4; ++k) total += h[static_cast<std::size_t>(k)] * cell.U_f.value().at({k, j});
          f[static_cast<std::size_t>(j)] = 1 / (1 + std::exp(-total));
        }
        for (Index j = 0; j < 4; ++j) {
          double total = of_x(4 + j);
          for (std::size_t k = 0; k < 4; ++k) total += f[k] * h[k] * cell.U_n.value().at({static_cast<Index>(k), j});
          const auto i = static_cast<std::size_t>(j);
          next[i] = (1 - f[i]) * h[i] + f[i] * std::tanh(total);
        }
        h = next;
        for (Index j = 0; j < 4; ++j) out.set({t, n, j}, h[static_cast<std::size_t>(j)]);
      }
    }
    x = out;
  }
  CHECK(relative_error(y, x) < 1e-14);
}

TEST_CASE("a user's cell: the gradient of two layers over 6 steps") {
  Model model;
  auto run = [&](Tape&, const std::vector<Var>& in) {
    auto [y, final] = model(in[0], FinalState{std::span(in).subspan(1)});
    Var loss = sum(y * random_tensor({6, 2, 4}, 8));
    for (std::uint64_t seed = 9; const Var& h : final.values) loss = loss + sum(h * random_tensor({2, 4}, seed++));
    return loss;
  };
  std::vector<Tensor> inputs = {random_tensor({6, 2, 3}, 7), random_tensor({2, 4}, 11), random_tensor({2, 4}, 12)};
  CHECK(gradient_error(run, inputs, model.parameters()) < 1e-7);
}
