// Layers against PyTorch's outputs and raw gradients, from the files that tests/golden/make_golden.py writes.

#include <autograd/autograd.h>
#include <layers/layers.h>
#include <tests/support.h>

#include <doctest/doctest.h>

#include <cstdlib>
#include <string>

using namespace unroll;
using namespace unroll::testing;

namespace {

using Tensors = std::map<std::string, Tensor>;

Tensors golden(const std::string& name) {
  return read_safetensors(UNROLL_SOURCE_DIR "/tests/golden/" + name + ".safetensors").tensors;
}

/// The entries whose names begin with the prefix, without it.
Tensors with_prefix(const Tensors& all, const std::string& prefix) {
  Tensors found;
  for (const auto& [name, tensor] : all)
    if (name.starts_with(prefix)) found[name.substr(prefix.size())] = tensor;
  return found;
}

Tensors weights_of(const Tensors& all) {
  Tensors found;
  for (const auto& [name, tensor] : all)
    if (name.starts_with("weight_") || name.starts_with("bias_")) found[name] = tensor;
  return found;
}

/// Layer `layer` of PyTorch's [layers, N, H].
Tensor layer_of(const Tensor& states, Index layer) {
  Tensor state({states.shape()[1], states.shape()[2]}, float64);
  std::copy_n(states.data<double>() + layer * state.size(), state.size(), state.data<double>());
  return state;
}

/// A gradient as PyTorch lays it out: weight matrices are transposed there.
Tensor as_stored(const Parameter& parameter) {
  return parameter.shape().rank() == 2 ? parameter.grad().transposed() : parameter.grad();
}

constexpr double tolerance = 1e-12;  // the bar is 1e-6; observed are 1e-15

/// One run of `model` with PyTorch's loss, sum(y * r.y) + sum(h_n * r.h_n) + ..., and all comparisons.
template <class Layer>
void compare(Layer& model, const Tensors& file, const std::string& state, const std::vector<std::string>& names) {
  const auto layers = static_cast<Index>(model.cells().size());
  const Tensors expected = with_prefix(file, state + ".");
  const bool given = state == "given";
  model.zero_grad();

  Tape tape;
  Var x = tape.variable(file.at("x"));
  std::vector<Var> initial;
  for (Index layer = 0; layer < layers && given; ++layer)
    for (const std::string& name : names) initial.push_back(tape.variable(layer_of(file.at(name + "_0"), layer)));
  auto [y, final] = given ? model(x, FinalState{initial}) : model(x);

  CHECK(relative_error(y.value(), expected.at("y")) < tolerance);
  REQUIRE(final.values.size() == static_cast<std::size_t>(layers) * names.size());
  Var loss = sum(y * file.at("r.y"));
  for (std::size_t i = 0; i < final.values.size(); ++i) {
    const std::string& name = names[i % names.size()];
    const auto layer = static_cast<Index>(i / names.size());
    CAPTURE(layer);
    CAPTURE(name);
    CHECK(relative_error(final.values[i].value(), layer_of(expected.at(name + "_n"), layer)) < tolerance);
    loss = loss + sum(final.values[i] * layer_of(file.at("r." + name + "_n"), layer));
  }

  tape.backward(loss);
  CHECK(relative_error(x.grad(), expected.at("grad.x")) < tolerance);
  for (std::size_t i = 0; i < initial.size(); ++i) {
    const Tensor& grad = expected.at("grad." + names[i % names.size()] + "_0");
    CHECK(relative_error(initial[i].grad(), layer_of(grad, static_cast<Index>(i / names.size()))) < tolerance);
  }
  // Every gradient that PyTorch has is looked for. Where PyTorch adds two biases and we keep the sum, the
  // gradients of both are that of the sum.
  std::size_t compared = 0;
  for (const auto& entry : with_prefix(expected, "grad.")) {
    const auto& name = entry.first;  // Clang 14 cannot capture a structured binding
    const auto& grad = entry.second;
    if (!name.starts_with("weight_") && !name.starts_with("bias_")) continue;
    CAPTURE(name);
    std::string ours = name;
    if (!std::is_same_v<Layer, GRU> && ours.starts_with("bias_hh")) ours.replace(0, 7, "bias_ih");
    CHECK(relative_error(as_stored(model.parameter(ours)), grad) < tolerance);
    ++compared;
  }
  CHECK(compared == static_cast<std::size_t>(4 * layers));
}

template <class Layer>
void compare_all(const std::string& kind, const std::vector<std::string>& names) {
  const Tensors all = golden(kind);
  for (Index layers : {1, 2}) {
    const Tensors file = with_prefix(all, std::to_string(layers) + ".");
    Generator rng(1);
    Layer model(4, 5, rng, {.layers = layers});
    model.to(float64);
    model.load_state_dict(weights_of(file));
    for (const char* state : {"given", "absent"}) {
      CAPTURE(layers);
      CAPTURE(state);
      compare(model, file, state, names);
    }

    // The same initial state carried in as plain tensors.
    RecurrentState carried;
    for (Index layer = 0; layer < layers; ++layer)
      for (const std::string& name : names) carried.tensors().push_back(layer_of(file.at(name + "_0"), layer));
    Tape tape = Tape::inference();
    CHECK(relative_error(model(tape.constant(file.at("x")), carried).y.value(), file.at("given.y")) < tolerance);
  }
}

}  // namespace

