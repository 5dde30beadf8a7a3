// Module: names, parameters, buffers, modes and weights in files.

#include <autograd/autograd.h>
#include <layers/layers.h>
#include <tests/support.h>

#include <doctest/doctest.h>

#include <filesystem>
#include <optional>
#include <set>
#include <type_traits>

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

TEST_CASE("a module that two others share: its parameters are one, and get the sum of the gradients") {
  struct User : Module {
    Linear& linear;
    Dropout& dropout;
    User(Linear& l, Dropout& d) : linear(l), dropout(d) {
      add("linear", linear);
      add("dropout", dropout);
    }
  };
  struct Shared : Module {
    Linear linear;
    Dropout dropout;
    User encoder, decoder;
    explicit Shared(Generator& rng)
        : linear(3, 3, rng), dropout(0.5, rng), encoder(linear, dropout), decoder(linear, dropout) {
      add("encoder", encoder);
      add("decoder", decoder);
    }
  };
  Generator rng(1);
  Shared model(rng);
  model.to(float64);
  CHECK(names_of(model) == std::vector<std::string>{"encoder.linear.weight", "encoder.linear.bias"});
  CHECK(model.count() == 12);
  CHECK(model.generators().size() == 1);
  CHECK(&model.parameter("decoder.linear.bias") == &model.linear.b);
  auto run = [&](Tape&, const std::vector<Var>& in) { return tanh(model.linear(Var(tanh(model.linear(in[0]))))); };
  CHECK(gradient_error(run, {random_tensor({4, 3}, 2)}, model.parameters()) < 1e-7);
}

namespace {

struct Tied : Module {
  Embedding embedding;
  TiedLinear head;
  explicit Tied(Generator& rng) : embedding(5, 3, rng), head(embedding.W) {
    add("embedding", embedding);
    add("head", head);
  }
};

}  // namespace

TEST_CASE("tied weights are listed, counted and stored once, under their first name") {
  Generator rng(1);
  Tied model(rng);
  CHECK(names_of(model) == std::vector<std::string>{"embedding.weight", "head.bias"});
  CHECK(model.count() == 20);
  CHECK(model.state_dict().size() == 2);
  CHECK(&model.parameter("head.weight") == &model.embedding.W);
  model.freeze("head");
  CHECK_FALSE(model.embedding.W.trainable());
}

TEST_CASE("tied weights keep their full name when they are tied after they were added") {
  struct Late : Module {
    Embedding embedding;
    std::optional<TiedLinear> head;
    explicit Late(Generator& rng) : embedding(5, 3, rng) {
      add("embedding", embedding);
      add("head", head.emplace(embedding.W));
    }
  };
  Generator rng(1);
  Late model(rng);
  CHECK(names_of(model) == std::vector<std::string>{"embedding.weight", "head.bias"});
}

TEST_CASE("tied weights load under any of their names; under two, these must agree") {
  Generator rng(1);
  Tied model(rng);
  const Tensor table = random_tensor({5, 3}, 7, -1, 1, float32), bias = random_tensor({5}, 8, -1, 1, float32);
  model.load_state_dict({{"embedding.weight", table}, {"head.bias", bias}});
  CHECK(same_bits(model.embedding.W.value(), table));
  Tied second(rng), third(rng);
  second.load_state_dict({{"head.weight", table}, {"head.bias", bias}});
  CHECK(same_bits(second.embedding.W.value(), table));
  third.load_state_dict({{"embedding.weight", table}, {"head.weight", table}, {"head.bias", bias}});  // PyTorch's
  CHECK(same_bits(third.embedding.W.value(), table));

  CHECK_ERROR(model.load_state_dict({{"head.bias", bias}}), "embedding.weight is missing");
  Tensor other = table;
  other.set({4, 2}, 9);
  CHECK_ERROR(model.load_state_dict({{"embedding.weight", table}, {"head.weight", other}, {"head.bias", bias}}),
              "head.weight differs from embedding.weight");
  CHECK(same_bits(model.embedding.W.value(), table));
}

// ---- Registration --------------------------------------------------------------------------------------------------

static_assert(!std::is_copy_constructible_v<Module> && !std::is_copy_assignable_v<Module>);
static_assert(!std::is_move_constructible_v<Module> && !std::is_move_assignable_v<Module>);
static_assert(!std::is_copy_constructible_v<Linear> && !std::is_move_constructible_v<Linear>);
static_assert(!std::is_copy_constructible_v<LSTM> && !std::is_move_constructible_v<LSTM>);

