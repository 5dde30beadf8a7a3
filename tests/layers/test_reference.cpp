// Recurrent layers against their equations written out in plain loops, and against finite differences.

#include <autograd/autograd.h>
#include <layers/layers.h>
#include <tests/support.h>

#include <doctest/doctest.h>

#include <cmath>

using namespace unroll;
using namespace unroll::testing;

namespace {

// ---- The equations, one element at a time, without the tape --------------------------------------------------------

using States = std::vector<Tensor>;  // h (and c) of one layer, each [N, H]

double sigmoid_of(double x) { return 1 / (1 + std::exp(-x)); }

/// Element j of row n of x_t W, with x [T, N, D], or of h W with h [N, H].
double product(const Tensor& x, Index t, Index n, const Parameter& W, Index j) {
  double total = 0;
  for (Index d = 0; d < x.shape()[2]; ++d) total += x.at({t, n, d}) * W.value().at({d, j});
  return total;
}
double product(const Tensor& h, Index n, const Parameter& W, Index j) {
  double total = 0;
  for (Index k = 0; k < h.shape()[1]; ++k) total += h.at({n, k}) * W.value().at({k, j});
  return total;
}

void reference_step(const RNNCell& cell, const Tensor& x, Index t, States& s) {
  const Tensor h = s[0];
  for (Index n = 0; n < h.shape()[0]; ++n)
    for (Index j = 0; j < h.shape()[1]; ++j)
      s[0].set({n, j},
               std::tanh(product(h, n, cell.W_hh, j) + product(x, t, n, cell.W_xh, j) + cell.b.value().at({j})));
}

void reference_step(const LSTMCell& cell, const Tensor& x, Index t, States& s) {
  const Tensor h = s[0], c = s[1];
  const Index H = h.shape()[1];
  for (Index n = 0; n < h.shape()[0]; ++n)
    for (Index j = 0; j < H; ++j) {
      auto gate = [&](Index k) {
        const Index column = k * H + j;
        return product(h, n, cell.W_hh, column) + product(x, t, n, cell.W_ih, column) + cell.b.value().at({column});
      };
      const double i = sigmoid_of(gate(0)), f = sigmoid_of(gate(1)), candidate = std::tanh(gate(2));
      const double o = sigmoid_of(gate(3));
      const double next = f * c.at({n, j}) + i * candidate;
      s[1].set({n, j}, next);
      s[0].set({n, j}, o * std::tanh(next));
    }
}

void reference_step(const GRUCell& cell, const Tensor& x, Index t, States& s) {
  const Tensor h = s[0];
  const Index H = h.shape()[1];
  for (Index n = 0; n < h.shape()[0]; ++n)
    for (Index j = 0; j < H; ++j) {
      auto of_x = [&](Index k) { return product(x, t, n, cell.W_ih, k * H + j) + cell.b_ih.value().at({k * H + j}); };
      auto of_h = [&](Index k) { return product(h, n, cell.W_hh, k * H + j) + cell.b_hh.value().at({k * H + j}); };
      const double r = sigmoid_of(of_x(0) + of_h(0)), z = sigmoid_of(of_x(1) + of_h(1));
      const double candidate = std::tanh(of_x(2) + r * of_h(2));
      s[0].set({n, j}, (1 - z) * candidate + z * h.at({n, j}));
    }
}

/// All layers over all steps; `states` are each layer's, before and after.
template <class Layer>
Tensor reference(const Layer& model, Tensor x, std::vector<States>& states) {
  for (std::size_t layer = 0; layer < model.cells().size(); ++layer) {
    Tensor y({x.shape()[0], x.shape()[1], model.hidden()}, float64);
    for (Index t = 0; t < x.shape()[0]; ++t) {
      reference_step(model.cells()[layer], x, t, states[layer]);
      for (Index n = 0; n < y.shape()[1]; ++n)
        for (Index j = 0; j < y.shape()[2]; ++j) y.set({t, n, j}, states[layer][0].at({n, j}));
    }
    x = std::move(y);
  }
  return x;
}

// ---- Models --------------------------------------------------------------------------------------------------------

constexpr Index D = 4, H = 5;

template <class Layer>
constexpr std::size_t state_vars = std::is_same_v<Layer, LSTM> ? 2 : 1;

/// A model in double precision whose weights, biases too, are all random.
template <class Layer>
struct Model : Layer {
  Generator rng{1};
  explicit Model(Index layers, Index inputs = D, Index hidden = H) : Layer(inputs, hidden, rng, {.layers = layers}) {
    this->to(float64);
    for (std::uint64_t seed = 100; Parameter * parameter : this->parameters())
      parameter->value() = random_tensor(parameter->shape(), seed++);
  }
};

/// Random states, one Tensor for each Var: of layer 0, then of layer 1, ...
template <class Layer>
std::vector<Tensor> random_states(Index layers, Index batch, Index hidden = H) {
  std::vector<Tensor> states;
  for (std::size_t i = 0; i < static_cast<std::size_t>(layers) * state_vars<Layer>; ++i)
    states.push_back(random_tensor({batch, hidden}, 200 + i));
  return states;
}

RecurrentState carried(const std::vector<Tensor>& tensors) {
  RecurrentState state;
  state.tensors() = tensors;
  return state;
}

/// Steps `begin` to `end` of x [T, N, D].
Tensor steps(const Tensor& x, Index begin, Index end) {
  Tensor part({end - begin, x.shape()[1], x.shape()[2]}, x.dtype());
  const Index each = x.shape()[1] * x.shape()[2];
  std::copy_n(x.data<double>() + begin * each, part.size(), part.data<double>());
  return part;
}

/// sum(y * random) + sum(final state * random), each with random numbers of its own.
Var weighted_loss(const Var& y, std::span<const Var> final) {
  Var loss = sum(y * random_tensor(y.shape(), 300));
  for (std::uint64_t seed = 301; const Var& value : final)
    loss = loss + sum(value * random_tensor(value.shape(), seed++));
  return loss;
}

}  // namespace