TEST_CASE("LSTM: outputs, states and gradients are PyTorch's") { compare_all<LSTM>("lstm", {"h", "c"}); }
TEST_CASE("GRU: outputs, states and gradients are PyTorch's") { compare_all<GRU>("gru", {"h"}); }
TEST_CASE("RNN: outputs, states and gradients are PyTorch's") { compare_all<RNN>("rnn", {"h"}); }

TEST_CASE_TEMPLATE("state_dict has PyTorch's names and layouts", Layer, LSTM, GRU, RNN) {
  const std::string kind = std::is_same_v<Layer, LSTM> ? "lstm" : std::is_same_v<Layer, GRU> ? "gru" : "rnn";
  const Tensors all = golden(kind);
  for (Index layers : {1, 2}) {
    const Tensors expected = weights_of(with_prefix(all, std::to_string(layers) + "."));
    Generator rng(1);
    Layer model(4, 5, rng, {.layers = layers});
    model.to(float64);
    model.load_state_dict(expected);
    const Tensors state = model.state_dict();
    REQUIRE(state.size() == expected.size());
    REQUIRE(state.size() == static_cast<std::size_t>(4 * layers));
    for (const auto& entry : expected) {
      const auto& name = entry.first;  // Clang 14 cannot capture a structured binding
      const auto& tensor = entry.second;
      CAPTURE(name);
      REQUIRE(state.contains(name));
      REQUIRE(state.at(name).shape() == tensor.shape());
      const bool bias = name.starts_with("bias_");
      if (!bias || kind == "gru") {
        CHECK(same_bits(state.at(name), tensor));
      } else if (name.starts_with("bias_ih")) {  // the sum of both, and zeros
        const std::string other = "bias_hh" + name.substr(7);
        for (Index i = 0; i < tensor.size(); ++i)
          CHECK(state.at(name).at({i}) == tensor.at({i}) + expected.at(other).at({i}));
        CHECK(same_bits(state.at(other), Tensor(tensor.shape(), float64)));
      }
    }
  }
}

