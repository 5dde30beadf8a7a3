// Linear, Embedding, TiedLinear, LayerNorm, RMSNorm and Sequential: against plain loops, central differences and
// PyTorch.

#include <autograd/autograd.h>
#include <layers/dropout.h>
#include <layers/embedding.h>
#include <layers/linear.h>
#include <layers/normalization.h>
#include <layers/sequential.h>
#include <tests/support.h>

#include <doctest/doctest.h>

#include <cmath>
#include <memory>

using namespace unroll;
using namespace unroll::testing;

namespace {

std::vector<std::string> names_of(const Module& module) {
  std::vector<std::string> names;
  for (const Parameter* parameter : module.parameters()) names.push_back(parameter->name());
  return names;
}

/// Every weight a random number of its own: weights that are all alike hide mistakes.
void randomise(Module& module) {
  std::uint64_t seed = 50;
  for (Parameter* parameter : module.parameters())
    parameter->value() = random_tensor(parameter->shape(), seed++, -0.9, 0.9, parameter->dtype());
}

template <class Layer>
double gradient_error_of(Layer& layer, const Tensor& x) {
  auto run = [&](Tape&, const std::vector<Var>& in) { return Var(tanh(layer(in[0]))); };
  return gradient_error(run, {x}, layer.parameters());
}

}  // namespace

// ---- Linear --------------------------------------------------------------------------------------------------------

TEST_CASE("Linear: y = x W + b, over any leading axes") {
  Generator rng(1);
  Linear linear(3, 2, rng), bare(3, 2, rng, {.bias = false});
  linear.to(float64);
  bare.to(float64);
  const Tensor x = random_tensor({2, 4, 3}, 1);
  Tape tape;
  const Tensor y(linear(tape.constant(x)).value()), z(bare(tape.constant(x)).value());
  CHECK(y.shape() == Shape{2, 4, 2});
  for (Index i = 0; i < 2; ++i)
    for (Index j = 0; j < 4; ++j)
      for (Index k = 0; k < 2; ++k) {
        double expected = 0, without = 0;
        for (Index d = 0; d < 3; ++d) expected += x.at({i, j, d}) * linear.W.value().at({d, k});
        for (Index d = 0; d < 3; ++d) without += x.at({i, j, d}) * bare.W.value().at({d, k});
        CHECK(y.at({i, j, k}) == doctest::Approx(expected + linear.b.value().at({k})).epsilon(1e-14));
        CHECK(z.at({i, j, k}) == doctest::Approx(without).epsilon(1e-14));
      }
  CHECK(names_of(bare) == std::vector<std::string>{"weight"});
  for (const Shape& shape : {Shape{3}, Shape{5, 3}, Shape{2, 4, 3}, Shape{0, 3}})
    CHECK(linear(tape.constant(Tensor(shape, float64))).shape() == shape.with(shape.rank() - 1, 2));
  CHECK(gradient_error_of(linear, x) < 1e-7);
  CHECK(gradient_error_of(bare, x) < 1e-7);
}

TEST_CASE("Linear speaks of bad input in its own words") {
  Generator rng(1);
  Linear linear(3, 2, rng);
  Tape tape;
  Var wide = tape.constant(Tensor({2, 4})), scalar = tape.constant(Tensor(Shape{}));
  Var precise = tape.constant(Tensor({2, 3}, float64));
  CHECK_ERROR_HERE(linear(wide), "Linear: x is [2, 4] and the weight [3, 2]", "must be 3");
  CHECK_ERROR_HERE(linear(scalar), "Linear: x is []", "must be 3");
  CHECK_ERROR_HERE(linear(precise), "Linear: x is float64 and the weight float32", "to(float64)");
  CHECK_ERROR_HERE(linear(Var()), "Linear: an empty Var");
  CHECK_ERROR(Linear(0, 3, rng), "Linear: 0 inputs and 3 outputs", "at least 1");
  CHECK_ERROR(Linear(3, -1, rng), "Linear: 3 inputs and -1 outputs", "at least 1");
}

// ---- Embedding -----------------------------------------------------------------------------------------------------

TEST_CASE("Embedding: rows of its table; a row used twice gets both gradients") {
  Generator rng(1);
  Embedding embedding(5, 3, rng);
  embedding.to(float64);
  const std::vector<std::int32_t> ids = {4, 0, 4, 2};
  auto run = [&](Tape& tape, const std::vector<Var>& in) { return Var(embedding(tape, {ids, Shape{2, 2}}) * in[0]); };
  CHECK(gradient_error(run, {random_tensor({2, 2, 3}, 1)}, embedding.parameters()) < 1e-7);
  Tape tape;
  CHECK_ERROR_HERE(embedding(tape, std::vector<std::int32_t>{1, 5}), "5");
  CHECK_ERROR_HERE(embedding(tape, std::vector<std::int32_t>{-1}), "-1");
  CHECK_ERROR(Embedding(0, 3, rng), "Embedding: 0 tokens of size 3", "at least 1");
  CHECK_ERROR(Embedding(3, 0, rng), "Embedding: 3 tokens of size 0", "at least 1");
}

