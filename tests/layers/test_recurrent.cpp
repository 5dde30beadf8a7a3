// Every option of the recurrent layers in combination: against plain loops over each sequence alone, against finite
// differences, and trained for a few steps.

#include <autograd/autograd.h>
#include <layers/layers.h>
#include <optim/optim.h>
#include <tests/layers/plain_recurrent.h>
#include <tests/support.h>

#include <doctest/doctest.h>

#include <memory>

using namespace unroll;
using namespace unroll::testing;

namespace {

constexpr Index T = 6, N = 4, D = 3, H = 4;
const std::vector<Index> some_lengths{3, 6, 0, 1};

/// A cell with options: as a layer of the library and in plain loops.
template <class Layer, class Plain>
struct Kind {
  std::string name;
  typename Layer::Options options;
  Plain plain = {};
};

/// Calls f(kind) for the cells in all their forms.
template <class F>
void for_each_kind(F f) {
  using Relu = RNNCell::Nonlinearity;
  for (bool layer_norm : {false, true}) {
    f(Kind<RNN, PlainRNN>{"rnn", {.cell = {.layer_norm = layer_norm}}});
    PlainRNN relu;
    relu.relu = true;
    f(Kind<RNN, PlainRNN>{
        "relu", {.cell = {.nonlinearity = Relu::relu, .bias = layer_norm, .layer_norm = layer_norm}}, relu});
    f(Kind<GRU, PlainGRU>{"gru", {.cell = {.layer_norm = layer_norm}}});
    f(Kind<GRU, PlainGRU>{"gru without bias", {.cell = {.bias = false, .layer_norm = layer_norm}}});
    f(Kind<GRU, PlainGRU>{"gru of the paper", {.cell = {.reset_after = false, .layer_norm = layer_norm}}});
    for (bool peepholes : {false, true})
      for (bool coupled : {false, true})
        for (Index projection : {0, 2})
          f(Kind<LSTM, PlainLSTM>{
              fmt::format("lstm, peepholes {}, coupled {}, projection {}", peepholes, coupled, projection),
              {.cell = {
                   .peepholes = peepholes, .coupled = coupled, .layer_norm = layer_norm, .projection = projection}}});
    f(Kind<LSTM, PlainLSTM>{"lstm without bias", {.cell = {.bias = false, .layer_norm = layer_norm}}});
  }
}

/// Calls f(options) for a layer's directions, layers and residuals.
template <class Options, class F>
void for_each_shape(Options options, F f) {
  for (Bidirectional bidirectional : {Bidirectional::no, Bidirectional::concatenated, Bidirectional::summed})
    for (Index layers : {1, 3})
      for (bool residual : {false, true}) {
        if (residual && layers == 1) continue;
        options.layers = layers;
        options.bidirectional = bidirectional;
        options.residual = residual;
        CAPTURE(layers);
        CAPTURE(static_cast<int>(bidirectional));
        CAPTURE(residual);
        f(options);
      }
}

void randomise(Module& module, DType dtype = float64) {
  module.to(dtype);
  for (std::uint64_t seed = 100; Parameter * parameter : module.parameters())
    parameter->value() = random_tensor(parameter->shape(), seed++, -0.8, 0.8, dtype);
}

/// Initial states for a layer, in FinalState's order: what PlainState calls h and c.
template <class Layer>
std::vector<Tensor> initial_states(const Layer& layer, Index sequences) {
  std::vector<Tensor> states;
  for (const auto& cell : layer.cells())
    for (std::size_t k = 0; k < detail::state_size<typename std::remove_cvref_t<decltype(cell)>::State>(); ++k) {
      Index size = layer.hidden();
      if constexpr (requires { cell.state_size(k); }) size = cell.state_size(k);
      states.push_back(random_tensor({sequences, size}, 300 + states.size()));
    }
  return states;
}

Numbers row(const Tensor& x, Index t, Index n) {
  Numbers values;
  for (Index j = 0; j < x.shape()[2]; ++j) values.push_back(x.at({t, n, j}));
  return values;
}
Numbers row(const Tensor& x, Index n) {
  Numbers values;
  for (Index j = 0; j < x.shape()[1]; ++j) values.push_back(x.at({n, j}));
  return values;
}
double distance(const Numbers& a, const Numbers& b) {
  REQUIRE(a.size() == b.size());
  double worst = 0;
  for (std::size_t i = 0; i < a.size(); ++i) worst = std::max(worst, std::abs(a[i] - b[i]));
  return worst;
}

/// The layer's outputs and final states are those of plain loops over each sequence by itself.
template <class Layer, class Plain>
void check_against_plain(Layer& layer, Plain& plain, const PlainOptions& options, std::span<const Index> lengths) {
  const Tensor x = random_tensor({T, N, D}, 7);
  const std::vector<Tensor> initial = initial_states(layer, N);
  const std::size_t values = initial.size() / layer.cells().size();
  Tape tape;
  std::vector<Var> vars;
  for (const Tensor& state : initial) vars.push_back(tape.constant(state));
  auto [y, final] = layer(tape.constant(x), FinalState{vars}, lengths);
  REQUIRE(y.shape() == Shape{T, N, layer.outputs()});
  const Tensor out(y.value());
  for (Index n = 0; n < N; ++n) {
    const Index length = lengths.empty() ? T : lengths[static_cast<std::size_t>(n)];
    Steps sequence;
    for (Index t = 0; t < length; ++t) sequence.push_back(row(x, t, n));
    std::vector<PlainState> states(layer.cells().size());
    for (std::size_t k = 0; k < states.size(); ++k) {
      states[k].h = row(initial[k * values], n);
      if (values == 2) states[k].c = row(initial[k * values + 1], n);
    }
    const PlainOutput expected = run_plain(plain, layer.state_dict(), options, sequence, states);
    CAPTURE(n);
    for (Index t = 0; t < T; ++t)
      CHECK(distance(row(out, t, n), t < length ? expected.y[static_cast<std::size_t>(t)]
                                                : Numbers(static_cast<std::size_t>(layer.outputs()))) < 1e-13);
    for (std::size_t k = 0; k < states.size(); ++k) {
      CHECK(distance(row(Tensor(final.values[k * values].value()), n), expected.states[k].h) < 1e-13);
      if (values == 2)
        CHECK(distance(row(Tensor(final.values[k * values + 1].value()), n), expected.states[k].c) < 1e-13);
    }
  }
}

}  // namespace

