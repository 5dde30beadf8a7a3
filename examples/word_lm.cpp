/// Trains a word-level language model with tied weights and variational dropout on any text, and writes more of it.

#include <autograd/autograd.h>
#include <examples/common/cells.h>
#include <examples/common/language_model.h>
#include <examples/common/run.h>
#include <examples/common/text.h>
#include <examples/common/words.h>
#include <layers/layers.h>
#include <optim/optim.h>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <CLI/CLI.hpp>

#include <cmath>

using namespace unroll;
using namespace unroll::examples;

struct Options : TrainingOptions, ModelOptions, SamplingOptions {
  std::vector<std::string> data;
  Index window = 20, vocabulary = 10'000, least = 2;
  double recurrent_dropout = 0, decay = 0.5, decay_after = 4;
  std::string head = "tied";
};

const std::vector<std::string> model_options = {"cell", "hidden", "layers", "head"};

/// What may follow each word, given all words before it. The table of the words' vectors is also the output layer's
/// (Press and Wolf 2017), unless --head is untied. Sizes, first weights, rates and clipping are those of the small
/// model of Zaremba, Sutskever and Vinyals 2014, "Recurrent neural network regularization"; dropout, with masks that
/// are fixed for a window, is that of Gal and Ghahramani 2016.
template <class Layer>
struct WordModel : Module {
  Embedding embedding;
  Layer layer;
  Dropout dropout;
  TiedLinear tied;
  Linear untied;
  bool is_tied;

  WordModel(Index vocabulary, const Options& o, Generator rng)
      : embedding(vocabulary, o.hidden, rng),
        layer(o.hidden, o.hidden, rng,
              {.layers = o.layers, .input_dropout = o.dropout, .recurrent_dropout = o.recurrent_dropout}),
        dropout(o.dropout, rng),
        tied(embedding.W),
        untied(o.hidden, vocabulary, rng),
        is_tied(o.head == "tied") {
    add("embedding", embedding);
    add(o.cell, layer);
    add("dropout", dropout);
    if (is_tied)
      add("head", tied);
    else
      add("head", untied);
    for (Parameter* parameter : parameters()) rng.fill_uniform(parameter->value(), -0.1, 0.1);
  }

  /// words [T, N] -> logits [T, N, V], and the state after the last step.
  std::pair<Var, FinalState> operator()(Tape& tape, const Indices& words, const RecurrentState& state) {
    auto [y, next] = layer(embedding(tape, words), state);
    Var h = dropout(y);
    return {is_tied ? tied(h) : untied(h), next};
  }
};

/// The prompt, and what the model makes of it.
template <class Layer>
std::string continue_text(WordModel<Layer>& model, const WordVocabulary& vocabulary, const Options& o) {
  std::vector<std::string> words = split_words(o.prompt);
  std::vector<std::int32_t> prompt = vocabulary.encode(words);
  if (prompt.empty()) prompt = {WordVocabulary::unknown};
  for (const std::int32_t word : generate(model, prompt, o, Generator(o.seed).split(1)))
    words.push_back(vocabulary.word(word));
  return fmt::format("{}", fmt::join(words, " "));
}