TEST_CASE("Embedding: the padding's row starts at 0 and is never trained") {
  const std::vector<std::int32_t> ids = {4, 1, 4, 2};
  for (Index padding : {4, -1}) {
    CAPTURE(padding);
    Generator rng(1), same(1);
    Embedding embedding(5, 3, rng, {.padding = padding}), plain(5, 3, same);
    for (Index row = 0; row < 5; ++row)
      for (Index d = 0; d < 3; ++d)
        CHECK(embedding.W.value().at({row, d}) == (row == 4 ? 0 : plain.W.value().at({row, d})));

    Tape tape;
    Var y = embedding(tape, ids);
    tape.backward(y, Tensor::full({4, 3}, 2));
    CHECK(same_bits(embedding.W.grad(), Tensor({5, 3}, {0, 0, 0, 2, 2, 2, 2, 2, 2, 0, 0, 0, 0, 0, 0})));
  }
  Generator rng(1);
  CHECK_ERROR(Embedding(5, 3, rng, {.padding = 5}), "Embedding: padding index 5", "[-5, 5)");
  CHECK_ERROR(Embedding(5, 3, rng, {.padding = -6}), "Embedding: padding index -6", "[-5, 5)");
}

TEST_CASE("TiedLinear: logits = h W^T + b, and the table gets the gradients of both uses") {
  Generator rng(1);
  Embedding embedding(5, 3, rng);
  TiedLinear head(embedding.W), bare(embedding.W, {.bias = false});
  CHECK(names_of(head) == std::vector<std::string>{"weight", "bias"});
  CHECK(same_bits(head.b.value(), Tensor({5})));
  head.to(float64);
  head.b.value() = random_tensor({5}, 3);
  const Tensor h = random_tensor({2, 2, 3}, 1), &W = embedding.W.value();
  Tape tape;
  const Tensor logits(head(tape.constant(h)).value()), without(bare(tape.constant(h)).value());
  REQUIRE(logits.shape() == Shape{2, 2, 5});
  for (Index i = 0; i < 2; ++i)
    for (Index j = 0; j < 2; ++j)
      for (Index v = 0; v < 5; ++v) {
        double expected = 0;
        for (Index d = 0; d < 3; ++d) expected += h.at({i, j, d}) * W.at({v, d});
        CHECK(without.at({i, j, v}) == doctest::Approx(expected).epsilon(1e-14));
        CHECK(logits.at({i, j, v}) == doctest::Approx(expected + head.b.value().at({v})).epsilon(1e-14));
      }

  const std::vector<std::int32_t> ids = {4, 0, 4, 2};
  auto both = [&](Tape& tape, const std::vector<Var>& in) {
    Var h = tanh(embedding(tape, {ids, Shape{2, 2}}) + in[0]);
    return Var(tanh(head(h)));
  };
  CHECK(gradient_error(both, {h}, head.parameters()) < 1e-7);

  Var wide = tape.constant(Tensor({2, 4}, float64)), single = tape.constant(Tensor({2, 3}));
  CHECK_ERROR_HERE(head(wide), "TiedLinear: x is [2, 4] and the weight [5, 3]", "must be 3");
  CHECK_ERROR_HERE(head(single), "TiedLinear: x is float32 and the weight float64");
  Parameter vector({4});
  CHECK_ERROR(TiedLinear(vector), "TiedLinear", "[4]", "table");
}

// ---- Normalisation -------------------------------------------------------------------------------------------------

