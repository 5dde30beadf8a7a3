/// Recognises speech-like sounds without ever being told which label is when: CTC, and what context is worth.

#include <autograd/autograd.h>
#include <examples/common/folder.h>
#include <examples/common/run.h>
#include <examples/recognise/report.h>
#include <layers/layers.h>
#include <optim/optim.h>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

using namespace unroll;
using namespace unroll::examples;
using namespace unroll::examples::recognise;

struct Options : TrainingOptions {
  Index hidden = 96, context = 4, beam = 8, test = 400;
};

/// The network without a memory: h_t = tanh(W [x_{t-c} ... x_{t+c}] + b), from a frame and c others on either side
/// (Graves and Schmidhuber 2005, "Framewise phoneme classification with bidirectional LSTM").
class FrameNetwork : public Module {
 public:
  struct Options {
    Index context = 0;  ///< c
  };
  FrameNetwork(Index inputs, Index hidden, Generator& rng, Options options)
      : context_(options.context), linear_((2 * context_ + 1) * inputs, hidden, rng), outputs_(hidden) {
    add("linear", linear_);
  }
  /// x [T, N, D] -> [T, N, H]
  Var operator()(Tape& tape, const Var& x) const {
    const Var none = tape.constant(Tensor({context_, x.size(1), x.size(2)})), all = concat({none, x, none});
    std::vector<Var> shifted;
    for (Index k = 0; k <= 2 * context_; ++k) shifted.push_back(slice(all, 0, k, k + x.size(0)));
    return tanh(linear_(concat(shifted, 2)));
  }
  Index outputs() const { return outputs_; }

 private:
  Index context_;
  Linear linear_;
  Index outputs_;
};

Var read(Tape&, LSTM& lstm, const Var& x, std::span<const Index> lengths) { return lstm(x, {}, lengths).y; }
Var read(Tape& tape, FrameNetwork& network, const Var& x, std::span<const Index>) { return network(tape, x); }

/// What is said in each frame? frames [T, N, bands] -> log p = log_softmax(head(dropout(layer(frames)))) [T, N,
/// labels].
template <class Layer>
struct Recogniser : Module {
  Layer layer;
  Dropout dropout;
  Linear head;

  Recogniser(const Options& o, Index units, typename Layer::Options layer_options, Generator rng)
      : layer(bands, units, rng, layer_options), dropout(o.dropout, rng), head(layer.outputs(), label_count(), rng) {
    add("layer", layer);
    add("dropout", dropout);
    add("head", head);
  }
  Var operator()(Tape& tape, const Batch& batch) {
    return log_softmax(head(dropout(read(tape, layer, tape.constant(batch.frames), batch.lengths))));
  }
  /// The labels in their order are all that training is told: CTC sums over all the ways to lay them out in time.
  Var loss(Tape& tape, const Batch& batch) {
    return ctc((*this)(tape, batch), batch.labels, batch.frame_counts, batch.label_counts, {.blank = blank});
  }
};

/// Utterances that training never hears, by speakers that it never hears.
struct HeldOut {
  Normalisation normalisation;  ///< by utterances for training
  std::vector<Utterance> validation, test;
};

template <class Layer>
std::vector<Posteriors> listen(Recogniser<Layer>& model, const HeldOut& data) {
  std::vector<Posteriors> all;
  Tape tape = Tape::inference();
  model.eval();
  for (std::span<const Utterance> rest = data.test; !rest.empty();) {
    const Batch batch(rest.first(std::min<std::size_t>(100, rest.size())), data.normalisation);
    rest = rest.subspan(batch.lengths.size());
    tape.clear();
    const Var log_p = model(tape, batch);
    for (std::size_t n = 0; n < batch.lengths.size(); ++n) {
      const Var own = slice(select(log_p, 1, static_cast<Index>(n)), 0, 0, batch.lengths[n]);
      all.push_back({own.value().to_vector(), label_count()});
    }
  }
  model.train();
  return all;
}