template <class Layer>
int train(const Options& o, const CLI::App& app) {
  const std::string text = o.data.empty() ? read_repository() : read_text({o.data.begin(), o.data.end()});
  const std::vector<std::string> words = split_words(text);
  const WordVocabulary vocabulary({words.begin(), words.begin() + learned_from(std::ssize(words))},
                                  {.least = o.least, .most = o.vocabulary - 1});
  const std::vector<std::int32_t> ids = vocabulary.encode(words);
  SplitWindows windows = split_windows(ids, o.batch, o.window);

  WordModel<Layer> model(vocabulary.size(), o, Generator(o.seed));
  SGD sgd(model.parameters(), {.rate = o.rate});
  const auto epoch = static_cast<double>(windows.training.count());
  sgd.set_schedule([=](Index step) {
    return std::pow(o.decay, std::max(0.0, std::floor(static_cast<double>(step) / epoch) + 1 - o.decay_after));
  });
  Tape tape;
  RecurrentState state;

  auto metadata = option_values(app, model_options);
  metadata["words"] = vocabulary.to_json();
  Run run(
      app, o, model, sgd,
      {.steps = o.epochs > 0 ? o.epochs * windows.training.count() : o.steps,
       .steps_per_epoch = epoch,
       .units_per_step = static_cast<double>(o.batch * o.window),
       .unit = "words",
       .loss = "nats",
       .title =
           fmt::format("Word model: {} layers of {} ({}), {} words", o.layers, o.hidden, o.cell, vocabulary.size()),
       .loss_label = "loss (nats per word)",
       .describe = [](double nats) { return fmt::format("loss {:.3f} nats  perplexity {:.1f}", nats, std::exp(nats)); },
       .evaluate = [&] { return evaluate(model, windows.validation); },
       .metadata = metadata});
  run.checkpoint.add("state", state);
  run.checkpoint.fix("text", fingerprint(text));

  for (run.start(); run.goes_on();) {
    const Index window = run.step() % windows.training.count();
    if (window == 0) state.reset();  // a new pass over the text
    tape.clear();
    auto [inputs, targets] = windows.training[window];
    auto [logits, next] = model(tape, inputs, state);
    Var loss = cross_entropy(logits, targets);
    // The loss is a mean; the rates of the paper are for one that is summed over the window's steps.
    tape.backward(loss * static_cast<double>(o.window));
    if (o.clip > 0) clip_grad_norm(model.parameters(), o.clip);
    sgd.step();
    state = detach(next);
    run.made_step(loss.item());
  }
  if (run.stopped()) return exit_stopped;

  run.finish();
  fmt::print("{}\n", continue_text(model, vocabulary, o));
  print_result({{"steps", run.step()},
                {"vocabulary", vocabulary.size()},
                {"validation_perplexity", std::exp(run.validation_loss())},
                {"best_validation_perplexity", std::exp(run.best_loss())},
                {"words_per_second", run.units_per_second()},
                {"seconds", run.seconds()}});
  return exit_ok;
}

/// Writes text with saved weights, whose file says what the model is.
template <class Layer>
int sample(const Options& o, const std::string& words) {
  const WordVocabulary vocabulary = WordVocabulary::from_json(words);
  WordModel<Layer> model(vocabulary.size(), o, Generator(o.seed));
  load_weights(find_weights(o), model);
  fmt::print("{}\n", continue_text(model, vocabulary, o));
  return exit_ok;
}

int main(int argc, char** argv) {
  CLI::App app("Trains a word-level language model and writes text with it.", "word_lm");
  Options o;
  o.out = "runs/word_lm";
  o.batch = 20;
  o.rate = 1;
  o.clip = 5;
  o.hidden = 200;
  o.layers = 2;
  o.length = 100;
  add_training_options(app, o);
  add_model_options(app, o, {"embedding"});  // as large as the layers: the output layer shares it
  app.get_option("--rate")->description("Learning rate of plain gradient descent");
  app.get_option("--dropout")->description("Probability of dropping a unit of a layer's input or of the output");
  add_sampling_options(app, o);
  app.add_option("--data", o.data, "Text files or folders, in UTF-8; none: the text of Unroll itself")
      ->default_str("")
      ->transform(absolute_path());
  app.add_option("--window", o.window, "Steps that the gradient flows back")->check(size_range());
  app.add_option("--vocabulary", o.vocabulary, "Most words to know; all others are <unk>")
      ->check(CLI::Range(2, 1000000));
  app.add_option("--least", o.least, "Times that a word has to occur to be known")->check(above_zero());
  app.add_option("--recurrent-dropout", o.recurrent_dropout, "Probability of dropping a unit from step to step")
      ->check(probability());
  app.add_option("--decay", o.decay, "What the rate is multiplied with after each epoch ...")->check(above_zero());
  app.add_option("--decay-after", o.decay_after, "... from this one on")->check(at_least_zero());
  app.add_option("--head", o.head, "tied to the words' vectors, or untied")->check(CLI::IsMember({"tied", "untied"}));
  o.fixed.insert(o.fixed.end(), {"cell", "hidden", "layers", "head", "window", "vocabulary", "least",
                                 "recurrent-dropout", "decay", "decay-after"});
  o.saved.emplace_back("data");

  return run_example(app, argc, argv, [&] {
    const auto threads = use_threads(o.threads);
    if (o.resume) restore_run_options(app, o);
    std::map<std::string, std::string> saved;
    if (o.sample) saved = restore_model(app, find_weights(o), model_options, {"words"});
    return with_layer(o.cell, [&]<class Layer>(std::type_identity<Layer>) {
      return o.sample ? sample<Layer>(o, saved.at("words")) : train<Layer>(o, app);
    });
  });
}
