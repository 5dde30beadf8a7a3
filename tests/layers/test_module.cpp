// Module: names, parameters, modes and weights in files; Dropout.

#include <autograd/autograd.h>
#include <layers/layers.h>
#include <tests/support.h>

#include <doctest/doctest.h>
#include <oneapi/tbb/global_control.h>

#include <filesystem>
#include <set>

using namespace unroll;
using namespace unroll::testing;

namespace {

struct Block : Module {
  Linear linear;
  Dropout dropout;
  explicit Block(Generator& rng) : linear(3, 3, rng), dropout(0.5, rng) {
    add("linear", linear);
    add("dropout", dropout);
  }
};

struct Model : Module {
  Embedding embedding;
  LSTM lstm;
  Block block;
  Linear head;
  Parameter scale{{3}};
  explicit Model(Generator& rng)
      : embedding(5, 2, rng), lstm(2, 3, rng, {.layers = 2, .dropout = 0.25}), block(rng), head(3, 5, rng) {
    add("embedding", embedding);
    add("lstm", lstm);
    add("block", block);
    add("head", head);
    scale.value().fill(1);
    add("scale", scale);
  }
};

std::vector<std::string> names_of(const Module& module) {
  std::vector<std::string> names;
  for (const Parameter* parameter : module.parameters()) names.push_back(parameter->name());
  return names;
}

const std::vector<std::string> model_names = {"embedding.weight", "lstm.weight_ih_l0",   "lstm.weight_hh_l0",
                                              "lstm.bias_ih_l0",  "lstm.weight_ih_l1",   "lstm.weight_hh_l1",
                                              "lstm.bias_ih_l1",  "block.linear.weight", "block.linear.bias",
                                              "head.weight",      "head.bias",           "scale"};

std::vector<Tensor> values_of(const Module& module) {
  std::vector<Tensor> values;
  for (const Parameter* parameter : module.parameters()) values.push_back(parameter->value());
  return values;
}

bool unchanged(const Module& module, const std::vector<Tensor>& before) {
  std::vector<Tensor> now = values_of(module);
  return std::equal(now.begin(), now.end(), before.begin(), before.end(),
                    [](const Tensor& a, const Tensor& b) { return same_bits(a, b); });
}

/// A file that is gone at the end of the test.
struct TemporaryFile {
  std::filesystem::path path;
  explicit TemporaryFile(const std::string& name) : path(std::filesystem::temp_directory_path() / name) {}
  ~TemporaryFile() { std::filesystem::remove(path); }
};

Tensor dropped(Dropout& dropout, const Tensor& x) {
  Tape tape;
  return Tensor(dropout(tape.constant(x)).value());
}

}  // namespace

TEST_CASE("names: nested, with the layer's number, in the order they were added") {
  Generator rng(1);
  Model model(rng);
  CHECK(names_of(model) == model_names);
  CHECK(&model.parameter("lstm.weight_hh_l1") == &model.lstm.cells()[1].W_hh);
  CHECK(&model.parameter("scale") == &model.scale);
  CHECK_ERROR(model.parameter("lstm.weight"), "\"lstm.weight\"", "embedding.weight", "lstm.bias_ih_l1", "scale");

  std::vector<std::string> streams;
  for (const auto& [name, generator] : model.generators()) streams.push_back(name);
  CHECK(streams == std::vector<std::string>{"lstm.dropout_l0.generator", "block.dropout.generator"});
}

TEST_CASE("count is the number of learned values") {
  Generator rng(1);
  Model model(rng);
  const Index lstm = (2 + 3 + 1) * 12 + (3 + 3 + 1) * 12;
  CHECK(model.count() == 5 * 2 + lstm + 3 * 3 + 3 + 3 * 5 + 5 + 3);
  CHECK(model.lstm.count() == lstm);
  CHECK(Linear(7, 2, rng, {.bias = false}).count() == 14);
}

TEST_CASE("a shared module's parameters are listed and counted once, and get the sum of the gradients") {
  struct Shared : Module {
    Linear linear;
    explicit Shared(Generator& rng) : linear(3, 3, rng) {
      add("first", linear);
      add("second", linear);
    }
  };
  Generator rng(1);
  Shared model(rng);
  model.to(float64);
  CHECK(names_of(model) == std::vector<std::string>{"first.weight", "first.bias"});
  CHECK(model.count() == 12);
  auto run = [&](Tape&, const std::vector<Var>& in) { return tanh(model.linear(Var(tanh(model.linear(in[0]))))); };
  CHECK(gradient_error(run, {random_tensor({4, 3}, 2)}, model.parameters()) < 1e-7);
}