TEST_CASE("every form of a cell, shape of a layer and choice of lengths: plain loops over each sequence alone") {
  for_each_kind([]<class Layer, class Plain>(Kind<Layer, Plain> kind) {
    CAPTURE(kind.name);
    for_each_shape(kind.options, [&](const auto& options) {
      Generator rng(1);
      Layer layer(D, H, rng, options);
      randomise(layer);
      for (const std::vector<Index>& lengths : {std::vector<Index>{}, some_lengths, std::vector<Index>{6, 6, 6, 6},
                                                std::vector<Index>{0, 0, 0, 0}, std::vector<Index>{2, 2, 1, 1}}) {
        CAPTURE(lengths.size());
        check_against_plain(layer, kind.plain, {options.layers, options.bidirectional, options.residual}, lengths);
      }
    });
  });
}

namespace {

/// A scalar that depends on every output and final state.
Var everything(Tape& tape, const Var& y, const FinalState& state) {
  Var loss = sum(Var(y * tape.constant(random_tensor(y.shape(), 40))));
  for (std::uint64_t seed = 41; const Var& value : state.values)
    loss = loss + sum(Var(value * tape.constant(random_tensor(value.shape(), seed++))));
  return loss;
}

}  // namespace

TEST_CASE("every form of a cell, in both directions and with lengths: the gradient of several layers") {
  for_each_kind([]<class Layer, class Plain>(Kind<Layer, Plain> kind) {
    CAPTURE(kind.name);
    if (kind.name == "relu") return;  // with a kink; its derivative is relu's own
    for (bool ragged : {false, true}) {
      CAPTURE(ragged);
      auto options = kind.options;
      options.layers = ragged ? 3 : 2;
      options.bidirectional = ragged ? Bidirectional::concatenated : Bidirectional::summed;
      options.batch_first = ragged;
      options.learned_state = !ragged;
      options.residual = true;
      options.zoneout = 0.2;  // in evaluation a mean
      Generator rng(1);
      Layer layer(D, H, rng, options);
      randomise(layer);
      layer.eval();
      std::vector<Tensor> inputs{random_tensor(ragged ? Shape{3, 5, D} : Shape{5, 3, D}, 7)};
      if (ragged)
        for (const Tensor& state : initial_states(layer, 3)) inputs.push_back(state);
      const std::vector<Index> lengths{2, 5, 0};
      auto run = [&](Tape& tape, const std::vector<Var>& in) {
        auto [y, state] = ragged ? layer(in[0], FinalState{std::span(in).subspan(1)}, lengths) : layer(in[0]);
        return everything(tape, y, state);
      };
      CHECK(gradient_error(run, inputs, layer.parameters()) < 1e-6);
    }
  });
}