namespace {

/// A module that can be added to from outside.
struct Open : Module {
  template <class... Args>
  void with(Args&&... args) {
    add(std::forward<Args>(args)...);
  }
  void with_summed(std::string_view name, Parameter& parameter, std::string_view other) {
    add(name, parameter, {.summed_with = other});
  }
  void with_transposed(std::string_view name, Parameter& parameter) { add(name, parameter, {.transposed = true}); }
};

}  // namespace

TEST_CASE("a part that is added twice, and two parts of one name, are one clear error at once") {
  Generator rng(1);
  Linear a(2, 3, rng), b(2, 3, rng);
  Parameter p({2}), q({2});
  Tensor buffer({2});
  Open model;
  model.with("a", a);
  CHECK_ERROR(model.with("again", a), "\"again\" has already been added as \"a\"");
  CHECK_ERROR(model.with("a", b), "two parts are named \"a.weight\"");
  model.with("p", p);
  CHECK_ERROR(model.with("p2", p), "\"p2\" has already been added as \"p\"");
  CHECK_ERROR(model.with("p", q), "two parts are named \"p\"");
  CHECK_ERROR(model.with("p", buffer), "two parts are named \"p\"");
  Open summed;
  summed.with_summed("bias_ih", p, "bias_hh");
  CHECK_ERROR(summed.with("bias_hh", q), "two parts are named \"bias_hh\"");
}