namespace {

/// One case of recurrent_options: outputs, final states and all gradients, from given initial states.
template <class Layer>
void compare_options(const std::string& name, typename Layer::Options options, const std::vector<Index>& lengths = {}) {
  CAPTURE(name);
  const Tensors file = with_prefix(golden("recurrent_options"), name + ".");
  options.layers = 2;
  Generator rng(1);
  Layer model(4, 5, rng, options);
  model.to(float64);
  model.load_state_dict(weights_of(file));
  const std::vector<std::string> vars =
      std::is_same_v<Layer, LSTM> ? std::vector<std::string>{"h", "c"} : std::vector<std::string>{"h"};
  Tape tape;
  Var x = tape.variable(file.at("x"));
  std::vector<Var> initial;
  for (std::size_t k = 0; k < model.cells().size(); ++k)
    for (const std::string& var : vars)
      initial.push_back(tape.variable(layer_of(file.at(var + "_0"), static_cast<Index>(k))));
  auto [y, final] = model(x, FinalState{initial}, lengths);
  CHECK(relative_error(y.value(), file.at("y")) < tolerance);
  Var loss = sum(y * file.at("r.y"));
  for (std::size_t i = 0; i < initial.size(); ++i) {
    const std::string& var = vars[i % vars.size()];
    const auto cell = static_cast<Index>(i / vars.size());
    CHECK(relative_error(final.values[i].value(), layer_of(file.at(var + "_n"), cell)) < tolerance);
    loss = loss + sum(final.values[i] * layer_of(file.at("r." + var + "_n"), cell));
  }
  tape.backward(loss);
  CHECK(relative_error(x.grad(), file.at("grad.x")) < tolerance);
  for (std::size_t i = 0; i < initial.size(); ++i) {
    const Tensor& grad = file.at("grad." + vars[i % vars.size()] + "_0");
    CHECK(relative_error(initial[i].grad(), layer_of(grad, static_cast<Index>(i / vars.size()))) < tolerance);
  }
  const Tensors grads = with_prefix(file, "grad."), weights = weights_of(grads);
  CHECK(weights.size() == weights_of(file).size());
  for (const auto& entry : weights) {
    std::string ours = entry.first;
    CAPTURE(ours);
    if (!std::is_same_v<Layer, GRU> && ours.starts_with("bias_hh")) ours.replace(0, 7, "bias_ih");
    CHECK(relative_error(as_stored(model.parameter(ours)), entry.second) < tolerance);
  }
}

}  // namespace

TEST_CASE("both directions, projections, lengths, ReLU, no bias, batch first: PyTorch's") {
  constexpr auto both = Bidirectional::concatenated;
  compare_options<LSTM>("lstm_bidirectional", {.bidirectional = both});
  compare_options<LSTM>("lstm_projection", {.bidirectional = both, .cell = {.projection = 2}});
  compare_options<LSTM>("lstm_ragged", {.bidirectional = both}, {4, 6, 1});
  compare_options<LSTM>("lstm_ragged_projection", {.cell = {.projection = 2}}, {4, 6, 1});
  compare_options<GRU>("gru_bidirectional", {.bidirectional = both, .cell = {.bias = false}});
  compare_options<GRU>("gru_ragged", {.bidirectional = both}, {2, 2, 5});
  compare_options<RNN>("rnn_relu",
                       {.batch_first = true, .cell = {.nonlinearity = RNNCell::Nonlinearity::relu, .bias = false}});
  compare_options<RNN>("rnn_ragged", {.bidirectional = both}, {1, 6, 3});
}

namespace {

template <class Layer>
void write_for_pytorch(const std::filesystem::path& folder, const std::string& name, const std::string& options,
                       typename Layer::Options ours) {
  Generator rng(1);
  Layer layer(3, 4, rng, ours);
  layer.to(float64);
  for (std::uint64_t seed = 1; Parameter * parameter : layer.parameters())
    parameter->value() = random_tensor(parameter->shape(), seed++);
  Tape tape;
  auto [y, state] = layer(tape.constant(random_tensor({5, 2, 3}, 1)));
  const std::size_t vars = std::is_same_v<Layer, LSTM> ? 2 : 1;
  const std::string kind = std::is_same_v<Layer, LSTM> ? "LSTM" : std::is_same_v<Layer, GRU> ? "GRU" : "RNN";
  save_weights(folder / (name + ".weights.safetensors"), layer, {{"kind", kind}, {"options", options}});
  write_safetensors(folder / (name + ".run.safetensors"),
                    {{{"x", random_tensor({5, 2, 3}, 1)},
                      {"y", Tensor(y.value())},
                      {"h", Tensor(state.values[state.values.size() - vars].value())}},
                     {}});
}

}  // namespace

// Of use to tests/pytorch/weights.py, which says where.
TEST_CASE("weights for PyTorch to read") {
  const char* folder = std::getenv("UNROLL_WEIGHTS_FOLDER");
  if (folder == nullptr) return;
  constexpr auto both = Bidirectional::concatenated;
  write_for_pytorch<LSTM>(folder, "lstm", R"({"num_layers": 2, "bidirectional": true})",
                          {.layers = 2, .bidirectional = both});
  write_for_pytorch<LSTM>(folder, "lstm_projection", R"({"proj_size": 2})", {.cell = {.projection = 2}});
  write_for_pytorch<GRU>(folder, "gru", R"({"num_layers": 2, "bidirectional": true})",
                         {.layers = 2, .bidirectional = both});
  write_for_pytorch<GRU>(folder, "gru_no_bias", R"({"bias": false})", {.cell = {.bias = false}});
  write_for_pytorch<RNN>(folder, "rnn", R"({"num_layers": 2})", {.layers = 2});
  write_for_pytorch<RNN>(folder, "rnn_relu", R"({"nonlinearity": "relu"})",
                         {.cell = {.nonlinearity = RNNCell::Nonlinearity::relu}});
}

