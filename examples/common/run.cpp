#include <examples/common/folder.h>
#include <examples/common/plot.h>
#include <examples/common/run.h>

#include <CLI/CLI.hpp>

#include <cmath>
#include <utility>

namespace unroll::examples {

namespace {

constexpr Index report_every = 50, evaluate_every = 250;
constexpr const char *checkpoint_file = "checkpoint.safetensors", *weights_file = "best.safetensors",
                     *metrics_file = "metrics.csv", *plot_file = "loss.svg";

}  // namespace

void restore_run_options(CLI::App& app, const TrainingOptions& options) {
  const Checkpoint checkpoint(options.out / checkpoint_file, {.program = app.get_name()});
  if (!checkpoint.exists())
    fail("there is no run to resume: {} does not exist; start one without --resume", quoted(checkpoint.path()));
  restore_options(app, checkpoint.settings(), options.fixed);
}

TrainingOptions in_folder(TrainingOptions options, const std::string& name) {
  options.out /= name;
  options.resume = options.resume && std::filesystem::exists(options.out / checkpoint_file);
  return options;
}

std::filesystem::path find_weights(const TrainingOptions& options) {
  return std::filesystem::is_directory(options.out) ? options.out / weights_file : options.out;
}

std::map<std::string, std::string> restore_model(CLI::App& app, const std::filesystem::path& weights,
                                                 const std::vector<std::string>& options,
                                                 const std::vector<std::string>& others) {
  auto metadata = read_safetensors(weights).metadata;
  for (const auto& names : {options, others})
    for (const std::string& name : names)
      if (!metadata.contains(name)) fail("{} does not hold weights of {}", quoted(weights), app.get_name());
  restore_options(app, metadata, options);
  return metadata;
}

Run::Run(const CLI::App& app, const TrainingOptions& options, Module& model, Optimizer& optimizer, Plan plan)
    : checkpoint(options.out / checkpoint_file, {.program = app.get_name()}),
      options_(options),
      model_(model),
      plan_(std::move(plan)),
      metrics_(options.out / metrics_file, {"step", "epoch", "train_" + plan_.loss, "validation_" + plan_.loss}) {
  checkpoint.set(option_values(app, options.fixed));
  checkpoint.set(option_values(app, options.saved));
  checkpoint.add("model", model);
  checkpoint.add("optimizer", optimizer);
  checkpoint.add("step", step_);
  checkpoint.add("losses", losses_);
  checkpoint.add("train_loss", train_loss_);
  checkpoint.add("validation_loss", validation_loss_);
  checkpoint.add("best_loss", best_loss_);
  checkpoint.add("best", best_);
  checkpoint.add("metrics", metrics_.text());
}

void Run::start() {
  stop_.emplace();  // before there is a checkpoint that a signal could keep from being up to date
  make_folder(options_.out);
  if (options_.resume) {
    const std::string note = checkpoint.load().note;
    if (!note.empty()) fmt::print(stderr, "{}\n", note);
  } else {
    std::vector<std::filesystem::path> files = {weights_file, metrics_file, plot_file};
    for (const std::filesystem::path& file : checkpoint.files()) files.push_back(file.filename());
    set_earlier_run_aside(options_.out, files);
  }
  save();
  progress_.emplace(step_, plan_.steps, plan_.units_per_step, plan_.unit);
}

void Run::made_step(double loss) {
  losses_.add(loss);
  ++step_;
  const bool evaluation = step_ % evaluate_every == 0;
  if (step_ % report_every == 0) report(evaluation);
  if (evaluation) save();
  if (progress_->due() || step_ == plan_.steps) {
    const double mean = losses_.weight() > 0 ? losses_.value() : train_loss_;
    progress_->show(step_, fmt::format("epoch {:.2f}  {}", static_cast<double>(step_) / plan_.steps_per_epoch,
                                       plan_.describe(mean)));
  }
}

bool Run::goes_on() {
  if (step_ < plan_.steps && !stop_->requested()) return true;
  progress_->finish();
  units_per_second_ = progress_->units_per_second(step_);
  save();
  if (stopped())
    fmt::print(stderr, "stopped after step {}, all saved in {}; the same command with --resume goes on\n", step_,
               quoted(options_.out));
  return false;
}

void Run::finish() {
  // Not in the checkpoint: a longer run that goes on from it has no evaluation here.
  if (step_ % evaluate_every != 0) report(true);
  write_results();
  draw({.title = plan_.title,
        .x_label = "training step",
        .y_label = plan_.loss_label,
        .curves = {{3, "training"}, {4, "validation"}}},
       metrics_.path(), options_.out / plot_file);
  model_.load_state_dict(best_);
}

void Run::report(bool with_evaluation) {
  if (losses_.weight() > 0) train_loss_ = losses_.value();
  losses_.reset();
  double evaluated = std::numeric_limits<double>::quiet_NaN();
  if (with_evaluation) {
    evaluated = validation_loss_ = plan_.evaluate();
    if (evaluated < best_loss_) {
      best_loss_ = evaluated;
      best_ = model_.state_dict();
    }
  }
  if (!std::isfinite(train_loss_) || (with_evaluation && !std::isfinite(evaluated)))
    fail("the loss is not a finite number after step {}; choose a lower --rate", step_);
  const double epoch = static_cast<double>(step_) / plan_.steps_per_epoch;
  metrics_.add({static_cast<double>(step_), std::round(epoch * 1e4) / 1e4, train_loss_, evaluated});
}

void Run::save() {
  checkpoint.save();
  write_results();  // which a run that was killed in between writes again when it is resumed
}

void Run::write_results() const {
  // Before the first evaluation, the weights as they are; so that there are always some to sample from.
  write_safetensors(options_.out / weights_file, {best_.empty() ? model_.state_dict() : best_, plan_.metadata});
  metrics_.write();
}

}  // namespace unroll::examples