TEST_CASE("what would not be seen or cannot be stored is refused") {
  Generator rng(1);
  Parameter p({2}), q({2}), matrix({2, 3});
  Open inner, outer;
  inner.with("p", p);
  outer.with("inner", inner);
  CHECK_ERROR(inner.with("q", q), "\"q\" comes too late", "part of another");
  CHECK_ERROR(outer.with("self", outer), "\"self\" is the module itself");
  CHECK_ERROR(inner.with("outer", outer), "comes too late");  // a circle
  CHECK_ERROR(outer.with_transposed("q", q), "\"q\" is [2]", "matrix");
  CHECK_ERROR(Open().with("", matrix), "empty name");
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

TEST_CASE("one part is frozen by its name") {
  Generator rng(1);
  Model model(rng);
  auto frozen = [&] {
    std::vector<std::string> names;
    for (const Parameter* parameter : model.parameters())
      if (!parameter->trainable()) names.push_back(parameter->name());
    return names;
  };
  model.freeze("block");
  CHECK(frozen() == std::vector<std::string>{"block.linear.weight", "block.linear.bias"});
  model.freeze(std::string("head.bias"));
  CHECK(frozen() == std::vector<std::string>{"block.linear.weight", "block.linear.bias", "head.bias"});
  model.freeze("block.linear", false);
  CHECK(frozen() == std::vector<std::string>{"head.bias"});
  CHECK_ERROR(model.freeze("bloc"), "there is no \"bloc\"", "block.linear.weight", "scale");
  CHECK_ERROR(model.freeze("block.dropout"), "there is no \"block.dropout\"");
  model.freeze();
  CHECK(frozen() == model_names);
  model.freeze(false);
  CHECK(frozen().empty());
}

namespace {

struct Centred : Module {
  Linear linear;
  Tensor mean{Shape{2}};
  explicit Centred(Generator& rng) : linear(2, 3, rng) {
    add("linear", linear);
    add("mean", mean);
  }
};

struct Pipeline : Module {
  Centred first;
  Linear second;
  explicit Pipeline(Generator& rng) : first(rng), second(3, 1, rng) {
    add("first", first);
    add("second", second);
  }
};

}  // namespace

TEST_CASE("a buffer is stored, loaded and converted, but is no parameter") {
  Generator rng(1), other(2);
  Pipeline model(rng), loaded(other);
  CHECK(model.count() == 2 * 3 + 3 + 3 + 1);
  CHECK(names_of(model).size() == 4);
  CHECK_ERROR(model.parameter("first.mean"), "there is no \"first.mean\"");
  model.first.mean = Tensor({2}, {0.5, -3});
  CHECK(same_bits(model.state_dict().at("first.mean"), model.first.mean));

  TemporaryFile file("unroll_test_buffers.safetensors");
  save_weights(file.path, model);
  load_weights(file.path, loaded);
  CHECK(same_bits(loaded.first.mean, model.first.mean));
  CHECK(unchanged(loaded, values_of(model)));

  model.to(float64);
  CHECK(model.first.mean.dtype() == float64);
  CHECK(model.first.mean.at({1}) == -3);
  auto state = model.state_dict();
  state["first.mean"] = Tensor({3});
  CHECK_ERROR(model.load_state_dict(state), "first.mean is [3] instead of [2]");
  state.erase("first.mean");
  CHECK_ERROR(model.load_state_dict(state), "first.mean is missing");
}

TEST_CASE("summary: a table of every tensor") {
  Generator rng(1);
  Pipeline model(rng);
  model.freeze("first.linear.weight");
  CHECK(model.summary() ==
        "layer         name    shape   values\n"
        "first.linear  weight  [2, 3]       6  frozen\n"
        "              bias    [3]          3\n"
        "first         mean    [2]          -  buffer\n"
        "second        weight  [3, 1]       3\n"
        "              bias    [1]          1\n"
        "total                             13  6 of them frozen\n");
  Tied tied(rng);
  CHECK(tied.summary() ==
        "layer      name    shape   values\n"
        "embedding  weight  [5, 3]      15\n"
        "head       weight  [5, 3]       -  is embedding.weight\n"
        "           bias    [5]          5\n"
        "total                          20\n");
  CHECK(Open().summary() == "layer  name  shape  values\ntotal                    0\n");
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

TEST_CASE("of two summed biases, an absent one is missing; a partial load takes it for zeros") {
  Generator rng(1), other(2);
  LSTM model(2, 3, rng), source(2, 3, other);
  auto state = source.state_dict();
  state["bias_hh_l0"].fill(0.5);
  const std::vector<Tensor> before = values_of(model);
  for (const char* name : {"bias_hh_l0", "bias_ih_l0"}) {
    auto incomplete = state;
    incomplete.erase(name);
    CHECK_ERROR(model.load_state_dict(incomplete), fmt::format("{} is missing", name));
    CHECK(unchanged(model, before));
  }
  auto incomplete = state;
  incomplete.erase("bias_hh_l0");
  CHECK(model.load_state_dict(incomplete, {.partial = true}).missing == std::vector<std::string>{"bias_hh_l0"});
  CHECK(same_bits(model.parameter("bias_ih_l0").value(), source.parameter("bias_ih_l0").value()));
  incomplete = state;
  incomplete.erase("bias_ih_l0");
  model.load_state_dict(incomplete, {.partial = true});
  CHECK(same_bits(model.parameter("bias_ih_l0").value(), Tensor::full({12}, 0.5)));
}

TEST_CASE("a partial load takes what there is, says what was left out, and still refuses another shape") {
  Generator rng(1), other(2);
  Model model(rng), source(other);
  auto state = source.state_dict();
  state.erase("head.weight");
  state.erase("lstm.weight_hh_l1");
  state["tail.bias"] = Tensor({1});
  const std::vector<Tensor> before = values_of(model);
  const Loaded left_out = model.load_state_dict(state, {.partial = true});
  CHECK(left_out.missing == std::vector<std::string>{"lstm.weight_hh_l1", "head.weight"});
  CHECK(left_out.unexpected == std::vector<std::string>{"tail.bias"});
  for (std::size_t i = 0; i < before.size(); ++i) {
    const Parameter& parameter = *model.parameters()[i];
    const bool left = parameter.name() == "lstm.weight_hh_l1" || parameter.name() == "head.weight";
    CAPTURE(parameter.name());
    CHECK(same_bits(parameter.value(), left ? before[i] : source.parameters()[i]->value()));
  }
  const std::vector<Tensor> now = values_of(model);
  state["scale"] = Tensor({4});
  state["embedding.weight"] = Tensor({5, 2});
  CHECK_ERROR(model.load_state_dict(state, {.partial = true}), "scale is [4] instead of [3]");
  CHECK(unchanged(model, now));
  CHECK(model.load_state_dict(model.state_dict(), {.partial = true}).missing.empty());
}

TEST_CASE("names in a file are not trusted: a message stays one line") {
  Generator rng(1);
  Linear linear(2, 2, rng);
  auto state = linear.state_dict();
  state["a\nb"] = Tensor({1});
  state[""] = Tensor({1});
  CHECK_ERROR(linear.load_state_dict(state), "a\\x0ab is unexpected");
  CHECK(linear.load_state_dict(state, {.partial = true}).unexpected == std::vector<std::string>{"", "a\nb"});
}

TEST_CASE("minus zero survives a file, also where two biases are summed") {
  Generator rng(1), other(2);
  LSTM model(2, 3, rng), loaded(2, 3, other);
  for (Parameter* parameter : model.parameters()) parameter->value().fill(-0.0);
  loaded.load_state_dict(model.state_dict());
  CHECK(unchanged(loaded, values_of(model)));
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
