/// Why LSTMs: what of the gradient reaches the first step, in an RNN, a GRU and an LSTM, and what clipping is for.

#include <autograd/autograd.h>
#include <examples/common/folder.h>
#include <examples/common/run.h>
#include <examples/why_lstm/recall.h>
#include <examples/why_lstm/report.h>
#include <layers/layers.h>
#include <optim/optim.h>

#include <CLI/CLI.hpp>

#include <cmath>

using namespace unroll;
using namespace unroll::examples;

struct Options : TrainingOptions {
  Index hidden = 64, length = 100;
  double forget_bias = 1, scale = 4;
};

/// The first number of a sequence, told after the last step (see Recall).
template <class Layer>
struct RecallModel : Module {
  Layer layer;
  Linear head;

  RecallModel(const Options& o, Generator rng, bool watch = false)
      : layer(2, o.hidden, rng, layer_options(o, watch)), head(o.hidden, 1, rng) {
    add("layer", layer);
    add("head", head);
  }

  /// All weights start as PyTorch's do, but for the bias of the LSTM's forget gate f. The gradient of c is multiplied
  /// with f at every step on its way back, so this bias says how far it comes before anything is learned: PyTorch's 0
  /// lets about half of it through each time, s(0) = 0.5; our default of 1 s(1) = 0.73; and 3 s(3) = 0.95.
  static auto layer_options(const Options& o, bool watch) {
    typename Layer::Options options;
    options.watch = watch;
    if constexpr (requires { options.cell.forget_bias; }) options.cell.forget_bias = o.forget_bias;
    return options;
  }

  Var loss(Tape& tape, const Recall& data) {
    const FinalState last = layer.final_state(tape.constant(data.x.to(head.W.dtype())));
    return mse(head(last.values.front()), data.first.to(head.W.dtype()));  // the first of the state's Vars is h
  }
};

/// The gradient on its way back, relative to where it starts, for each Var v of the state: |dL/dv_t| / |dL/dv_T|.
template <class Layer>
std::vector<Curve> gradients(RecallModel<Layer>& watched, Tape& tape, Index steps, Generator rng) {
  tape.clear();
  tape.backward(watched.loss(tape, Recall(steps, 32, rng)));
  std::vector<Curve> curves;
  for (const char* v : {"h", "c"}) {
    if (v[0] == 'c' && !std::is_same_v<Layer, LSTM>) continue;
    curves.push_back({v, watched.layer.watched().gradient_norms(v)});
    const double last = curves.back().values.back();
    for (double& norm : curves.back().values) norm /= last;
  }
  return curves;
}

/// Adds a model's gradients: along a sequence of --length steps, and what reaches the first step by length. In double
/// precision: what is left after hundreds of steps can be too small for a float.
template <class Layer>
void add_gradients(const std::string& name, const RecallModel<Layer>& model, const Options& o,
                   Findings::Gradients& found) {
  RecallModel<Layer> twin(o, Generator(0), true);
  twin.to(float64);
  twin.load_state_dict(model.state_dict());
  const Generator rng = Generator(o.seed).split(1);
  Tape tape;
  const std::size_t first = found.reach.size();
  for (const Curve& curve : gradients(twin, tape, o.length, rng)) {
    found.along.push_back({name + " " + curve.name, curve.values});
    found.reach.push_back({name + " " + curve.name, {}});
  }
  for (Index steps : Findings::lengths) {
    const std::vector<Curve> curves = gradients(twin, tape, steps, rng);
    for (std::size_t i = 0; i < curves.size(); ++i) found.reach[first + i].values.push_back(curves[i].values.front());
  }
}

/// Trains with sequences of 2 to --length steps: from the short ones every model could learn what the long ones need.
template <class Layer>
void train(const std::string& name, RecallModel<Layer>& model, const Options& o, const StopSignal& stop) {
  Adam adam(model.parameters(), {.rate = o.rate});
  Generator rng = Generator(o.seed).split(2);
  Progress progress(0, o.steps, static_cast<double>(o.batch), "sequences");
  Mean losses;
  Tape tape;
  for (Index step = 1; step <= o.steps && !stop.requested(); ++step) {
    tape.clear();
    Var loss = model.loss(tape, Recall(2 + rng.below(o.length - 1), o.batch, rng));
    tape.backward(loss);
    if (o.clip > 0) clip_grad_norm(model.parameters(), o.clip);
    adam.step();
    losses.add(loss.item());
    if (!progress.due() && step < o.steps) continue;
    progress.show(step, fmt::format("{}  loss {:.4f}", name, losses.value()));
    losses.reset();
  }
}

