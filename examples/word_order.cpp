/// "Market falls into bear territory" or "Bear falls into market territory": what a bag of words cannot tell apart.

#include <autograd/autograd.h>
#include <examples/common/cells.h>
#include <examples/common/console.h>
#include <examples/common/folder.h>
#include <examples/common/options.h>
#include <examples/common/plot.h>
#include <examples/common/sentences.h>
#include <examples/word_order/headlines.h>
#include <layers/layers.h>
#include <optim/optim.h>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include <cmath>

using namespace unroll;
using namespace unroll::examples;

struct Options : TrainingOptions {
  std::string cell = "lstm";
  Index hidden = 32, embedding = 16;
};

/// Reads the words in their order: h = layer(x_1, ..., x_T), logits = head(h).
template <class Layer>
struct RecurrentModel : Module {
  Embedding embedding;
  Layer layer;
  Linear head;

  RecurrentModel(Index words, const Options& o, Generator rng)
      : embedding(words, o.embedding, rng), layer(o.embedding, o.hidden, rng), head(o.hidden, 2, rng) {
    add("embedding", embedding);
    add("layer", layer);
    add("head", head);
  }
  Var operator()(Tape& tape, const SentenceBatch& batch) {
    return head(layer.final_state(embedding(tape, batch.numbers()), {}, batch.lengths).values.front());
  }
};

/// Reads them as a heap: h = tanh(W mean(x_1, ..., x_T) + b), logits = head(h).
struct BagModel : Module {
  Embedding embedding;
  BagOfWords bag;
  Linear head;

  BagModel(Index words, const Options& o, Generator rng)
      : embedding(words, o.embedding, rng), bag(o.embedding, o.hidden, rng, {}), head(o.hidden, 2, rng) {
    add("embedding", embedding);
    add("bag", bag);
    add("head", head);
  }
  Var operator()(Tape& tape, const SentenceBatch& batch) {
    return head(bag(tape, embedding(tape, batch.numbers()), batch.lengths));
  }
};

/// Headlines as numbers: those about finance, of label 0, and those about wildlife, of label 1, take turns.
std::vector<Sentence> encode(const std::vector<Headlines>& pairs, const WordVocabulary& vocabulary) {
  std::vector<Sentence> sentences;
  for (const Headlines& pair : pairs)
    for (std::int32_t label : {0, 1})
      sentences.push_back({vocabulary.encode(split_words(pair[static_cast<std::size_t>(label)])), label});
  return sentences;
}

/// One step of a model's training. Returns the loss.
double learn(Module& model, Adam& adam, Tape& tape, Var logits, const SentenceBatch& batch, double clip) {
  Var loss = cross_entropy(logits, batch.labels);
  tape.backward(loss);
  if (clip > 0) clip_grad_norm(model.parameters(), clip);
  adam.step();
  return loss.item();
}

/// What a model makes of headlines: p(finance).
template <class Model>
std::vector<double> judge(Model& model, const SentenceBatch& batch) {
  Tape tape = Tape::inference();
  const std::vector<double> p = softmax(model(tape, batch)).value().to_vector();
  std::vector<double> finance;
  for (std::size_t i = 0; i < p.size(); i += 2) finance.push_back(p[i]);
  return finance;
}

double accuracy(const std::vector<double>& finance, const SentenceBatch& batch) {
  Mean right;
  for (std::size_t i = 0; i < finance.size(); ++i) right.add((finance[i] < 0.5) == (batch.labels[i] == 1) ? 1 : 0);
  return right.value();
}

