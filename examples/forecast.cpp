/// Forecasts time series with their uncertainty, and shows when a network is worth it and when nothing helps.

#include <autograd/autograd.h>
#include <examples/common/console.h>
#include <examples/common/folder.h>
#include <examples/common/options.h>
#include <examples/common/plot.h>
#include <examples/forecast/baselines.h>
#include <layers/layers.h>
#include <optim/optim.h>

#include <CLI/CLI.hpp>

#include <deque>
#include <numeric>

using namespace unroll;
using namespace unroll::examples;
using namespace unroll::examples::forecast;

struct Options : TrainingOptions {
  std::filesystem::path data;
  std::vector<std::string> columns;
  Index window = 64, horizon = 24, hidden = 32, length = 5000;
};

/// An LSTM reads the window; from what it remembers, one linear map says the quantiles of all steps ahead at once (Wen
/// et al. 2017, "A multi-horizon quantile recurrent forecaster"). The outer two are the middle minus and plus something
/// positive, so that they never cross.
struct Forecaster : Module {
  LSTM lstm;
  Dropout dropout;
  Linear head;

  Forecaster(const Samples& samples, const Options& o, Generator rng)
      : lstm(samples.columns(), o.hidden, rng),
        dropout(o.dropout, rng),
        head(o.hidden, samples.horizon * samples.columns() * quantiles, rng) {
    add("lstm", lstm);
    add("dropout", dropout);
    add("head", head);
  }

  /// x [W, N, C] -> [N, H C, 3], the quantiles last.
  Var operator()(const Var& x) {
    const Var h = dropout(lstm.final_state(x).values.front());
    const auto [below, mid, above] = chunk<3>(head(h));
    Var low = mid - softplus(below), high = mid + softplus(above);
    return stack({low, mid, high}, -1);
  }
};

/// Walks forward: at every origin of a range, a forecast of what comes from what has been; f(quantiles, batch).
template <class F>
void walk_forward(Forecaster& model, const Samples& samples, Samples::Range range, const F& f) {
  Tape tape = Tape::inference();
  model.eval();
  for (Index begin = range.begin; begin < range.end; begin += 256) {
    tape.clear();
    std::vector<Index> origins(static_cast<std::size_t>(std::min<Index>(256, range.end - begin)));
    std::iota(origins.begin(), origins.end(), begin);
    const Batch batch(samples, origins);
    f(model(tape.constant(batch.x)), batch);
  }
  model.train();
}

double evaluate(Forecaster& model, const Samples& samples) {
  Mean loss;
  walk_forward(model, samples, samples.validation, [&](const Var& said, const Batch& batch) {
    loss.add(pinball(said, batch.y, levels).item(), static_cast<double>(batch.y.size()));
  });
  return loss.value();
}

Matrix forecast_test(Forecaster& model, const Samples& samples) {
  std::vector<double> all;
  walk_forward(model, samples, samples.test, [&](const Var& said, const Batch&) {
    const std::vector<double> values = said.value().to_vector();
    all.insert(all.end(), values.begin(), values.end());
  });
  const Index rows = samples.test.size();
  return Eigen::Map<const Matrix>(all.data(), rows, std::ssize(all) / rows);
}

/// Trains until the validation part is forecast no better any more, and goes back to the best. False when told to stop.
bool train(Forecaster& model, const Samples& samples, const Options& o, const std::string& label,
           const StopSignal& stop) {
  constexpr Index evaluate_every = 50;
  Adam adam(model.parameters(), {.rate = o.rate});
  EarlyStopping stopping(model, {.patience = 10});
  Metrics metrics(o.out / ("loss_" + label + ".csv"), {"step", "train_pinball", "validation_pinball"});
  Progress progress(0, o.steps, static_cast<double>(o.batch), "windows");
  Generator rng = Generator(o.seed).split(1);
  Mean losses;
  Tape tape;
  std::vector<Index> origins(static_cast<std::size_t>(o.batch));
  for (Index step = 1; step <= o.steps; ++step) {
    if (stop.requested()) return false;
    for (Index& origin : origins) origin = samples.train.begin + rng.below(samples.train.size());
    tape.clear();
    const Batch batch(samples, origins);
    Var loss = pinball(model(tape.constant(batch.x)), batch.y, levels);
    tape.backward(loss);
    if (o.clip > 0) clip_grad_norm(model.parameters(), o.clip);
    adam.step();
    losses.add(loss.item());
    if (step % evaluate_every != 0 && step != o.steps) continue;

    const double held_out = evaluate(model, samples);
    if (!std::isfinite(held_out)) fail("the loss is not a finite number after step {}; choose a lower --rate", step);
    metrics.add({static_cast<double>(step), losses.value(), held_out});
    if (progress.due() || step == o.steps)
      progress.show(step, fmt::format("{}: pinball {:.4f}, held out {:.4f}", label, losses.value(), held_out));
    losses.reset();
    if (stopping.observe(held_out)) break;
  }
  stopping.restore();
  metrics.write();
  return true;
}

