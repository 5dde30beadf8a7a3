/// Translates numbers and dates, as they are said, into digits, and shows what its attention looks at.

#include <autograd/autograd.h>
#include <examples/common/plot.h>
#include <examples/common/run.h>
#include <examples/translate/report.h>
#include <examples/translate/tokens.h>
#include <layers/layers.h>
#include <optim/optim.h>

#include <CLI/CLI.hpp>

using namespace unroll;
using namespace unroll::examples;
using namespace unroll::examples::translate;

struct Options : TrainingOptions {
  std::string attention = "additive";
  Index hidden = 64, embedding = 32, beam = 4, test = 600;
  std::string text;
  inline static const std::vector<std::string> model = {"attention", "hidden", "embedding"};
};

/// Reads a phrase in both directions, and writes an answer while it looks back at what it needs (Bahdanau, Cho and
/// Bengio 2015). Without attention, all that the decoder has of the phrase is one vector, the same at every step.
struct Translator : Module {
  Words words;
  Embedding read, written;
  LSTM encoder;
  AdditiveAttention attention;
  Linear bridge;
  LSTMCell decoder;
  Linear head;
  bool attends;

  Translator(const Options& o, Generator rng)
      : read(words.size(), o.embedding, rng),
        written(answers::count, o.embedding, rng),
        encoder(o.embedding, o.hidden, rng, {.bidirectional = Bidirectional::concatenated}),
        attention(2 * o.hidden, 2 * o.hidden, o.hidden, rng),
        bridge(2 * o.hidden, 4 * o.hidden, rng),
        decoder(o.embedding + 2 * o.hidden, 2 * o.hidden, rng, {}),
        head(4 * o.hidden, answers::count, rng),
        attends(o.attention != "none") {
    add("read", read);
    add("written", written);
    add("encoder", encoder);
    if (attends) add("attention", attention);
    add("bridge", bridge);
    add("decoder", decoder);
    add("head", head);
  }

  struct State {
    Var h, c, context;
  };
  struct Encoded {
    AttentionMemory memory;
    State start;
  };
  Encoded encode(Tape& tape, const Batch& batch) {
    const auto [y, last] = encoder(read(tape, batch.read()), {}, batch.lengths);
    Var all = concat({last.values[0], last.values[2]}, -1);  // h of both directions
    auto [h, c] = chunk<2>(bridge(all));
    return {attends ? attention.remember(y, batch.lengths) : AttentionMemory(), {tanh(h), c, all}};
  }

  /// One character: tokens [M] -> logits [M, 12]. `watch` gets the weights of the attention.
  auto step(Tape& tape, const AttentionMemory& memory, std::vector<std::vector<double>>* watch = nullptr) {
    return [this, &tape, memory, watch](const Indices& tokens, const State& s) {
      const Var x = decoder.project(concat({written(tape, tokens), s.context}, -1));
      const auto [h, c] = decoder(x, {s.h, s.c});
      Var context = s.context;
      if (attends) {
        const Attended found = attention(h, memory);
        context = found.context;
        if (watch != nullptr) watch->push_back(found.weights.value().to_vector());
      }
      return Decoded{head(concat({h, context}, -1)), State{h, c, context}};
    };
  }

  Var loss(Tape& tape, const Batch& batch) {
    const auto [memory, start] = encode(tape, batch);
    const auto [logits, last] = teacher_forcing(step(tape, memory), start, answers::end, batch.write());
    return cross_entropy(logits, batch.write(), {.ignore_index = Batch::padding});
  }
};

/// The `width` best answers for each phrase, in order; of a width of 1, what greedy search finds.
std::vector<std::vector<Hypothesis>> translate_all(Translator& model, const std::vector<Phrase>& phrases, Index width) {
  std::vector<std::vector<Hypothesis>> found;
  Tape tape = Tape::inference();
  model.eval();
  for (std::size_t begin = 0; begin < phrases.size(); begin += 100) {
    tape.clear();
    const std::size_t end = std::min(begin + 100, phrases.size());
    const auto [memory, start] = model.encode(tape, Batch({&phrases[begin], phrases.data() + end}, model.words));
    const BeamOptions options{answers::end, answers::end, answers::longest, width, width};
    for (auto& hypotheses : beam_search(model.step(tape, memory), start, options))
      found.push_back(std::move(hypotheses));
  }
  model.train();
  return found;
}

/// Draws where the decoder looked as it wrote.
void draw_attention(Translator& model, const Phrase& phrase, const std::filesystem::path& out,
                    const std::string& name) {
  if (!model.attends) return;
  Tape tape = Tape::inference();
  const auto [memory, start] = model.encode(tape, Batch({phrase}, model.words));
  HeatMap map{.title = "Where the decoder looks, to write " + phrase.answer,
              .x_label = "what it reads",
              .y_label = "what it writes",
              .scale_label = "weight",
              .rows = {},
              .columns = tokens_of(phrase.text),
              .values = {}};
  const auto written = greedy_search(model.step(tape, memory, &map.values), start,
                                     {.start = answers::end, .end = answers::end, .max_length = answers::longest});
  for (char c : text_of(written.front().tokens)) map.rows.emplace_back(1, c);
  map.rows.resize(map.values.size(), "end");
  draw(map, out / (name + ".csv"), out / (name + ".svg"));
}