/// Trains one model, in a folder of its own. Returns false when it was stopped.
template <class Layer>
bool train(const CLI::App& app, const Options& o, const HeldOut& data, const std::string& name,
           const std::string& title, Index units, typename Layer::Options layer_options, std::vector<Heard>& heard) {
  const TrainingOptions own = in_folder(o, name);
  const Generator rng(o.seed);
  Recogniser<Layer> model(o, units, layer_options, rng);
  Adam adam(model.parameters(), {.rate = o.rate});
  adam.set_schedule(schedule::inverse_sqrt(200));
  const Batch validation(data.validation, data.normalisation);
  Run run(app, own, model, adam,
          {.steps = o.steps,
           .steps_per_epoch = 1000,  // there is no end of utterances
           .units_per_step = static_cast<double>(o.batch),
           .unit = "utterances",
           .loss = "nats",
           .title = "Speech recognition: " + title,
           .loss_label = "CTC loss (nats per label)",
           .describe = [&](double nats) { return fmt::format("{}  loss {:.3f} nats", title, nats); },
           .evaluate =
               [&] {
                 Tape tape = Tape::inference();
                 model.eval();
                 const double nats = model.loss(tape, validation).item();
                 model.train();
                 return nats;
               },
           .metadata = option_values(app, {"hidden", "context"})});

  Tape tape;
  for (run.start(); run.goes_on();) {
    // Every model hears the same utterances, in the same order.
    const auto step = static_cast<std::uint64_t>(run.step());
    const auto utterances = draw_utterances(o.batch, rng.split(1).split(step));
    tape.clear();
    Var loss = model.loss(tape, Batch(utterances, data.normalisation));
    tape.backward(loss);
    if (o.clip > 0) clip_grad_norm(model.parameters(), o.clip);
    adam.step();
    run.made_step(loss.item());
  }
  if (run.stopped()) return false;
  run.finish();
  heard.push_back({name, title, listen(model, data)});
  return true;
}

int compare(const CLI::App& app, const Options& o) {
  const Generator streams = Generator(o.seed).split(2);
  const HeldOut data{Normalisation(draw_utterances(300, streams.split(1))), draw_utterances(100, streams.split(2)),
                     draw_utterances(o.test, streams.split(3))};
  const std::vector<std::string> names = {"frame", "window", "lstm", "bidirectional_lstm"};
  if (!o.resume) {
    make_folder(o.out);
    std::vector<std::filesystem::path> files(names.begin(), names.end());
    std::ranges::copy(report_files(names), std::back_inserter(files));
    set_earlier_run_aside(o.out, files);
  }
  std::vector<Heard> heard;
  const bool finished =
      train<FrameNetwork>(app, o, data, names[0], "frame by frame", o.hidden, {}, heard) &&
      train<FrameNetwork>(app, o, data, names[1], fmt::format("windows of {} frames", 2 * o.context + 1), o.hidden,
                          {.context = o.context}, heard) &&
      train<LSTM>(app, o, data, names[2], "LSTM", o.hidden, {}, heard) &&
      train<LSTM>(app, o, data, names[3], "bidirectional LSTM", (o.hidden + 1) / 2,  // an output of the same size
                  {.bidirectional = Bidirectional::concatenated}, heard);
  if (!finished) return exit_stopped;
  print_result(report(heard, data.test, o.beam, o.out));
  return exit_ok;
}

int main(int argc, char** argv) {
  CLI::App app("Compares networks with and without context at recognising speech-like sounds by CTC.", "recognise");
  Options o;
  o.out = "runs/recognise";
  o.batch = 16;
  o.steps = 2500;
  o.rate = 0.01;
  o.fixed.insert(o.fixed.end(), {"hidden", "context"});
  o.saved = {"steps"};
  add_training_options(app, o, {"epochs"});
  app.add_option("--hidden", o.hidden, "Units of each network (of the bidirectional LSTM half as many each way)")
      ->check(size_range());
  app.add_option("--context", o.context, "Frames on either side that the network of windows sees")
      ->check(CLI::Range(1, 100));
  app.add_option("--beam", o.beam, "Transcriptions that the search follows at once")->check(size_range());
  app.add_option("--test", o.test, "Utterances to be judged by")->check(size_range());
  return run_example(app, argc, argv, [&] {
    const auto threads = use_threads(o.threads);
    if (o.resume) restore_run_options(app, in_folder(o, "frame"));  // it was the first to be trained
    return compare(app, o);
  });
}
