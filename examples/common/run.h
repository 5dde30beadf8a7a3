#pragma once

#include <examples/common/console.h>
#include <examples/common/options.h>
#include <layers/module.h>
#include <optim/checkpoint.h>
#include <optim/mean.h>
#include <optim/metrics.h>
#include <optim/optimizer.h>
#include <optim/progress.h>

#include <limits>
#include <optional>

namespace unroll::examples {

/// For --resume: gives the options the values that the run in --out was started with. Throws Error when there is no
/// such run, or when an option was given that does not fit it.
void restore_run_options(CLI::App& app, const TrainingOptions& options);

/// The options of one of several models that are trained one after another, in a folder of its own inside --out: with
/// --resume it goes on if it was begun, and begins if it was not.
TrainingOptions in_folder(TrainingOptions options, const std::string& name);

/// The best weights of the run in --out; or --out itself, where that is a file.
std::filesystem::path find_weights(const TrainingOptions& options);

/// What a weight file says of its model, such as a vocabulary; gives the model's `options` the values that it was
/// trained with. Throws Error unless the file has these and the `others`, and when an option was given that does not
/// fit.
std::map<std::string, std::string> restore_model(CLI::App& app, const std::filesystem::path& weights,
                                                 const std::vector<std::string>& options,
                                                 const std::vector<std::string>& others = {});

/// What surrounds a training loop: the progress line, metrics, evaluations that keep the best weights, checkpoints,
/// Ctrl-C and the plot. The loop itself stays the trainer's:
///
///     Run run(app, options, model, adam, {.steps = ..., .evaluate = [&] { return evaluate(model); }});
///     run.checkpoint.add("state", state);
///     for (run.start(); run.goes_on(); run.made_step(loss)) { ... }
///     if (run.stopped()) return exit_stopped;
///     run.finish();
///
/// A run writes best.safetensors, checkpoint.safetensors, metrics.csv and loss.svg to the folder --out. The checkpoint
/// holds what is in the first and the third: whenever a run is killed, resuming it writes both as they were at the
/// checkpoint, and goes on from there. When and what it evaluates does not depend on how many steps it is to make, so
/// that a run which is stopped and resumed, or made longer, is one that was never interrupted, bit by bit.
class Run {
 public:
  struct Plan {
    Index steps;                                  ///< to be made in all
    double steps_per_epoch;                       ///< for display
    double units_per_step;                        ///< what one step handles, for display
    std::string unit;                             ///< of what: "chars"
    std::string loss;                             ///< the loss in column names: "nats"
    std::string title, loss_label;                ///< of the plot: "loss (nats per character)"
    std::function<std::string(double)> describe;  ///< the loss in the progress line
    std::function<double()> evaluate;             ///< the loss on held-out data; lower is better
    std::map<std::string, std::string> metadata;  ///< goes with the weights
  };
  Run(const CLI::App& app, const TrainingOptions& options, Module& model, Optimizer& optimizer, Plan plan);

  /// With --resume, goes back to where the run stopped; else sets an earlier run in the folder aside. Throws Error,
  /// before any work is done, when the folder cannot be written to.
  void start();
  /// False after the last step, or when the user wants to stop: all is saved then.
  bool goes_on();
  /// Counts a step. Throws Error when losses stop being numbers.
  void made_step(double loss);
  Index step() const { return step_; }
  bool stopped() const { return step_ < plan_.steps; }

  /// Evaluates a last time, draws the plot and gives the model its best weights.
  void finish();

  double train_loss() const { return train_loss_; }
  double validation_loss() const { return validation_loss_; }
  double best_loss() const { return best_loss_; }
  double seconds() const { return progress_->seconds(); }
  double units_per_second() const { return units_per_second_; }

  /// For what else has to be saved.
  Checkpoint checkpoint;

 private:
  void report(bool with_evaluation);
  void save();
  void write_results() const;

  const TrainingOptions& options_;
  Module& model_;
  Plan plan_;
  Metrics metrics_;
  std::optional<Progress> progress_;
  std::optional<StopSignal> stop_;
  Index step_ = 0;
  Mean losses_;  ///< since the last report
  double train_loss_ = std::numeric_limits<double>::quiet_NaN(), validation_loss_ = train_loss_;
  double best_loss_ = std::numeric_limits<double>::infinity(), units_per_second_ = 0;
  std::map<std::string, Tensor> best_;
};

}  // namespace unroll::examples
