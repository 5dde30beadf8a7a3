/// Tells praise from complaint in sentences with negations and contrasts: RNN, LSTM and a bag of words compared.

#include <autograd/autograd.h>
#include <examples/common/folder.h>
#include <examples/common/run.h>
#include <examples/sentiment/dataset.h>
#include <examples/sentiment/explain.h>
#include <layers/layers.h>
#include <optim/optim.h>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include <cmath>

using namespace unroll;
using namespace unroll::examples;

const std::vector<std::string> models = {"bag_of_words", "rnn", "lstm", "bidirectional_lstm"},
                               model_options = {"hidden", "embedding"};

struct Options : TrainingOptions {
  Index hidden = 48, embedding = 32, least = 2;
  std::filesystem::path data;
  std::string sentence;
};

/// What is left of a sentence when it has been read, x [T, N, D] -> [N, H]: the hidden state at its own end, and in the
/// other direction that at its beginning; or a bag of words.
template <class Cell>
Var read(Tape&, Recurrent<Cell>& layer, const Var& x, std::span<const Index> lengths) {
  const auto state = layer.final_state(x, {}, lengths).values;  // h, and an LSTM's c, of each direction
  return layer.outputs() == layer.hidden() ? state[0] : concat({state[0], state[state.size() / 2]}, 1);
}
Var read(Tape& tape, BagOfWords& bag, const Var& x, std::span<const Index> lengths) { return bag(tape, x, lengths); }

/// Many to one: words [T, N] -> logits [N, classes], from all that the layer has read of each sentence.
template <class Layer>
struct Classifier : Module {
  Embedding embedding;
  Layer layer;
  Dropout dropout;
  Linear head;

  Classifier(Index words, Index classes, const Options& o, Index units, typename Layer::Options layer_options,
             Generator rng)
      : embedding(words, o.embedding, rng),
        layer(o.embedding, units, rng, layer_options),
        dropout(o.dropout, rng),
        head(layer.outputs(), classes, rng) {
    add("embedding", embedding);
    add("layer", layer);
    add("dropout", dropout);
    add("head", head);
  }
  Var operator()(Tape& tape, const SentenceBatch& batch) {
    return head(dropout(read(tape, layer, embedding(tape, batch.numbers()), batch.lengths)));
  }
};

struct Judgement {
  double nats;              ///< the mean of -ln p(label)
  std::vector<bool> right;  ///< for each sentence
};

template <class Layer>
Judgement judge(Classifier<Layer>& model, std::span<const Sentence> sentences) {
  Tape tape = Tape::inference();
  Mean nats;
  std::vector<bool> right;
  model.eval();
  while (!sentences.empty()) {
    tape.clear();
    const SentenceBatch batch(sentences.first(std::min<std::size_t>(256, sentences.size())));
    sentences = sentences.subspan(batch.labels.size());
    Var logits = model(tape, batch);
    nats.add(cross_entropy(logits, batch.labels).item(), static_cast<double>(batch.labels.size()));
    const std::vector<double> all = logits.value().to_vector();
    auto row = all.begin();
    for (std::int32_t label : batch.labels) {
      right.push_back(std::max_element(row, row + logits.size(1)) - row == label);
      row += logits.size(1);
    }
  }
  model.train();
  return {nats.value(), right};
}

/// Trains one model, in a folder of its own. Returns false when it was stopped.
template <class Layer>
bool train(const CLI::App& app, const Options& o, const Dataset& data, const std::string& name, Index units,
           typename Layer::Options layer_options, Accuracies& accuracies) {
  const TrainingOptions own = in_folder(o, name);
  const Generator rng(o.seed);
  Classifier<Layer> model(data.vocabulary.size(), std::ssize(data.labels), o, units, layer_options, rng);
  Adam adam(model.parameters(), {.rate = o.rate});
  const double epoch = static_cast<double>(data.training.size()) / static_cast<double>(o.batch);
  auto metadata = option_values(app, model_options);
  metadata["vocabulary"] = data.vocabulary.to_json();
  metadata["labels"] = nlohmann::json(data.labels).dump();
  Run run(app, own, model, adam,
          {.steps = o.epochs > 0 ? std::lround(std::ceil(static_cast<double>(o.epochs) * epoch)) : o.steps,
           .steps_per_epoch = epoch,
           .units_per_step = static_cast<double>(o.batch),
           .unit = "sentences",
           .loss = "nats",
           .title = "Sentiment: " + name,
           .loss_label = "loss (nats per sentence)",
           .describe = [&](double nats) { return fmt::format("{}  loss {:.3f} nats", name, nats); },
           .evaluate = [&] { return judge(model, data.validation).nats; },
           .metadata = metadata});
  run.checkpoint.fix("text", data.fingerprint);

  Tape tape;
  for (run.start(); run.goes_on();) {
    tape.clear();
    const auto step = static_cast<std::uint64_t>(run.step());
    const SentenceBatch batch = draw_batch(data.training, o.batch, rng.split(1).split(step));
    Var loss = cross_entropy(model(tape, batch), batch.labels);
    tape.backward(loss);
    if (o.clip > 0) clip_grad_norm(model.parameters(), o.clip);
    adam.step();
    run.made_step(loss.item());
  }
  if (run.stopped()) return false;
  run.finish();
  accuracies.add(name, judge(model, data.test).right);
  return true;
}