TEST_CASE("LayerNorm and RMSNorm: their equations, over any leading axes") {
  LayerNorm layer(4, {.epsilon = 0.01}), unbiased(4, {.bias = false});
  RMSNorm rms(4, {.epsilon = 0.02});
  CHECK(names_of(layer) == std::vector<std::string>{"weight", "bias"});
  CHECK(names_of(unbiased) == std::vector<std::string>{"weight"});
  CHECK(names_of(rms) == std::vector<std::string>{"weight"});
  CHECK(same_bits(layer.gain.value(), Tensor::full({4}, 1)));
  CHECK(same_bits(layer.bias.value(), Tensor({4})));
  CHECK(same_bits(rms.gain.value(), Tensor::full({4}, 1)));
  for (Module* module : std::initializer_list<Module*>{&layer, &unbiased, &rms}) {
    module->to(float64);
    randomise(*module);
  }
  const Tensor x = random_tensor({2, 3, 4}, 1);
  Tape tape;
  const Tensor y(layer(tape.constant(x)).value()), z(rms(tape.constant(x)).value());
  const Tensor u(unbiased(tape.constant(x)).value());
  for (Index i = 0; i < 2; ++i)
    for (Index j = 0; j < 3; ++j) {
      double mean = 0, variance = 0, squares = 0;
      for (Index d = 0; d < 4; ++d) mean += x.at({i, j, d}) / 4;
      for (Index d = 0; d < 4; ++d) variance += std::pow(x.at({i, j, d}) - mean, 2) / 4;
      for (Index d = 0; d < 4; ++d) squares += std::pow(x.at({i, j, d}), 2) / 4;
      for (Index d = 0; d < 4; ++d) {
        const double centred = x.at({i, j, d}) - mean, bias = layer.bias.value().at({d});
        CHECK(y.at({i, j, d}) ==
              doctest::Approx(centred / std::sqrt(variance + 0.01) * layer.gain.value().at({d}) + bias).epsilon(1e-13));
        CHECK(u.at({i, j, d}) ==
              doctest::Approx(centred / std::sqrt(variance + 1e-5) * unbiased.gain.value().at({d})).epsilon(1e-13));
        CHECK(z.at({i, j, d}) ==
              doctest::Approx(x.at({i, j, d}) / std::sqrt(squares + 0.02) * rms.gain.value().at({d})).epsilon(1e-13));
      }
    }
  CHECK(gradient_error_of(layer, x) < 1e-6);
  CHECK(gradient_error_of(unbiased, x) < 1e-6);
  CHECK(gradient_error_of(rms, x) < 1e-6);
}

TEST_CASE("LayerNorm and RMSNorm speak of bad input in their own words") {
  LayerNorm layer(4);
  RMSNorm rms(4);
  Tape tape;
  Var wide = tape.constant(Tensor({2, 5})), precise = tape.constant(Tensor({2, 4}, float64));
  CHECK_ERROR_HERE(layer(wide), "LayerNorm: x is [2, 5]", "must be 4");
  CHECK_ERROR_HERE(rms(wide), "RMSNorm: x is [2, 5]", "must be 4");
  CHECK_ERROR_HERE(layer(precise), "LayerNorm: x is float64", "to(float64)");
  CHECK_ERROR_HERE(rms(Var()), "RMSNorm: an empty Var");
  CHECK_ERROR(LayerNorm(0), "LayerNorm: the size is 0");
  CHECK_ERROR(RMSNorm(-2), "RMSNorm: the size is -2");
  CHECK_ERROR(LayerNorm(4, {.epsilon = 0}), "LayerNorm: epsilon is 0");
  CHECK_ERROR(RMSNorm(4, {.epsilon = std::nan("")}), "RMSNorm: epsilon is nan");
}

// ---- Sequential ----------------------------------------------------------------------------------------------------

static_assert(!std::is_copy_constructible_v<Sequential> && !std::is_move_constructible_v<Sequential>);

namespace {

struct Network : Module {
  Linear last;
  Sequential net;
  explicit Network(Generator& rng)
      : last(5, 2, rng),
        net([&] { return Linear(3, 4, rng, {.bias = false}); },  //
            [](const Var& x) { return tanh(x); }, std::make_unique<Linear>(4, 5, rng),
            [&] { return Sequential([&] { return Dropout(0.5, rng); }, [](const Var& x) { return 2 * x; }); }, last) {
    add("net", net);
  }
};

}  // namespace

TEST_CASE("Sequential: modules made in place, handed over and by reference, functions, and another Sequential") {
  Generator rng(1), same(1);
  Network model(rng);
  CHECK(model.net.size() == 5);
  CHECK(names_of(model) ==
        std::vector<std::string>{"net.0.weight", "net.2.weight", "net.2.bias", "net.4.weight", "net.4.bias"});
  CHECK(&model.parameter("net.4.weight") == &model.last.W);
  REQUIRE(model.generators().size() == 1);
  CHECK(model.generators()[0].first == "net.3.0.generator");

  model.to(float64);
  randomise(model);
  const Tensor x = random_tensor({6, 3}, 1);
  Tape tape;
  auto run = [&] { return Tensor(model.net(tape.constant(x)).value()); };
  CHECK_FALSE(same_bits(run(), run()));  // dropout
  model.eval();
  auto matrix = [&](const char* name) { return tape.constant(model.parameter(name).value()); };
  Var h = tanh(Var(matmul(tape.constant(x), matrix("net.0.weight"))));
  Var g = 2 * (matmul(h, matrix("net.2.weight")) + matrix("net.2.bias"));
  Var expected = matmul(g, matrix("net.4.weight")) + matrix("net.4.bias");
  CHECK(relative_error(run(), expected.value()) < 1e-15);
  CHECK(gradient_error_of(model.net, x) < 1e-6);
}