/// How many answers are exactly right, of numbers and of dates; and pictures for the longest.
void judge(Translator& model, const std::vector<Phrase>& test, const Options& o, nlohmann::ordered_json& result) {
  const auto answers = [&](Index width) {
    std::vector<std::string> best;
    for (const auto& found : translate_all(model, test, width)) best.push_back(text_of(found.front().tokens));
    return best;
  };
  report(test, answers(1), answers(o.beam), o.beam, result);
  for (const bool dates : {false, true})
    if (const Phrase* longest = longest_of(test, dates))
      draw_attention(model, *longest, o.out, dates ? "attention_dates" : "attention_numbers");
}

int train(const Options& o, const CLI::App& app) {
  Translator model(o, Generator(o.seed));
  Adam adam(model.parameters(), {.rate = o.rate});
  adam.set_schedule(schedule::inverse_sqrt(200));
  const Generator streams = Generator(o.seed).split(1);
  const Batch validation(draw_phrases(Part::validation, 300, streams.split(1)), model.words);
  Generator rng = streams.split(2);
  Tape tape;

  Run run(app, o, model, adam,
          {.steps = o.steps,
           .steps_per_epoch = 1000,  // there is no end of phrases
           .units_per_step = static_cast<double>(o.batch),
           .unit = "phrases",
           .loss = "nats",
           .title = "Translation of numbers and dates, attention: " + o.attention,
           .loss_label = "loss (nats per character)",
           .describe = [](double nats) { return fmt::format("loss {:.4f} nats", nats); },
           .evaluate =
               [&] {
                 Tape reading = Tape::inference();
                 return model.loss(reading, validation).item();
               },
           .metadata = option_values(app, Options::model)});
  run.checkpoint.add("rng", rng);

  std::vector<Phrase> phrases(static_cast<std::size_t>(o.batch));
  for (run.start(); run.goes_on();) {
    for (Phrase& phrase : phrases) phrase = draw_phrase(Part::train, rng);
    tape.clear();
    Var loss = model.loss(tape, Batch(phrases, model.words));
    tape.backward(loss);
    if (o.clip > 0) clip_grad_norm(model.parameters(), o.clip);
    adam.step();
    run.made_step(loss.item());
  }
  if (run.stopped()) return exit_stopped;
  run.finish();

  nlohmann::ordered_json result = {{"steps", run.step()},
                                   {"attention", o.attention},
                                   {"validation_nats", run.best_loss()},
                                   {"seconds", run.seconds()}};
  judge(model, draw_phrases(Part::test, o.test, streams.split(3)), o, result);
  print_result(result);
  return exit_ok;
}

/// Translates a text by saved weights, whose file says what the model is.
int translate_text(Options& o, CLI::App& app) {
  const auto weights = find_weights(o);
  restore_model(app, weights, Options::model);
  Translator model(o, Generator(o.seed));
  load_weights(weights, model);
  const auto all = translate_all(model, {{o.text, ""}}, o.beam);
  for (const Hypothesis& found : all.front())
    fmt::print("{:<12} {:.2f} %\n", text_of(found.tokens), 100 * std::exp(found.log_probability));
  return exit_ok;
}

int main(int argc, char** argv) {
  CLI::App app("Trains an encoder and a decoder with attention on numbers and dates in words, or translates with them.",
               "translate");
  Options o;
  o.out = "runs/translate";
  o.batch = 64;
  o.rate = 0.004;
  o.steps = 1200;
  o.fixed.insert(o.fixed.end(), {"attention", "hidden", "embedding"});
  o.saved = {"steps"};
  add_training_options(app, o, {"epochs"});
  app.add_option("--attention", o.attention, "additive or none")->check(CLI::IsMember({"additive", "none"}));
  app.add_option("--hidden", o.hidden, "Units of the encoder in each direction; the decoder has twice as many")
      ->check(size_range());
  app.add_option("--embedding", o.embedding, "Size of the vector that stands for a word or a character")
      ->check(size_range());
  app.add_option("--beam", o.beam, "Answers that are followed at once")->check(size_range());
  app.add_option("--test", o.test, "Phrases to be judged by")->check(size_range());
  auto* text = app.add_option("--translate", o.text,
                              "Only translate this, with the weights in --out (a run's folder or a weight file)")
                   ->default_str("");
  return run_example(app, argc, argv, [&] {
    const auto threads = use_threads(o.threads);
    if (o.resume) restore_run_options(app, o);
    return text->count() > 0 ? translate_text(o, app) : train(o, app);
  });
}