TEST_CASE("Embedding, Linear and cross-entropy are PyTorch's") {
  struct Model : Module {
    Embedding embedding;
    Linear head;
    explicit Model(Generator& rng) : embedding(7, 4, rng), head(4, 6, rng) {
      add("embedding", embedding);
      add("head", head);
    }
  };
  const Tensors file = golden("losses");
  Generator rng(1);
  Model model(rng);
  model.to(float64);
  Tensors weights;
  for (const char* name : {"embedding.weight", "head.weight", "head.bias"}) weights[name] = file.at(name);
  model.load_state_dict(weights);

  std::vector<std::int32_t> ids, targets;
  for (double id : file.at("ids").to_vector()) ids.push_back(static_cast<std::int32_t>(id));
  for (double id : file.at("targets").to_vector()) targets.push_back(static_cast<std::int32_t>(id));

  Tape tape;
  Var hidden = model.embedding(tape, {ids, Shape{3, 3}});
  Var logits = model.head(hidden);
  Var loss = cross_entropy(logits, {targets, Shape{3, 3}});
  CHECK(same_bits(hidden.value(), file.at("hidden")));
  CHECK(relative_error(logits.value(), file.at("logits")) < tolerance);
  CHECK(relative_error(loss.value(), file.at("loss")) < tolerance);
  tape.backward(loss);
  CHECK(relative_error(model.embedding.W.grad(), file.at("grad.embedding.weight")) < tolerance);
  CHECK(relative_error(model.head.W.grad().transposed(), file.at("grad.head.weight")) < tolerance);
  CHECK(relative_error(model.head.b.grad(), file.at("grad.head.bias")) < tolerance);
}

TEST_CASE("log_softmax of logits of size 1e4 and of minus infinity is PyTorch's") {
  const Tensors file = golden("losses");
  Tape tape;
  Var x = tape.variable(file.at("large.x"));
  Var y = log_softmax(x);
  CHECK(relative_error(y.value(), file.at("large.y")) < tolerance);
  // The third row's logits are 1e4, 1e4 + 1, ...: its results are of size 1 and would drown in the others'.
  for (Index j = 0; j < 6; ++j)
    CHECK(y.value().at({2, j}) == doctest::Approx(file.at("large.y").at({2, j})).epsilon(tolerance));
  tape.backward(y, file.at("large.r"));
  CHECK(relative_error(x.grad(), file.at("large.grad")) < tolerance);
}

TEST_CASE_TEMPLATE("logits far from 0 lose nothing", Type, float, double) {
  // Every one of these is exact in float32, so the results must be those of 0, 1, 2, ...
  constexpr DType type = dtype_of<Type>;
  constexpr double last_digits = sizeof(Type) == 4 ? 1e-6 : 1e-14;
  Tensor near({2, 4}, {0, 1, 2, 0.5, 3, 0, 0, 1}, type), far = near;
  for (Index i = 0; i < far.size(); ++i) far.data<Type>()[i] += i < 4 ? 10000 : -30000;
  const Tensor seed = random_tensor({2, 4}, 5, -1, 1, type);
  const std::vector<std::int32_t> targets = {1, 3};

  Tape tape;
  Var a = tape.variable(near), b = tape.variable(far);
  Var y_a = log_softmax(a), y_b = log_softmax(b);
  CHECK(relative_error(y_b.value(), y_a.value()) < last_digits);
  tape.backward(y_a, seed);
  tape.backward(y_b, seed);
  CHECK(relative_error(b.grad(), a.grad()) < last_digits);

  Var c = tape.variable(near), d = tape.variable(far);
  Var loss_c = cross_entropy(c, targets), loss_d = cross_entropy(d, targets);
  CHECK(relative_error(loss_d.value(), loss_c.value()) < last_digits);
  tape.backward(loss_c);
  tape.backward(loss_d);
  CHECK(relative_error(d.grad(), c.grad()) < last_digits);
}