/// The root mean square error by length, on sequences that training has not seen; with no model, that of an answer of
/// 0.
template <class Layer>
std::vector<double> errors(RecallModel<Layer>* model, const Options& o) {
  std::vector<double> all;
  Tape tape = Tape::inference();
  for (Index steps : Findings::lengths) {
    tape.clear();
    Generator rng = Generator(o.seed).split(3);
    const Recall data(steps, 256, rng);
    const Var square = model != nullptr ? model->loss(tape, data) : mse(tape.zeros(data.first.shape()), data.first);
    all.push_back(std::sqrt(square.item()));
  }
  return all;
}

template <class Layer>
void study(const std::string& name, const Options& o, const StopSignal& stop, Findings& found) {
  RecallModel<Layer> model(o, Generator(o.seed));
  add_gradients(name, model, o, found.start);
  train(name, model, o, stop);
  add_gradients(name, model, o, found.trained);
  found.error.push_back({name, errors(&model, o)});
}

/// An RNN whose recurrent weights are too large.
struct ScaledRNN : RecallModel<RNN> {
  explicit ScaledRNN(const Options& o) : RecallModel<RNN>(o, Generator(o.seed)) {
    parameter("layer.weight_hh_l0").value().matrix<float>() *= static_cast<float>(o.scale);
  }
};

/// Its loss in plain gradient descent on sequences of 20 steps, until the gradient is no number any more. (Adam divides
/// a gradient by its usual size, which hides most of what is to be seen here.)
Curve explode(const std::string& name, double clip, const Options& o, const StopSignal& stop) {
  ScaledRNN model(o);
  SGD sgd(model.parameters(), {.rate = 0.05});
  Generator rng = Generator(o.seed).split(4);
  Curve losses{name, {}};
  Tape tape;
  for (int step = 0; step < 500 && !stop.requested(); ++step) {
    tape.clear();
    Var loss = model.loss(tape, Recall(20, 32, rng));
    tape.backward(loss);
    losses.values.push_back(loss.item());
    if (!std::isfinite(clip_grad_norm(model.parameters(), clip, {.non_finite = NonFinite::skip}))) break;
    sgd.step();
  }
  return losses;
}

int run(const Options& o) {
  const StopSignal stop;
  make_folder(o.out);
  set_earlier_run_aside(o.out, report_files());

  Findings found;
  study<RNN>("RNN", o, stop, found);
  study<GRU>("GRU", o, stop, found);
  study<LSTM>("LSTM", o, stop, found);
  found.error.push_back({"no memory", errors<RNN>(nullptr, o)});
  found.scale = o.scale;
  add_gradients(fmt::format("RNN (W_hh x {})", o.scale), ScaledRNN(o), o, found.start);
  found.unclipped = explode("not clipped", std::numeric_limits<double>::infinity(), o, stop);
  found.clipped = explode("norm clipped to 1", 1, o, stop);
  if (stop.requested()) {
    fmt::print(stderr, "stopped; the models are small, and the next run trains them anew\n");
    return exit_stopped;
  }
  report(found, o.out);
  return exit_ok;
}

int main(int argc, char** argv) {
  CLI::App app("Shows what of the gradient reaches the first step of a sequence.", "why_lstm");
  Options o;
  o.out = "runs/why_lstm";
  o.rate = 0.005;
  o.steps = 2000;
  // Several small models, one after another: there is no long run to resume.
  add_training_options(app, o, {"dropout", "epochs", "resume"});
  app.get_option("--out")->description("Folder for the pictures and their numbers");
  app.add_option("--hidden", o.hidden, "Units of a recurrent layer")->check(size_range());
  app.add_option("--length", o.length, "Steps of the longest sequence trained on, whose gradient is plotted")
      ->check(CLI::Range(2, 16384));
  app.add_option("--forget-bias", o.forget_bias, "What the bias of the LSTM's forget gate starts at")
      ->check(CLI::Range(-20.0, 20.0));
  app.add_option("--scale", o.scale, "Factor on recurrent weights that makes gradients explode")->check(above_zero());
  return run_example(app, argc, argv, [&] {
    const auto threads = use_threads(o.threads);
    return run(o);
  });
}