#define ALL_LAYERS RNN, LSTM, GRU

TEST_CASE_TEMPLATE("forward: the equations in plain loops", Layer, ALL_LAYERS) {
  for (Index layers : {1, 2, 3})
    for (Index T : {1, 2, 7})
      for (Index N : {1, 3}) {
        CAPTURE(layers);
        CAPTURE(T);
        CAPTURE(N);
        Model<Layer> model(layers);
        const Tensor x = random_tensor({T, N, D}, 7);
        const std::vector<Tensor> initial = random_states<Layer>(layers, N);
        std::vector<States> expected;
        for (std::size_t i = 0; i < initial.size(); i += state_vars<Layer>)
          expected.emplace_back(initial.begin() + static_cast<std::ptrdiff_t>(i),
                                initial.begin() + static_cast<std::ptrdiff_t>(i + state_vars<Layer>));
        const Tensor expected_y = reference<Layer>(model, x, expected);

        Tape tape;
        auto [y, final] = model(tape.constant(x), carried(initial));
        CHECK(relative_error(y.value(), expected_y) < 1e-13);
        REQUIRE(final.values.size() == initial.size());
        for (std::size_t i = 0; i < final.values.size(); ++i)
          CHECK(relative_error(final.values[i].value(), expected[i / state_vars<Layer>][i % state_vars<Layer>]) <
                1e-13);
      }
}

TEST_CASE_TEMPLATE("float32 gives the values of float64 to single precision", Layer, ALL_LAYERS) {
  Model<Layer> model(2);
  const Tensor x = random_tensor({6, 3, D}, 7);
  Tape tape;
  const Tensor expected(model(tape.constant(x)).y.value());
  model.to(float32);
  tape.clear();
  Var y = model(tape.constant(x.to(float32))).y;
  CHECK(y.dtype() == float32);
  CHECK(relative_error(y.value(), expected) < 1e-6);
}