TEST_CASE("a parameter that is added again is listed and counted once, under its first name") {
  struct Tied : Module {
    Embedding embedding;
    explicit Tied(Generator& rng) : embedding(5, 3, rng) {
      add("embedding", embedding);
      add("output", embedding.W);
    }
  };
  Generator rng(1);
  Tied model(rng);
  CHECK(names_of(model) == std::vector<std::string>{"embedding.weight"});
  CHECK(model.count() == 15);
  CHECK(model.state_dict().size() == 1);
}

TEST_CASE("the state_dict of a part of a model has its own names, as if it stood alone") {
  Generator rng(1);
  Model model(rng);
  std::set<std::string> names, stored;
  for (const auto& [name, tensor] : model.lstm.state_dict()) stored.insert(name);
  for (const char* name : {"weight_ih_l", "weight_hh_l", "bias_ih_l", "bias_hh_l"})
    for (int layer : {0, 1}) names.insert(fmt::format("{}{}", name, layer));
  CHECK(stored == names);
}

TEST_CASE("train and eval reach every child") {
  Generator rng(1);
  Model model(rng);
  CHECK(model.training());
  CHECK(model.block.dropout.training());
  model.eval();
  for (const Module* module : std::initializer_list<Module*>{&model, &model.lstm, &model.block, &model.block.dropout})
    CHECK_FALSE(module->training());
  CHECK_FALSE(model.lstm.cells()[0].training());
  model.block.train();
  CHECK_FALSE(model.training());
  CHECK(model.block.dropout.training());
  model.train();
  CHECK(model.lstm.training());
}

TEST_CASE("dropout between the layers of a recurrent layer acts in training only") {
  Generator rng(1);
  LSTM lstm(2, 8, rng, {.layers = 2, .dropout = 0.5}), plain(2, 8, rng, {.layers = 2});
  plain.load_state_dict(lstm.state_dict());
  const Tensor x = random_tensor({5, 3, 2}, 1, -1, 1, float32);
  Tape tape;
  auto run = [&](LSTM& model) { return Tensor(model(tape.constant(x)).y.value()); };
  CHECK_FALSE(same_bits(run(lstm), run(plain)));
  CHECK_FALSE(same_bits(run(lstm), run(lstm)));
  lstm.eval();
  CHECK(same_bits(run(lstm), run(plain)));
}

TEST_CASE("frozen parameters get no gradient; the others do") {
  Generator rng(1);
  Model model(rng);
  model.lstm.freeze();
  Tape tape;
  const std::vector<std::int32_t> ids = {0, 1, 2, 3, 4, 1};
  auto backward = [&] {
    tape.clear();
    Var y = model.lstm(model.embedding(tape, {ids, Shape{3, 2}})).y;
    tape.backward(cross_entropy(model.head(y), ids));
  };
  backward();
  for (const Parameter* parameter : model.lstm.parameters()) {
    CHECK_FALSE(parameter->trainable());
    CHECK_FALSE(parameter->has_grad());
  }
  CHECK(model.head.W.has_grad());
  CHECK(model.embedding.W.has_grad());  // the gradient goes through the frozen layer
  model.lstm.freeze(false);
  backward();
  for (const Parameter* parameter : model.lstm.parameters()) CHECK(parameter->has_grad());
  model.zero_grad();
  for (const Parameter* parameter : model.parameters()) {
    CHECK_FALSE(parameter->has_grad());
    CHECK(same_bits(parameter->grad(), Tensor(parameter->shape())));
  }
}

TEST_CASE("to converts every parameter, and back to float32 without a loss") {
  Generator rng(1);
  Model model(rng);
  const std::vector<Tensor> before = values_of(model);
  model.to(float64);
  for (const Parameter* parameter : model.parameters()) CHECK(parameter->dtype() == float64);
  for (const Parameter* parameter : model.parameters()) CHECK(parameter->grad().dtype() == float64);
  model.to(float32);
  CHECK(unchanged(model, before));
}

TEST_CASE("the same seed gives the same weights; another seed others") {
  Generator a(1), b(1), c(2);
  Model first(a), second(b), third(c);
  CHECK(unchanged(second, values_of(first)));
  CHECK_FALSE(same_bits(third.head.W.value(), first.head.W.value()));
}