/// The trained LSTM reads a sentence, word by word.
nlohmann::ordered_json read_aloud(CLI::App& app, Options& o, const std::filesystem::path& weights) {
  const auto saved = restore_model(app, weights, model_options, {"vocabulary", "labels"});
  const auto vocabulary = WordVocabulary::from_json(saved.at("vocabulary"));
  const auto labels = nlohmann::json::parse(saved.at("labels")).get<std::vector<std::string>>();
  Classifier<LSTM> model(vocabulary.size(), std::ssize(labels), o, o.hidden, {.watch = true}, Generator(o.seed));
  load_weights(weights, model);
  model.eval();
  std::vector<std::string> words = split_words(o.sentence);
  const std::vector<std::int32_t> numbers = vocabulary.encode(words);
  Tape tape;
  const Var x = model.embedding(tape, Indices(numbers, {std::ssize(numbers), 1}));
  const Var logits = model.head(model.layer(x).y);  // after every word, as if the sentence ended there
  for (std::size_t i = 0; i < words.size(); ++i)
    if (numbers[i] == WordVocabulary::unknown) words[i] += " ?";
  const auto [label, probability] = explain(words, model.layer, logits, labels, o.out);
  return {{"sentence", o.sentence}, {"label", label}, {"probability", probability}};
}

int compare(CLI::App& app, Options& o) {
  const bool written = o.data.empty();
  const Reviews reviews = written ? write_reviews(9000, 600, 1200, Generator(o.seed).split(2)) : read_reviews(o.data);
  const Dataset data(reviews, o.least);
  if (!o.resume) {
    make_folder(o.out);
    std::vector<std::filesystem::path> files(models.begin(), models.end());
    for (const char* picture : {"accuracy", "learning", "explain"})
      for (const char* type : {".csv", ".svg"}) files.emplace_back(std::string(picture) + type);
    for (const char* part : {"training.tsv", "validation.tsv", "test.tsv"}) files.emplace_back(part);
    set_earlier_run_aside(o.out, files);
  }
  if (written) save(reviews, o.out);

  Accuracies accuracies(data.kinds);
  Options faster = o;
  faster.rate *= 4;  // at the others' rate it would still be learning at the end, and look worse than it is
  const bool finished = train<BagOfWords>(app, faster, data, models[0], o.hidden, {}, accuracies) &&
                        train<RNN>(app, o, data, models[1], o.hidden, {}, accuracies) &&
                        train<LSTM>(app, o, data, models[2], o.hidden, {}, accuracies) &&
                        train<LSTM>(app, o, data, models[3], (o.hidden + 1) / 2,  // an output of the same size
                                    {.bidirectional = Bidirectional::concatenated}, accuracies);
  if (!finished) return exit_stopped;
  accuracies.print();
  accuracies.draw(o.out, 1.0 / static_cast<double>(data.labels.size()));
  draw_learning(models, o.out);
  if (o.sentence.empty())
    o.sentence =
        written ? "the plot started off really great but by the end it became quite boring" : reviews.test.front().text;
  nlohmann::ordered_json result;
  for (const auto& [model, shares] : accuracies.rows()) result[model] = shares;
  result["explained"] = read_aloud(app, o, o.out / "lstm/best.safetensors");
  print_result(result);
  return exit_ok;
}

int main(int argc, char** argv) {
  CLI::App app("Compares a bag of words, an RNN and LSTMs at telling praise from complaint.", "sentiment");
  Options o;
  o.out = "runs/sentiment";
  o.steps = 2500;
  o.rate = 0.003;
  add_training_options(app, o);
  app.add_option("--hidden", o.hidden, "Units of each model (of the bidirectional LSTM half as many each way)")
      ->check(size_range());
  app.add_option("--embedding", o.embedding, "Size of the vector that stands for a word")->check(size_range());
  app.add_option("--least", o.least, "Words that occur less often in training count as unknown")->check(size_range());
  app.add_option("--data", o.data, "A file of lines \"label, tab, text\"; none: sentences by a grammar")
      ->default_str("")
      ->transform(absolute_path());
  app.add_option("--explain", o.sentence,
                 "Show what the LSTM does as it reads this sentence: that of the run in --out, if there is one, or "
                 "after training");
  o.fixed.insert(o.fixed.end(), {"hidden", "embedding", "least"});

  return run_example(app, argc, argv, [&] {
    const auto threads = use_threads(o.threads);
    if (app.count("--explain") > 0 && split_words(o.sentence).empty()) fail("--explain: the sentence has no words");
    const auto weights = o.out / "lstm/best.safetensors";
    if (app.count("--explain") > 0 && !o.resume && std::filesystem::exists(weights)) {
      print_result(read_aloud(app, o, weights));
      return exit_ok;
    }
    if (o.resume) restore_run_options(app, in_folder(o, models[0]));  // it was the first to be trained
    if (!o.data.empty()) o.saved.emplace_back("data");
    return compare(app, o);
  });
}