TEST_CASE_TEMPLATE("gradient of a cell over 6 steps", Cell, RNNCell, LSTMCell, GRUCell) {
  using Layer = Recurrent<Cell>;
  Generator rng(1);
  Cell cell(D, H, rng, {});
  cell.to(float64);
  for (std::uint64_t seed = 100; Parameter * parameter : cell.parameters())
    parameter->value() = random_tensor(parameter->shape(), seed++);
  std::vector<Tensor> inputs = random_states<Layer>(1, 3);
  inputs.push_back(random_tensor({6, 3, D}, 7));
  auto run = [&](Tape&, const std::vector<Var>& in) {
    typename Cell::State state;
    for (std::size_t i = 0; Var * value : detail::members(state)) *value = in[i++];
    Var gates_x = cell.project(in.back());
    std::vector<Var> outputs;
    for (Index t = 0; t < 6; ++t) {
      state = cell(gates_x[t], state);
      outputs.push_back(state.h);
    }
    std::vector<Var> final;
    for (const Var* value : detail::members(state)) final.push_back(*value);
    return weighted_loss(stack(outputs), final);
  };
  CHECK(gradient_error(run, inputs, cell.parameters()) < 1e-7);
}

TEST_CASE_TEMPLATE("gradient of a layer over several steps", Layer, ALL_LAYERS) {
  for (Index layers : {1, 2, 3})
    for (Index T : {1, 5, 8}) {
      CAPTURE(layers);
      CAPTURE(T);
      Model<Layer> model(layers, 3, 4);
      std::vector<Tensor> inputs = random_states<Layer>(layers, 2, 4);
      inputs.push_back(random_tensor({T, 2, 3}, 7));
      auto run = [&](Tape&, const std::vector<Var>& in) {
        auto [y, final] = model(in.back(), FinalState{std::span(in).first(in.size() - 1)});
        return weighted_loss(y, final.values);
      };
      CHECK(gradient_error(run, inputs, model.parameters()) < 1e-7);
    }
}

TEST_CASE_TEMPLATE("gradient of the weights over more rows than are gathered at once", Layer, ALL_LAYERS) {
  // Steps times batch is 2200; weight_gradient.cpp gathers at most 2048 rows for one product.
  Model<Layer> model(1, 2, 3);
  const Tensor x = random_tensor({110, 20, 2}, 7);
  auto run = [&](Tape& tape, const std::vector<Var>&) {
    auto [y, final] = model(tape.constant(x));
    return weighted_loss(y, final.values);
  };
  CHECK(gradient_error(run, {}, model.parameters()) < 1e-7);
}

TEST_CASE_TEMPLATE("gradient through an encoder's final state into a decoder", Layer, ALL_LAYERS) {
  Model<Layer> encoder(2, 3, 4), decoder(2, 2, 4);
  std::vector<Parameter*> parameters = encoder.parameters();
  for (Parameter* parameter : decoder.parameters()) {
    parameter->set_name("decoder." + parameter->name());
    parameters.push_back(parameter);
  }
  auto run = [&](Tape&, const std::vector<Var>& in) {
    auto [y, final] = decoder(in[1], encoder(in[0]).state);
    return weighted_loss(y, final.values);
  };
  CHECK(gradient_error(run, {random_tensor({5, 2, 3}, 7), random_tensor({3, 2, 2}, 8)}, parameters) < 1e-7);
}

TEST_CASE_TEMPLATE("no initial state is a zero initial state, bit for bit", Layer, ALL_LAYERS) {
  const Tensor x = random_tensor({6, 3, D}, 7);
  std::vector<Tensor> zeros;
  for (const Tensor& state : random_states<Layer>(2, 3)) zeros.emplace_back(state.shape(), float64);
  std::vector<std::vector<Tensor>> results;
  for (int way : {0, 1, 2}) {
    Model<Layer> model(2);
    Tape tape;
    std::vector<Var> initial;
    for (const Tensor& zero : zeros) initial.push_back(tape.constant(zero));
    Var in = tape.variable(x);
    auto [y, final] = way == 0 ? model(in) : way == 1 ? model(in, carried(zeros)) : model(in, FinalState{initial});
    tape.backward(weighted_loss(y, final.values));
    std::vector<Tensor>& result = results.emplace_back();
    result.emplace_back(y.value());
    result.emplace_back(in.grad());
    for (const Var& value : final.values) result.emplace_back(value.value());
    for (Parameter* parameter : model.parameters()) result.push_back(parameter->grad());
  }
  for (std::size_t i = 0; i < results[0].size(); ++i) {
    CAPTURE(i);
    CHECK(same_bits(results[0][i], results[1][i]));
    CHECK(same_bits(results[0][i], results[2][i]));
  }
}