int run(const Options& o) {
  const Generator rng = Generator(o.seed).split(2);
  std::vector<Series> all;
  if (o.data.empty())
    all = {make_seasons(o.length, rng.split(1)), make_mackey_glass(o.length, rng.split(2)),
           make_random_walk(o.length, rng.split(3))};
  else
    all = {read_series(o.data, o.columns)};
  std::deque<Samples> cut;
  std::vector<std::filesystem::path> files = {"errors.csv"};
  for (Series& series : all) {
    const Samples& samples = cut.emplace_back(std::move(series), o.window, o.horizon);  // what is too short shows now
    for (const std::string& label : samples.series.labels)
      for (const char* name : {"loss_{}.csv", "forecast_{}.csv", "forecast_{}.svg"})
        files.push_back(fmt::format(fmt::runtime(name), label));
  }
  make_folder(o.out);
  set_earlier_run_aside(o.out, files);

  const StopSignal stop;
  nlohmann::ordered_json result = {{"horizon", o.horizon}, {"window", o.window}};
  std::string table = "series,method,mase,to_naive,standard_error,pinball,coverage\n";
  fmt::print("{:<16} {:<14} {:>7} {:>17} {:>9} {:>10}\n", "errors, test", "method", "MASE", "relative to naive",
             "pinball", "in band");
  for (const Samples& samples : cut) {
    Forecaster model(samples, o, Generator(o.seed));
    if (!train(model, samples, o, samples.series.labels.front(), stop)) {
      fmt::print(stderr, "stopped; what was finished is in {}\n", quoted(o.out));
      return exit_stopped;
    }
    auto methods = baselines(samples);
    methods.emplace_back("LSTM", forecast_test(model, samples));
    for (std::size_t c = 0; c < samples.series.columns.size(); ++c) {
      const std::string &name = samples.series.names[c], &label = samples.series.labels[c];
      const Errors naive = errors_of(methods.front().second, samples, samples.test, c);
      for (const auto& [method, forecasts] : methods) {
        const Errors e = errors_of(forecasts, samples, samples.test, c);
        const double to_naive = e.mase / naive.mase,
                     chance = standard_error(e.by_origin, naive.by_origin, 2 * o.horizon) / naive.mase;
        fmt::print("{:<16} {:<14} {:>7.3f} {:>8.3f} +- {:<5.3f} {:>9.3f} {:>8.0f} %\n", name, method, e.mase, to_naive,
                   chance, e.pinball, 100 * e.coverage);
        table += fmt::format("{},{},{},{},{},{},{}\n", label, method, e.mase, to_naive, chance, e.pinball, e.coverage);
        result[label][method] = {{"mase", e.mase},
                                 {"to_naive", to_naive},
                                 {"standard_error", chance},
                                 {"pinball", e.pinball},
                                 {"coverage", e.coverage}};
      }
      draw_forecasts(methods.back().second, samples, c, o.out / fmt::format("forecast_{}.svg", label));
    }
    write_file_atomically(o.out / "errors.csv", table);
  }
  print_result(result);
  return exit_ok;
}

int main(int argc, char** argv) {
  CLI::App app(
      "Forecasts time series several steps ahead with quantiles: three made by rule, or columns of a CSV file. Trains "
      "one network after another, each for seconds, and so cannot be resumed.",
      "forecast");
  Options o;
  o.out = "runs/forecast";
  o.batch = 64;
  o.rate = 0.003;
  o.steps = 3000;
  add_training_options(app, o, {"resume", "epochs"});
  auto* data = app.add_option("--data", o.data, "A CSV file with names in its first line, the oldest values first")
                   ->default_str("")
                   ->transform(absolute_path());
  app.add_option("--columns", o.columns, "Those to forecast, together; none: all that hold numbers")
      ->default_str("")
      ->delimiter(',')
      ->needs(data);
  app.add_option("--length", o.length, "Values in each series that is made by rule")
      ->check(size_range())
      ->excludes(data);
  app.add_option("--window", o.window, "Values that a forecast looks back on")->check(size_range());
  app.add_option("--horizon", o.horizon, "Steps to forecast")->check(size_range());
  app.add_option("--hidden", o.hidden, "Units of the LSTM")->check(size_range());
  return run_example(app, argc, argv, [&] {
    const auto threads = use_threads(o.threads);
    return run(o);
  });
}