template <class Layer>
int train(const Options& o) {
  const Generator rng(o.seed);
  const HeadlineParts parts = write_headlines(2000, 300, rng.split(1));
  std::vector<std::string> words;
  for (const Headlines& pair : parts.training) std::ranges::copy(split_words(pair[0]), std::back_inserter(words));
  const WordVocabulary vocabulary(words, {});
  const std::vector<Sentence> training = encode(parts.training, vocabulary);
  const SentenceBatch test(encode(parts.test, vocabulary));

  RecurrentModel<Layer> recurrent(vocabulary.size(), o, rng.split(2));
  BagModel bag(vocabulary.size(), o, rng.split(2));
  Adam adam(recurrent.parameters(), {.rate = o.rate}), bag_adam(bag.parameters(), {.rate = o.rate});

  StopSignal stop;
  make_folder(o.out);
  set_earlier_run_aside(o.out, {"metrics.csv", "accuracy.svg"});
  const std::string cell = o.cell;
  Metrics metrics(o.out / "metrics.csv",
                  {"step", "bag_accuracy", cell + "_accuracy", "bag_train_nats", cell + "_train_nats"});
  Progress progress(0, o.steps, static_cast<double>(o.batch), "headlines");
  Tape tape;
  Mean loss, bag_loss;  // since the last row
  for (Index step = 1; step <= o.steps; ++step) {
    // Both models learn from the same headlines, in the same order.
    const SentenceBatch batch = draw_batch(training, o.batch, rng.split(3).split(static_cast<std::uint64_t>(step)));
    tape.clear();
    bag_loss.add(learn(bag, bag_adam, tape, bag(tape, batch), batch, o.clip));
    tape.clear();
    loss.add(learn(recurrent, adam, tape, recurrent(tape, batch), batch, o.clip));
    if (!std::isfinite(loss.value() + bag_loss.value()))
      fail("the loss is not a finite number after step {}; choose a lower --rate", step);
    if (progress.due() || step == o.steps)
      progress.show(step, fmt::format("loss {:.3f} nats, bag of words {:.3f}", loss.value(), bag_loss.value()));
    if (step % 20 == 0 || step == o.steps) {
      metrics.add({static_cast<double>(step), accuracy(judge(bag, test), test), accuracy(judge(recurrent, test), test),
                   bag_loss.value(), loss.value()});
      metrics.write();
      if (step == o.steps) break;
      loss.reset();
      bag_loss.reset();
    }
    if (stop.requested()) {
      progress.finish();
      fmt::print(stderr, "stopped after step {}; so short a run cannot be resumed\n", step);
      return exit_stopped;
    }
  }
  progress.finish();
  draw({.title = "The same words in another order: accuracy on held-out headlines",
        .x_label = "training step",
        .y_label = "share judged right",
        .curves = {{2, "bag of words"}, {3, o.cell}}},
       metrics.path(), o.out / "accuracy.svg");

  // The first pair is the title's: its nouns, and its opening with its frame, are among those for the test only.
  std::vector<Headlines> shown(parts.test.begin(), parts.test.begin() + 3);
  shown.insert(shown.begin(), {"market falls into bear territory", "bear falls into market territory"});
  const SentenceBatch examples(encode(shown, vocabulary));
  const std::vector<double> p_bag = judge(bag, examples), p = judge(recurrent, examples);
  fmt::print("\nheld-out headlines, what they are about, and p(finance) by bag of words and {}\n", o.cell);
  for (std::size_t i = 0; i < p.size(); ++i)
    fmt::print("{}{:<8}  {:.3f}  {:.3f}  {}\n", i % 2 == 0 ? "\n" : "", i % 2 == 0 ? "finance" : "wildlife", p_bag[i],
               p[i], shown[i / 2][i % 2]);
  const double by_bag = accuracy(judge(bag, test), test), by_order = accuracy(judge(recurrent, test), test);
  fmt::print("\naccuracy on {} held-out headlines\n  bag of words  {:5.1f} %\n  {:<12}  {:5.1f} %\n", test.count(),
             100 * by_bag, o.cell, 100 * by_order);
  print_result({{"steps", o.steps},
                {"bag_accuracy", by_bag},
                {"recurrent_accuracy", by_order},
                {"bag_train_nats", bag_loss.value()},
                {"recurrent_train_nats", loss.value()},
                {"seconds", progress.seconds()}});
  return exit_ok;
}

int main(int argc, char** argv) {
  CLI::App app("Sets a recurrent network against a bag of words, on headlines of the same words in another order.",
               "word_order");
  Options o;
  o.out = "runs/word_order";
  o.steps = 600;
  o.rate = 0.005;
  add_training_options(app, o, {"resume", "epochs", "dropout"});  // it takes seconds, and headlines cost nothing
  app.add_option("--cell", o.cell, "rnn, lstm or gru")->check(CLI::IsMember({"rnn", "lstm", "gru"}));
  app.add_option("--hidden", o.hidden, "Units of each model")->check(size_range());
  app.add_option("--embedding", o.embedding, "Size of the vector that stands for a word")->check(size_range());
  return run_example(app, argc, argv, [&] {
    const auto threads = use_threads(o.threads);
    return with_layer(o.cell, [&]<class Layer>(std::type_identity<Layer>) { return train<Layer>(o); });
  });
}
