/// Trains a character language model (RNN, LSTM or GRU) on any text, and writes more of it.

#include <autograd/autograd.h>
#include <examples/common/cells.h>
#include <examples/common/language_model.h>
#include <examples/common/run.h>
#include <examples/common/text.h>
#include <layers/layers.h>
#include <optim/optim.h>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include <numbers>

using namespace unroll;
using namespace unroll::examples;

struct Options : TrainingOptions, ModelOptions, SamplingOptions {
  std::vector<std::string> data;
  Index window = 64;
};

/// What may follow each byte, given all bytes before it: logits = head(dropout(layer(embedding(bytes)))).
template <class Layer>
struct CharModel : Module {
  Embedding embedding;
  Layer layer;
  Dropout dropout;
  Linear head;

  CharModel(Index vocabulary, const Options& o, Generator rng)
      : embedding(vocabulary, o.embedding, rng),
        layer(o.embedding, o.hidden, rng, {.layers = o.layers, .dropout = o.dropout, .cell = cell_options()}),
        dropout(o.dropout, rng),
        head(o.hidden, vocabulary, rng) {
    add("embedding", embedding);
    add(o.cell, layer);
    add("dropout", dropout);
    add("head", head);
  }

  /// Forget gates that start half open learn text sooner than open ones: on tinyshakespeare, 1.78 nats after 500 steps
  /// and not 1.85. (Where the past is to be kept for long, they do not: see LSTMCell.)
  static auto cell_options() {
    decltype(typename Layer::Options().cell) options;
    if constexpr (requires { options.forget_bias; }) options.forget_bias = 0;
    return options;
  }

  /// bytes [T, N] -> logits [T, N, V], and the state after the last step.
  std::pair<Var, FinalState> operator()(Tape& tape, const Indices& bytes, const RecurrentState& state) {
    auto [y, next] = layer(embedding(tape, bytes), state);
    return {head(dropout(y)), next};
  }
};

/// The prompt, and what the model makes of it.
template <class Layer>
std::string continue_text(CharModel<Layer>& model, const Vocabulary& vocabulary, const Options& o) {
  // With no prompt, as at the start of a line.
  std::vector<std::int32_t> prompt = vocabulary.encode(!o.prompt.empty()           ? o.prompt
                                                       : vocabulary.contains('\n') ? "\n"
                                                                                   : "");
  if (prompt.empty()) prompt = {0};
  std::string text = o.prompt;
  for (const std::int32_t byte : generate(model, prompt, o, Generator(o.seed).split(1))) text += vocabulary.byte(byte);
  return text;
}

template <class Layer>
int train(const Options& o, const CLI::App& app) {
  const std::string text = o.data.empty() ? read_repository() : read_text({o.data.begin(), o.data.end()});
  const Vocabulary vocabulary(text);
  vocabulary.encode(o.prompt);  // a prompt that the sample could not begin with shows now
  const std::vector<std::int32_t> bytes = vocabulary.encode(text);

  SplitWindows windows = split_windows(bytes, o.batch, o.window);

  CharModel<Layer> model(vocabulary.size(), o, Generator(o.seed));
  Adam adam(model.parameters(), {.rate = o.rate});
  Tape tape;
  RecurrentState state;

  constexpr double ln2 = std::numbers::ln2;
  auto metadata = option_values(app, ModelOptions::names);
  metadata["vocabulary"] = vocabulary.to_json();
  Run run(app, o, model, adam,
          {.steps = o.epochs > 0 ? o.epochs * windows.training.count() : o.steps,
           .steps_per_epoch = static_cast<double>(windows.training.count()),
           .units_per_step = static_cast<double>(o.batch * o.window),
           .unit = "chars",
           .loss = "nats",
           .title = fmt::format("Character model: {}, {} hidden units", o.cell, o.hidden),
           .loss_label = "loss (nats per character)",
           .describe = [](double nats) { return fmt::format("loss {:.3f} nats  {:.3f} bits/char", nats, nats / ln2); },
           .evaluate = [&] { return evaluate(model, windows.validation); },
           .metadata = metadata});
  run.checkpoint.add("state", state);
  run.checkpoint.fix("text", fingerprint(text));

  // Truncated back-propagation through time: each window's state goes on into the next, its gradient stays inside.
  for (run.start(); run.goes_on();) {
    const Index window = run.step() % windows.training.count();
    if (window == 0) state.reset();  // a new pass over the text
    tape.clear();
    auto [inputs, targets] = windows.training[window];
    auto [logits, next] = model(tape, inputs, state);
    Var loss = cross_entropy(logits, targets);
    tape.backward(loss);
    if (o.clip > 0) clip_grad_norm(model.parameters(), o.clip);
    adam.step();
    state = detach(next);
    run.made_step(loss.item());
  }
  if (run.stopped()) return exit_stopped;

  run.finish();
  fmt::print("{}\n", continue_text(model, vocabulary, o));
  print_result({{"steps", run.step()},
                {"train_bits_per_char", run.train_loss() / ln2},
                {"validation_nats", run.validation_loss()},
                {"validation_bits_per_char", run.validation_loss() / ln2},
                {"best_validation_nats", run.best_loss()},
                {"chars_per_second", run.units_per_second()},
                {"seconds", run.seconds()}});
  return exit_ok;
}

/// Writes text with saved weights, whose file says what the model is.
template <class Layer>
int sample(const Options& o, const std::string& vocabulary_json) {
  const Vocabulary vocabulary = Vocabulary::from_json(vocabulary_json);
  CharModel<Layer> model(vocabulary.size(), o, Generator(o.seed));
  load_weights(find_weights(o), model);
  fmt::print("{}\n", continue_text(model, vocabulary, o));
  return exit_ok;
}

int main(int argc, char** argv) {
  CLI::App app("Trains a character language model and writes text with it.", "char_lm");
  Options o;
  o.out = "runs/char_lm";
  o.steps = 2000;
  add_training_options(app, o);
  add_model_options(app, o);
  add_sampling_options(app, o);
  app.add_option("--data", o.data, "Text files or folders, read as bytes; none: the text of Unroll itself")
      ->default_str("")
      ->transform(absolute_path());
  app.add_option("--window", o.window, "Steps that the gradient flows back")->check(size_range());
  o.fixed.insert(o.fixed.end(), {"cell", "hidden", "layers", "embedding", "window"});
  o.saved.emplace_back("data");

  return run_example(app, argc, argv, [&] {
    const auto threads = use_threads(o.threads);
    if (o.resume) restore_run_options(app, o);
    std::map<std::string, std::string> saved;
    if (o.sample) saved = restore_model(app, find_weights(o), ModelOptions::names, {"vocabulary"});
    return with_layer(o.cell, [&]<class Layer>(std::type_identity<Layer>) {
      return o.sample ? sample<Layer>(o, saved.at("vocabulary")) : train<Layer>(o, app);
    });
  });
}