TEST_CASE_TEMPLATE("padding counts for nothing: not its values, and no gradient reaches it", Layer, RNN, LSTM, GRU) {
  for (Bidirectional bidirectional : {Bidirectional::no, Bidirectional::concatenated}) {
    Generator rng(1);
    Layer layer(D, H, rng, {.layers = 2, .bidirectional = bidirectional});
    randomise(layer);
    auto run = [&](double padding) {
      Tensor x = random_tensor({T, N, D}, 7);
      for (Index n = 0; n < N; ++n)
        for (Index t = some_lengths[static_cast<std::size_t>(n)]; t < T; ++t)
          for (Index d = 0; d < D; ++d) x.set({t, n, d}, padding);
      Tape tape;
      Var in = tape.variable(x);
      layer.zero_grad();
      auto [y, state] = layer(in, {}, some_lengths);
      tape.backward(everything(tape, y, state));
      std::vector<Tensor> results{Tensor(y.value()), Tensor(in.grad())};
      for (const Parameter* parameter : layer.parameters()) results.push_back(parameter->grad());
      for (Index n = 0; n < N; ++n)
        for (Index t = some_lengths[static_cast<std::size_t>(n)]; t < T; ++t)
          for (Index d = 0; d < D; ++d) CHECK(results[1].at({t, n, d}) == 0);
      return results;
    };
    const auto zeros = run(0), not_numbers = run(std::numeric_limits<double>::quiet_NaN());
    for (std::size_t k = 0; k < zeros.size(); ++k) CHECK(same_bits(zeros[k], not_numbers[k]));
  }
}

TEST_CASE_TEMPLATE("a batch of none, and of one sequence of none or one step", Layer, RNN, LSTM, GRU) {
  Generator rng(1);
  Layer layer(D, H, rng, {.layers = 2, .bidirectional = Bidirectional::concatenated});
  randomise(layer);
  for (Index sequences : {0, 1})
    for (Index length : {0, 1}) {
      CAPTURE(sequences);
      CAPTURE(length);
      Tape tape;
      Var x = tape.variable(random_tensor({3, sequences, D}, 7));
      layer.zero_grad();
      auto [y, state] = layer(x, {}, std::vector<Index>(static_cast<std::size_t>(sequences), length));
      CHECK(y.shape() == Shape{3, sequences, 2 * H});
      CHECK(state.values.front().shape() == Shape{sequences, H});
      tape.backward(everything(tape, y, state) + sum(x));  // y alone may depend on nothing
      CHECK(x.grad().shape() == x.shape());
      for (double value : layer.cells()[0].W_hh.grad().to_vector()) CHECK(value == 0);  // no step has a past
    }
}

TEST_CASE_TEMPLATE("gradients of a ragged batch are the sums of those of its sequences", Layer, RNN, LSTM, GRU) {
  Generator rng(1);
  Layer layer(D, H, rng, {.layers = 2, .bidirectional = Bidirectional::concatenated});
  randomise(layer);
  const Tensor x = random_tensor({T, N, D}, 7), weights = random_tensor({T, N, 2 * H}, 8);
  {
    Tape tape;
    tape.backward(sum(Var(layer(tape.constant(x), {}, some_lengths).y * tape.constant(weights))));
  }
  std::vector<Tensor> together;
  for (Parameter* parameter : layer.parameters()) together.push_back(parameter->grad());
  layer.zero_grad();
  for (Index n = 0; n < N; ++n) {
    const Index length = some_lengths[static_cast<std::size_t>(n)];
    if (length == 0) continue;
    Tape tape;
    auto part = [&](const Tensor& of) { return slice(slice(tape.constant(of), 0, 0, length), 1, n, n + 1); };
    tape.backward(sum(Var(layer(part(x)).y * part(weights))));
  }
  for (std::size_t k = 0; k < together.size(); ++k)
    CHECK(relative_error(layer.parameters()[k]->grad(), together[k]) < 1e-13);
}