TEST_CASE("state_dict: PyTorch's layout") {
  Generator rng(1);
  Model model(rng);
  auto state = model.state_dict();
  CHECK(state.size() == model_names.size() + 2);  // and two bias_hh
  CHECK(same_bits(state.at("head.weight"), model.head.W.value().transposed()));
  CHECK(state.at("head.weight").shape() == Shape{5, 3});
  CHECK(same_bits(state.at("embedding.weight"), model.embedding.W.value()));
  CHECK(state.at("lstm.weight_ih_l0").shape() == Shape{12, 2});
  CHECK(same_bits(state.at("lstm.bias_hh_l1"), Tensor({12})));
  CHECK(state.at("head.weight").at({4, 1}) == model.head.W.value().at({1, 4}));
}

TEST_CASE("weights survive a file, bit for bit") {
  TemporaryFile file("unroll_test_module.safetensors");
  Generator rng(1), other(2);
  Model model(rng), loaded(other);
  save_weights(file.path, model, {{"vocabulary", "abc\n"}});
  CHECK(load_weights(file.path, loaded) == std::map<std::string, std::string>{{"vocabulary", "abc\n"}});
  CHECK(unchanged(loaded, values_of(model)));
  CHECK(names_of(loaded) == model_names);

  SUBCASE("another type is converted") {
    loaded.to(float64);
    load_weights(file.path, loaded);
    CHECK(loaded.head.W.dtype() == float64);
    loaded.to(float32);
    CHECK(unchanged(loaded, values_of(model)));
  }
  SUBCASE("a file of another model names the file and changes nothing") {
    Linear linear(3, 5, rng);
    const std::vector<Tensor> before = values_of(linear);
    CHECK_ERROR(load_weights(file.path, linear), file.path.filename().string(), "weight is missing", "bias is missing",
                "scale is unexpected");
    CHECK(unchanged(linear, before));
  }
  SUBCASE("a file cut short changes nothing") {
    std::filesystem::resize_file(file.path, std::filesystem::file_size(file.path) - 5);
    Generator third(3);
    Model damaged(third);
    const std::vector<Tensor> before = values_of(damaged);
    CHECK_ERROR(load_weights(file.path, damaged), file.path.filename().string());
    CHECK(unchanged(damaged, before));
  }
}

TEST_CASE("load_state_dict reports everything that does not fit at once, and changes nothing") {
  Generator rng(1), other(2);
  Model model(rng), source(other);
  const std::vector<Tensor> before = values_of(model);
  auto state = source.state_dict();
  state.erase("embedding.weight");
  state.erase("lstm.weight_hh_l1");
  state["head.weight"] = Tensor({3, 5});  // not transposed
  state["scale"] = Tensor({4});
  state["lstm.weight_ih_l2"] = Tensor({12, 3});
  state["tail.bias"] = Tensor({1});
  CHECK_ERROR(model.load_state_dict(state), "embedding.weight is missing", "lstm.weight_hh_l1 is missing",
              "head.weight is [3, 5] instead of [5, 3]", "scale is [4] instead of [3]",
              "lstm.weight_ih_l2 is unexpected", "tail.bias is unexpected");
  CHECK(unchanged(model, before));
  CHECK_ERROR(model.load_state_dict({}), "scale is missing", "head.bias is missing");
  CHECK(unchanged(model, before));

  // The second of two summed biases.
  state = source.state_dict();
  state["lstm.bias_hh_l0"] = Tensor({3});
  CHECK_ERROR(model.load_state_dict(state), "lstm.bias_hh_l0 is [3] instead of [12]");
  CHECK(unchanged(model, before));
  model.load_state_dict(source.state_dict());
  CHECK(unchanged(model, values_of(source)));
}

TEST_CASE("weights loaded while a tape lives are those that it uses next") {
  Generator rng(1), other(2);
  Linear linear(3, 5, rng), source(3, 5, other);
  const Tensor x = random_tensor({2, 3}, 1, -1, 1, float32);
  Tape tape = Tape::inference(), fresh = Tape::inference();
  linear(tape.constant(x));
  linear.load_state_dict(source.state_dict());
  CHECK(same_bits(linear(tape.constant(x)).value(), source(fresh.constant(x)).value()));
}

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
  auto run = [&](Tape&, const std::vector<Var>& in) { return linear(in[0]); };
  CHECK(gradient_error(run, {x}, linear.parameters()) < 1e-7);
  Var wide = tape.constant(random_tensor({2, 4}, 1));
  CHECK_ERROR_HERE(linear(wide), "[2, 4]", "[3, 2]");
}

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
}

// ---- Dropout -------------------------------------------------------------------------------------------------------