TEST_CASE_TEMPLATE("state carried from window to window is one long window", Layer, ALL_LAYERS) {
  Model<Layer> model(2);
  const Tensor x = random_tensor({12, 3, D}, 7);
  Tape tape, whole;
  auto [y, final] = model(whole.constant(x));
  RecurrentState state;
  CHECK(state.empty());
  for (Index begin = 0; begin < 12; begin += 4) {
    tape.clear();
    auto [part, next] = model(tape.constant(steps(x, begin, begin + 4)), state);
    CHECK(relative_error(part.value(), steps(Tensor(y.value()), begin, begin + 4)) < 1e-14);
    state = detach(next);
    CHECK_FALSE(state.empty());
  }
  for (std::size_t i = 0; i < final.values.size(); ++i)
    CHECK(relative_error(state.tensors()[i], final.values[i].value()) < 1e-14);
  state.reset();
  CHECK(state.empty());
}

TEST_CASE_TEMPLATE("detach carries the values and stops the gradient", Layer, ALL_LAYERS) {
  Model<Layer> model(2);
  const Tensor first = random_tensor({5, 3, D}, 7), second = random_tensor({5, 3, D}, 8);
  Tape tape;
  Var x1 = tape.variable(first), x2 = tape.variable(second);
  RecurrentState state;
  auto [y1, s1] = model(x1);
  state = detach(s1);
  for (std::size_t i = 0; i < s1.values.size(); ++i) CHECK(same_bits(state.tensors()[i], s1.values[i].value()));

  SUBCASE("through a RecurrentState") {
    auto [y2, s2] = model(x2, state);
    tape.backward(weighted_loss(y2, s2.values));
  }
  SUBCASE("through Vars that are detached one by one") {
    std::vector<Var> initial;
    for (const Var& value : s1.values) initial.push_back(detach(value));
    auto [y2, s2] = model(x2, FinalState{initial});
    tape.backward(weighted_loss(y2, s2.values));
  }
  CHECK_ERROR(x1.grad(), "grad");
  std::vector<Tensor> expected;
  for (Parameter* parameter : model.parameters()) expected.push_back(parameter->grad());
  const Tensor expected_x2(x2.grad());

  // The second window alone, from the same numbers.
  model.zero_grad();
  Tape alone;
  Var x = alone.variable(second);
  auto [y, s] = model(x, state);
  alone.backward(weighted_loss(y, s.values));
  CHECK(same_bits(x.grad(), expected_x2));
  for (std::size_t i = 0; i < expected.size(); ++i) CHECK(same_bits(model.parameters()[i]->grad(), expected[i]));

  // Without detach the gradient does flow.
  Var z1 = tape.variable(first), z2 = tape.variable(second);
  auto [y2, s2] = model(z2, model(z1).state);
  tape.backward(weighted_loss(y2, s2.values));
  CHECK(relative_error(z1.grad(), Tensor(first.shape(), float64)) == 1);
}

TEST_CASE_TEMPLATE("the sequences of a batch do not see each other", Layer, ALL_LAYERS) {
  Model<Layer> model(2);
  const Tensor x = random_tensor({6, 3, D}, 7);
  Tape tape;
  const Tensor y(model(tape.constant(x)).y.value());
  for (Index n = 0; n < 3; ++n) {
    Tensor one({6, 1, D}, float64), expected({6, 1, H}, float64);
    for (Index t = 0; t < 6; ++t) {
      for (Index d = 0; d < D; ++d) one.set({t, 0, d}, x.at({t, n, d}));
      for (Index j = 0; j < H; ++j) expected.set({t, 0, j}, y.at({t, n, j}));
    }
    CHECK(relative_error(model(tape.constant(one)).y.value(), expected) < 1e-14);
  }
}