TEST_CASE("Sequential: parts added one by one; with none, y = x") {
  Generator rng(1);
  Sequential net;
  Tape tape;
  const Tensor x = random_tensor({2, 3}, 1, -1, 1, float32);
  CHECK(same_bits(net(tape.constant(x)).value(), x));
  Linear last(3, 2, rng);
  for (int i = 0; i < 3; ++i) net.append(std::make_unique<Linear>(3, 3, rng)).append([](const Var& v) { return v; });
  net.append(last);
  CHECK(names_of(net).size() == 8);
  CHECK(names_of(net).back() == "6.bias");
  CHECK(net(tape.constant(x)).shape() == Shape{2, 2});
}

TEST_CASE("Sequential: errors are at the caller's line; what cannot be added is refused") {
  Generator rng(1);
  Linear linear(3, 3, rng);
  Sequential net(linear, [](const Var& x) { return tanh(x); });
  Tape tape;
  Var wide = tape.constant(Tensor({2, 4}));
  CHECK_ERROR_HERE(net(wide), "Linear: x is [2, 4]");
  CHECK_ERROR(net.append(linear), "\"2\" has already been added as \"0\"");
  CHECK_ERROR(net.append(std::unique_ptr<Linear>()), "part 2 is a null pointer");
  CHECK(net.size() == 2);
  Sequential outer(net);
  CHECK(names_of(outer) == std::vector<std::string>{"0.0.weight", "0.0.bias"});
  CHECK_ERROR(net.append(std::make_unique<Linear>(3, 3, rng)), "\"2\" comes too late");
  CHECK(net.size() == 2);
}

// ---- PyTorch -------------------------------------------------------------------------------------------------------

TEST_CASE("all of them in a row are PyTorch's, whose tied state_dict loads as it is") {
  struct Model : Module {
    Embedding embedding;
    Sequential net;
    RMSNorm norm{4};
    TiedLinear head;
    explicit Model(Generator& rng)
        : embedding(7, 4, rng, {.padding = 2}),
          net([&] { return Linear(4, 5, rng); }, [](const Var& x) { return tanh(x); }, std::make_unique<LayerNorm>(5),
              [&] { return Linear(5, 4, rng); }),
          head(embedding.W) {
      add("embedding", embedding);
      add("net", net);
      add("norm", norm);
      add("head", head);
    }
  };
  const auto file = read_safetensors(UNROLL_SOURCE_DIR "/tests/golden/layers.safetensors").tensors;
  std::map<std::string, Tensor> state, grads;
  for (const auto& [name, tensor] : file) {
    if (name.starts_with("state.")) state[name.substr(6)] = tensor;
    if (name.starts_with("grad.")) grads[name.substr(5)] = tensor;
  }
  std::vector<std::int32_t> ids, targets;
  for (double id : file.at("ids").to_vector()) ids.push_back(static_cast<std::int32_t>(id));
  for (double id : file.at("targets").to_vector()) targets.push_back(static_cast<std::int32_t>(id));

  Generator rng(1);
  Model model(rng);
  model.to(float64);
  model.load_state_dict(state);
  const auto stored = model.state_dict();
  CHECK(stored.size() == state.size() - 1);  // the shared table once
  for (const auto& entry : stored) CHECK(same_bits(entry.second, state.at(entry.first)));

  Tape tape;
  Var logits = model.head(model.norm(model.net(model.embedding(tape, {ids, Shape{2, 3}}))));
  Var loss = cross_entropy(logits, {targets, Shape{2, 3}});
  tape.backward(loss);
  CHECK(relative_error(logits.value(), file.at("logits")) < 1e-12);
  CHECK(relative_error(loss.value(), file.at("loss")) < 1e-12);
  REQUIRE(grads.size() == model.parameters().size());
  for (const Parameter* parameter : model.parameters()) {
    CAPTURE(parameter->name());
    const bool transposed = parameter->name().starts_with("net") && parameter->shape().rank() == 2;
    const Tensor grad = transposed ? parameter->grad().transposed() : parameter->grad();
    CHECK(relative_error(grad, grads.at(parameter->name())) < 1e-12);
  }
}