TEST_CASE("Dropout keeps the mean: p of the elements are 0, the others are divided by 1 - p") {
  for (double p : {0.1, 0.5, 0.9}) {
    Generator rng(1);
    Dropout dropout(p, rng);
    CHECK(dropout.p() == p);
    const Index n = 200'000;
    const Tensor y = dropped(dropout, Tensor::full({n}, 2, float64));
    Index zeros = 0, wrong = 0;
    double total = 0;
    for (double v : y.to_vector()) {
      if (v == 0)
        ++zeros;
      else if (std::abs(v - 2 / (1 - p)) > 1e-14)
        ++wrong;
      total += v;
    }
    CHECK(wrong == 0);
    // Five standard errors.
    const double error = 5 * std::sqrt(p * (1 - p) / static_cast<double>(n));
    CHECK(std::abs(static_cast<double>(zeros) / static_cast<double>(n) - p) < error);
    CHECK(std::abs(total / static_cast<double>(n) - 2) < 2 * error / (1 - p));
  }
}

TEST_CASE("Dropout: masks differ over time, over the batch and between calls") {
  Generator rng(1);
  Dropout dropout(0.5, rng), other(0.5, rng);
  const Tensor ones = Tensor::full({4, 4, 64}, 1);
  const Tensor a = dropped(dropout, ones), b = dropped(dropout, ones), c = dropped(other, ones);
  CHECK_FALSE(same_bits(a, b));
  CHECK_FALSE(same_bits(a, c));
  CHECK_FALSE(same_bits(b, c));
  std::set<std::vector<double>> rows;
  const std::vector<double> all = a.to_vector();
  for (auto row = all.begin(); row != all.end(); row += 64) rows.emplace(row, row + 64);
  CHECK(rows.size() == 16);
}

TEST_CASE("Dropout drops nothing in evaluation and with p = 0, and draws nothing then") {
  Generator rng(1);
  Dropout dropout(0.5, rng), never(0, rng);
  const Tensor x = random_tensor({3, 50}, 1, -1, 1, float32);
  const Generator before = *dropout.generators()[0].second;
  dropout.eval();
  CHECK(same_bits(dropped(dropout, x), x));
  CHECK(same_bits(dropped(never, x), x));
  CHECK(*dropout.generators()[0].second == before);
  dropout.train();
  CHECK_FALSE(same_bits(dropped(dropout, x), x));
  CHECK_FALSE(*dropout.generators()[0].second == before);
}

TEST_CASE("Dropout: the gradient is the mask") {
  Generator rng(1);
  Dropout dropout(0.25, rng);
  Tape tape;
  Var x = tape.variable(Tensor::full({20, 30}, 1, float64));
  Var y = dropout(x);
  const Tensor dy = random_tensor({20, 30}, 2);
  tape.backward(y, dy);
  std::vector<double> expected = y.value().to_vector();
  for (std::size_t i = 0; i < expected.size(); ++i) expected[i] *= dy.data<double>()[i];
  CHECK(relative_error(x.grad(), Tensor({20, 30}, expected, float64)) < 1e-15);
}

TEST_CASE("Dropout takes any batch size after any other") {
  Generator rng(1);
  Dropout dropout(0.5, rng);
  for (Index batch : {4, 7, 1, 0, 4}) CHECK(dropped(dropout, Tensor({3, batch, 5})).shape() == Shape{3, batch, 5});
}

TEST_CASE("Dropout depends on the seed and on the stream's position alone") {
  const Tensor ones = Tensor::full({64, 1000}, 1);
  Generator a(1), b(1), c(2);
  Dropout first(0.5, a), second(0.5, b), third(0.5, c);
  const Tensor y = dropped(first, ones);
  CHECK(same_bits(dropped(second, ones), y));
  CHECK_FALSE(same_bits(dropped(third, ones), y));

  // A saved stream goes on where it was.
  const Generator saved = *first.generators()[0].second;
  const Tensor next = dropped(first, ones);
  *third.generators()[0].second = saved;
  CHECK(same_bits(dropped(third, ones), next));

  // Nor on the number of threads.
  for (std::size_t threads : {1, 2, 4}) {
    tbb::global_control limit(tbb::global_control::max_allowed_parallelism, threads);
    Generator d(1);
    Dropout fourth(0.5, d);
    CHECK(same_bits(dropped(fourth, ones), y));
  }
}

TEST_CASE("Dropout of an empty Var is one clear line") {
  Generator rng(1);
  Dropout dropout(0.5, rng);
  CHECK_ERROR_HERE(dropout(Var()), "empty Var");
}

TEST_CASE("Dropout refuses what is not a probability below 1") {
  Generator rng(1);
  for (double p : {-0.1, 1.0, 1.5, std::nan("")}) CHECK_ERROR(Dropout(p, rng), "Dropout", "[0, 1)");
}