TEST_CASE_TEMPLATE("an inference tape gives the same bits", Layer, ALL_LAYERS) {
  Model<Layer> model(2);
  const Tensor x = random_tensor({6, 3, D}, 7);
  Tape tape, inference = Tape::inference();
  CHECK(same_bits(model(tape.variable(x)).y.value(), model(inference.variable(x)).y.value()));
}

TEST_CASE_TEMPLATE("wrong shapes are named with the user's line", Layer, ALL_LAYERS) {
  Model<Layer> model(2);
  Tape tape;
  Var x = tape.constant(random_tensor({6, 3, D}, 7));
  Var wide = tape.constant(random_tensor({6, 3, D + 3}, 7)), flat = tape.constant(random_tensor({6, D}, 7));
  Var none = tape.constant(Tensor({0, 3, D}, float64)), single = tape.constant(Tensor({6, 3, D}));
  CHECK_ERROR_HERE(model(wide), "Recurrent", "[6, 3, 7]", "[time, batch, 4]");
  CHECK_ERROR_HERE(model(flat), "Recurrent", "[6, 4]", "[time, batch, 4]");
  CHECK_ERROR_HERE(model(none), "Recurrent", "[0, 3, 4]", "at least one step");
  CHECK_ERROR_HERE(model(Var()), "Recurrent", "empty Var");
  CHECK_ERROR_HERE(model(single), "float32", "float64");

  const RecurrentState narrow = carried(random_states<Layer>(2, 3, H - 1)), other = carried(random_states<Layer>(2, 2));
  CHECK_ERROR_HERE(model(x, narrow), "Recurrent", "[3, 4]", "[3, 5]");
  CHECK_ERROR_HERE(model(x, other), "Recurrent", "[2, 5]", "[3, 5]");
  const RecurrentState shallow = carried(random_states<Layer>(1, 3));
  CHECK_ERROR_HERE(model(x, shallow), "Recurrent", fmt::format("needed are {}", 2 * state_vars<Layer>));
  std::vector<Var> one = {tape.constant(random_tensor({3, H}, 1))};
  CHECK_ERROR_HERE(model(x, FinalState{one}), "Recurrent", "1 values");

  Generator rng(1);
  CHECK_ERROR(Layer(0, 5, rng), "0 inputs");
  CHECK_ERROR(Layer(5, -1, rng), "-1 hidden");
  CHECK_ERROR(Layer(5, 5, rng, {.layers = 0}), "0 layers");
  CHECK_ERROR(Layer(5, 5, rng, {.layers = 2, .dropout = 1}), "dropout", "[0, 1)");
}

TEST_CASE_TEMPLATE("initial states given as Vars are checked like the others", Layer, ALL_LAYERS) {
  Model<Layer> model(2);
  Tape tape;
  Var x = tape.constant(random_tensor({6, 3, D}, 7));
  // Another batch, another size, nothing. None may be broadcast silently.
  for (const Shape& shape : {Shape{2, H}, Shape{1, H}, Shape{3, H + 1}, Shape{3, 1}, Shape{H}}) {
    CAPTURE(to_string(shape));
    std::vector<Var> initial(2 * state_vars<Layer>, tape.constant(random_tensor(shape, 1)));
    CHECK_ERROR_HERE(model(x, FinalState{initial}), "Recurrent", to_string(shape), "[3, 5]");
  }
  std::vector<Var> empty(2 * state_vars<Layer>);
  CHECK_ERROR_HERE(model(x, FinalState{empty}), "Recurrent", "empty Var");
}

// ---- The numbers worked out in the documents -----------------------------------------------------------------------