namespace {

/// Everything a run gives, with all that draws random numbers switched on.
template <class Layer>
std::vector<Tensor> noisy_run(typename Layer::Options options, std::span<const Index> lengths, DType dtype = float64) {
  options.layers = 2;
  options.dropout = 0.2;
  options.input_dropout = 0.3;
  options.recurrent_dropout = 0.25;
  options.zoneout = 0.1;
  options.zoneout_cell = 0.2;
  Generator rng(1);
  Layer layer(D, 20, rng, options);
  randomise(layer, dtype);
  Tape tape;
  Var x = tape.variable(random_tensor({T, N, D}, 7, -1, 1, dtype));
  std::vector<Tensor> results;
  for (int repeat = 0; repeat < 2; ++repeat) {
    auto [y, state] = layer(x, {}, lengths);
    Var loss = sum(square(y));
    for (const Var& value : state.values) loss = loss + sum(square(value));
    tape.backward(loss);
    results.emplace_back(y.value());
    for (const Var& value : state.values) results.emplace_back(value.value());
  }
  results.emplace_back(x.grad());
  for (const Parameter* parameter : layer.parameters()) results.push_back(parameter->grad());
  return results;
}

void check_same(const std::vector<Tensor>& a, const std::vector<Tensor>& b) {
  REQUIRE(a.size() == b.size());
  for (std::size_t k = 0; k < a.size(); ++k) {
    CAPTURE(k);
    CHECK(same_bits(a[k], b[k]));
  }
}

}  // namespace

TEST_CASE_TEMPLATE("checkpoints and watching change no bit, with lengths, both directions and all noise", Layer, RNN,
                   LSTM, GRU) {
  for (DType dtype : {float32, float64})
    for (const std::vector<Index>& lengths : {std::vector<Index>{}, some_lengths}) {
      typename Layer::Options options{.bidirectional = Bidirectional::concatenated};
      const auto plain = noisy_run<Layer>(options, lengths, dtype);
      options.watch = true;
      check_same(noisy_run<Layer>(options, lengths, dtype), plain);
      options.watch = false;
      for (Index every : {1, 2, 5, 6}) {
        CAPTURE(every);
        options.checkpoint = every;
        check_same(noisy_run<Layer>(options, lengths, dtype), plain);
      }
    }
}

TEST_CASE_TEMPLATE("every combination learns", Layer, RNN, LSTM, GRU) {
  for (DType dtype : {float32, float64})
    for (bool ragged : {false, true})
      for_each_shape(
          typename Layer::Options{.dropout = 0.1, .input_dropout = 0.1, .recurrent_dropout = 0.1, .zoneout = 0.1},
          [&](typename Layer::Options options) {
            options.cell.layer_norm = ragged;
            Generator rng(3);
            Layer layer(D, 16, rng, options);
            Linear head(layer.outputs(), 1, rng);
            layer.to(dtype);
            head.to(dtype);
            std::vector<Parameter*> parameters = layer.parameters();
            parameters.insert(parameters.end(), head.parameters().begin(), head.parameters().end());
            Adam adam(parameters, {.rate = 0.02});
            const Tensor x = random_tensor({T, N, D}, 7, -1, 1, dtype),
                         target = random_tensor({T, N, 1}, 8, -1, 1, dtype);
            auto loss_of = [&](Tape& tape) {
              const auto lengths = ragged ? std::span<const Index>(some_lengths) : std::span<const Index>();
              return mse(head(layer(tape.constant(x), {}, lengths).y), tape.constant(target));
            };
            auto evaluate = [&] {
              layer.eval();
              Tape tape = Tape::inference();
              const double loss = loss_of(tape).item();
              layer.train();
              return loss;
            };
            const double first = evaluate();
            Tape tape;
            for (int step = 0; step < 40; ++step) {
              tape.clear();
              tape.backward(loss_of(tape));
              adam.step();
            }
            CHECK(evaluate() < 0.85 * first);
          });
}