namespace {

/// One step, from h' = 0 and the given cell, of an LSTM whose gates are driven by its bias alone: each gate takes
/// exactly the given values, because the bias is the inverse of its function.
std::vector<double> cell_after(std::array<double, 3> before, std::array<double, 3> f, std::array<double, 3> i,
                               std::array<double, 3> candidates) {
  auto logit = [](double p) { return p == 0 ? -800 : p == 1 ? 800 : std::log(p / (1 - p)); };
  Generator rng(1);
  LSTM lstm(2, 3, rng);
  lstm.to(float64);
  for (Parameter* parameter : lstm.parameters()) parameter->value().fill(0);
  Tensor& b = lstm.parameter("bias_ih_l0").value();
  for (Index j = 0; j < 3; ++j) {
    const auto k = static_cast<std::size_t>(j);
    b.set({j}, logit(i[k]));
    b.set({3 + j}, logit(f[k]));
    b.set({6 + j}, std::atanh(candidates[k]));
  }
  Tape tape;
  RecurrentState state = carried({Tensor({1, 3}, float64), Tensor({1, 3}, before, float64)});
  return lstm(tape.constant(Tensor({1, 1, 2}, float64)), state).state.values[1].value().to_vector();
}

}  // namespace

TEST_CASE("a forget gate of [1, 0.7, 0.2] keeps all, most and little of the cell") {
  std::vector<double> c = cell_after({1, 1, 1}, {1, 0.7, 0.2}, {0, 0, 0}, {0.5, 0.5, 0.5});
  CHECK(c[0] == 1);
  CHECK(c[1] == doctest::Approx(0.7).epsilon(1e-14));
  CHECK(c[2] == doctest::Approx(0.2).epsilon(1e-14));
  c = cell_after({-3, 2, 10}, {1, 0.7, 0.2}, {0, 0, 0}, {0.5, 0.5, 0.5});
  CHECK(c[0] == -3);
  CHECK(c[1] == doctest::Approx(1.4).epsilon(1e-14));
  CHECK(c[2] == doctest::Approx(2).epsilon(1e-14));
}

TEST_CASE("an input gate of [0.9, 0.1, 0.5] writes [0.72, -0.03, 0.25] of [0.8, -0.3, 0.5]") {
  std::vector<double> c = cell_after({5, 5, 5}, {0, 0, 0}, {0.9, 0.1, 0.5}, {0.8, -0.3, 0.5});
  CHECK(c[0] == doctest::Approx(0.72).epsilon(1e-14));
  CHECK(c[1] == doctest::Approx(-0.03).epsilon(1e-14));
  CHECK(c[2] == doctest::Approx(0.25).epsilon(1e-14));
  // Both gates together.
  c = cell_after({1, 1, 1}, {1, 0.7, 0.2}, {0.9, 0.1, 0.5}, {0.8, -0.3, 0.5});
  CHECK(c[0] == doctest::Approx(1.72).epsilon(1e-14));
  CHECK(c[1] == doctest::Approx(0.67).epsilon(1e-14));
  CHECK(c[2] == doctest::Approx(0.45).epsilon(1e-14));
}

TEST_CASE("the forget gate's bias starts at 1, and all else within 1/sqrt(H)") {
  for (double forget_bias : {1.0, 0.25}) {
    Generator rng(1);
    LSTM lstm(3, 16, rng, {.layers = 2, .cell = {.forget_bias = forget_bias}});
    for (const LSTMCell& cell : lstm.cells())
      for (Index j = 0; j < 64; ++j) {
        const double b = cell.b.value().at({j});
        if (j >= 16 && j < 32)
          CHECK(b == forget_bias);
        else
          CHECK(std::abs(b) < 0.25);
      }
    for (Parameter* parameter : lstm.parameters()) {
      if (parameter->shape().rank() != 2) continue;
      std::vector<double> w = parameter->value().to_vector();
      CHECK(std::ranges::all_of(w, [](double v) { return std::abs(v) < 0.25; }));
      CHECK(*std::ranges::max_element(w) > 0.2);
      CHECK(*std::ranges::min_element(w) < -0.2);
    }
  }
  Generator rng(1);
  CHECK(LSTM(3, 4, rng).cells()[0].b.value().at({4}) == 1);
}
