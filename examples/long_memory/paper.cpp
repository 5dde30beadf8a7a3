#include <examples/long_memory/paper.h>

#include <autograd/autograd.h>
#include <autograd/file.h>
#include <examples/common/console.h>
#include <examples/common/folder.h>
#include <examples/long_memory/paper_tasks.h>
#include <layers/layers.h>
#include <optim/optim.h>

#include <fmt/ranges.h>
#include <CLI/CLI.hpp>

#include <algorithm>
#include <cmath>
#include <utility>

namespace unroll::examples {

namespace {

using namespace paper;
namespace fs = std::filesystem;

constexpr Index examine_every = 64, save_every = 4096;  // training sequences
constexpr Index tested = 2560, tested_at_once = 256;

/// outputs = s(head(lstm(x))), at every step or after the last.
struct Network : Module {
  LSTM lstm;
  Linear head;
  bool direct;

  /// The forget gates of the units start with time constants from 1 to ten times the lag, s(b) = 1 - 1/constant,
  /// and with an input gate of s(-b) each takes in as much as it forgets (Tallec and Ollivier 2018, "Can recurrent
  /// neural networks warp time?", section 2). The paper has no forget gates, so a memory that lasts for ever, and lets
  /// input or output gates start closed.
  Network(const Experiment& e, Generator rng)
      : lstm(e.inputs, e.hidden, rng), head(e.hidden + (e.direct ? e.inputs : 0), e.outputs, rng), direct(e.direct) {
    add("lstm", lstm);
    add("head", head);
    Tensor& bias = parameter("lstm.bias_ih_l0").value();  // of the gates i, f, g, o
    for (Index unit = 0; unit < e.hidden; ++unit) {
      const double b = std::log(rng.uniform(1, 10 * static_cast<double>(e.lag)));
      bias.set({unit}, -b);
      bias.set({e.hidden + unit}, b);
    }
  }

  /// The outputs before the s.
  Var operator()(Tape& tape, const Sequences& s) {
    const Var x = tape.constant(s.x);
    if (!s.every_step()) return head(lstm.final_state(x, {}, s.lengths).values[0]);
    const Var h = lstm(x, {}, s.lengths).y;
    return head(direct ? concat({h, x}, -1) : h);
  }
};

/// The cross-entropy of each output, whose gradient before the s is output - target: summed over a sequence's outputs,
/// mean over the sequences.
Var loss_of(Tape& tape, const Var& logits, const Sequences& s) {
  Var terms = binary_cross_entropy_with_logits(logits, s.targets, {.reduction = Reduction::none});
  if (s.every_step()) {
    Tensor within({s.x.shape()[0], s.x.shape()[1], 1});
    for (Index n = 0; n < within.shape()[1]; ++n)
      for (Index t = 0; t < s.lengths[static_cast<std::size_t>(n)]; ++t) within.set({t, n, 0}, 1);
    terms = terms * tape.constant(within);
  }
  return sum(terms) / static_cast<double>(s.lengths.size());
}

/// The errors of the most recent sequences.
class Recent {
 public:
  void add(double error) {
    if (full()) errors_.erase(errors_.begin());
    errors_.push_back(error);
  }
  bool full() const { return std::ssize(errors_) == recent; }
  const std::vector<double>& errors() const { return errors_; }

  std::map<std::string, Tensor> state_dict() const {
    return {{"errors", Tensor({std::ssize(errors_)}, errors_, float64)}};
  }
  void load_state_dict(const std::map<std::string, Tensor>& state) {
    const auto found = state.find("errors");
    if (found == state.end()) fail("Recent: the saved state has no \"errors\"");
    errors_ = found->second.to_vector();
  }

 private:
  std::vector<double> errors_;
};

/// The checkpoint of one network of an experiment.
fs::path file_of(const Experiment& e, Index trial) { return fmt::format("paper-{}-{}.safetensors", e.name, trial); }

/// The training of one network until it succeeds. All that changes is in its checkpoint.
class Trial {
 public:
  Trial(const Experiment& e, Index number, const TrainingOptions& o, const Generator& rng)
      : e_(e),
        network_(e, rng.split(1)),
        adam_(network_.parameters(), {.rate = e.rate}),
        training_(rng.split(2)),
        testing_(rng.split(3)),
        checkpoint_(o.out / file_of(e, number), {.program = "long_memory --paper", .keep = 1}) {
    // Fast at first, then precise: to be right 2,000 times in a row, the weights must have come to rest.
    adam_.set_schedule([](Index step) { return 1 / std::sqrt(1 + static_cast<double>(step) / 500); });
    checkpoint_.fix("seed", fmt::to_string(o.seed));
    checkpoint_.add("network", network_);
    checkpoint_.add("adam", adam_);
    checkpoint_.add("training", training_);
    checkpoint_.add("recent", recent_);
    checkpoint_.add("sequences", sequences_);
    checkpoint_.add("solved", solved_);
    checkpoint_.add("wrong", wrong_);
    if (!o.resume || !checkpoint_.exists()) return;
    const std::string note = checkpoint_.load().note;
    if (!note.empty()) fmt::print(stderr, "{}\n", note);
  }

  /// Trains until the criterion is met, on `limit` sequences at most, then tests. All is saved then, and when the user
  /// wants to stop.
  void run(Index limit, const StopSignal& stop) {
    Progress progress(sequences_, limit, 1, "sequences");
    Mean losses;
    while (!solved() && sequences_ + e_.batch <= limit && !stop.requested()) {
      learn(losses);
      if (sequences_ % save_every == 0) checkpoint_.save();
      if (!progress.due() || losses.weight() == 0) continue;
      progress.show(sequences_, fmt::format("{}  loss {:.4f}", e_.name, losses.value()));
      losses.reset();
    }
    if (solved() && e_.paper_wrong && wrong_ < 0) test();
    checkpoint_.save();
  }

  bool solved() const { return solved_ != 0; }
  Index sequences() const { return sequences_; }
  /// Of the sequences to test with; -1: not tested.
  Index wrong() const { return wrong_; }
  Index weights() const { return network_.count(); }

 private:
  /// One batch, unless the network has succeeded before it: it is judged by answers that this batch has not changed.
  void learn(Mean& losses) {
    solved_ = e_.examined && sequences_ % examine_every == 0 && e_.criterion.met(errors(*e_.examined)) ? 1 : 0;
    if (solved()) return;
    const Sequences batch = e_.draw(e_.batch, training_);
    tape_.clear();
    const Var logits = network_(tape_, batch);
    for (double error : errors_of(Var(sigmoid(logits)).value(), batch)) {
      ++sequences_;
      recent_.add(error);
      solved_ = !e_.examined && recent_.full() && e_.criterion.met(recent_.errors()) ? 1 : 0;
      if (solved()) return;
    }
    const Var loss = loss_of(tape_, logits, batch);
    tape_.backward(loss);
    clip_grad_norm(network_.parameters(), 1);
    adam_.step();
    losses.add(loss.item());
  }

  std::vector<double> errors(const Sequences& s) {
    Tape tape = Tape::inference();
    return errors_of(Var(sigmoid(network_(tape, s))).value(), s);
  }

  /// On sequences that training has not seen.
  void test() {
    wrong_ = 0;
    for (Index done = 0; done < tested; done += tested_at_once)
      for (double error : errors(e_.draw(tested_at_once, testing_))) wrong_ += error < e_.criterion.tolerance ? 0 : 1;
  }

  const Experiment& e_;
  Network network_;
  Adam adam_;
  Generator training_, testing_;
  Recent recent_;
  Tape tape_;
  Index sequences_ = 0, solved_ = 0, wrong_ = -1;
  Checkpoint checkpoint_;
};

/// What came out of an experiment, as a line of the table.
struct Row {
  const Experiment& e;
  Index limit, weights = 0, failed = 0;
  std::vector<Index> sequences = {}, wrong = {};  ///< of the networks that succeeded

  void add(Trial& trial) {
    weights = trial.weights();
    failed += trial.solved() ? 0 : 1;
    if (trial.solved()) sequences.push_back(trial.sequences());
    if (trial.wrong() >= 0) wrong.push_back(trial.wrong());
  }

  static double mean(const std::vector<Index>& values) {
    Mean all;
    for (Index value : values) all.add(static_cast<double>(value));
    return all.value();
  }
  static std::string range(const std::vector<Index>& values) {
    const auto [least, most] = std::ranges::minmax(values);
    return fmt::format("{:.0f} ({} to {})", mean(values), least, most);
  }

  void print() const {
    const auto trials = std::ssize(sequences) + failed;
    const std::string ours =
        failed > 0 ? fmt::format("{} of {} not within {}", failed, trials, limit) : range(sequences);
    fmt::print("{:<28}{:>8}{:>26}{:>9}{:>18}{:>7}{:>9}\n", e.title, e.paper_sequences, ours,
               e.paper_wrong ? fmt::format("{:.3g}", *e.paper_wrong) : "-", wrong.empty() ? "-" : range(wrong),
               e.hidden, weights);
    std::fflush(stdout);
  }

  nlohmann::ordered_json json() const {
    nlohmann::ordered_json row = {{"paper_sequences", e.paper_sequences}, {"sequences", sequences}};
    if (failed > 0) row["not_within"] = limit;
    if (e.paper_wrong) row.update({{"paper_wrong", *e.paper_wrong}, {"wrong", wrong}});
    row.update({{"units", e.hidden}, {"weights", weights}});
    return row;
  }

  std::string csv() const {
    return fmt::format("{},{},{},{},{},{},{},{}\n", e.name, e.paper_sequences,
                       sequences.empty() ? "" : fmt::format("{:.0f}", mean(sequences)), failed,
                       e.paper_wrong ? fmt::to_string(*e.paper_wrong) : "",
                       wrong.empty() ? "" : fmt::format("{:.1f}", mean(wrong)), e.hidden, weights);
  }
};

bool chosen(const Experiment& e, const std::vector<std::string>& names) {
  return std::ranges::any_of(
      names, [&](const std::string& name) { return name == "all" || name == e.name || (name == "quick" && e.quick); });
}

/// Sets an earlier run aside, or sees that there is one to go on with.
void prepare(const TrainingOptions& o, const std::vector<Experiment>& all, const PaperOptions& paper) {
  std::vector<fs::path> files;
  for (const Experiment& e : all)
    for (Index trial = 1; trial <= paper.trials; ++trial)
      if (chosen(e, paper.experiments)) files.push_back(file_of(e, trial));
  if (o.resume && std::ranges::none_of(files, [&](const fs::path& file) { return fs::exists(o.out / file); }))
    fail("there is no run to resume: {} does not exist; start one without --resume", quoted(o.out / files.front()));
  make_folder(o.out);
  files.emplace_back("paper.csv");
  if (!o.resume) set_earlier_run_aside(o.out, files);
}

}  // namespace

void add_paper_options(CLI::App& app, PaperOptions& o) {
  std::vector<std::string> names = {"quick", "all"};
  for (const Experiment& e : experiments(Generator(0))) names.push_back(e.name);
  auto* paper = app.add_option(
      "--paper", o.experiments,
      fmt::format("Instead: experiments of Hochreiter and Schmidhuber 1997, by name: {}", fmt::join(names, ", ")));
  paper->expected(0, static_cast<int>(names.size()))
      ->delimiter(',')
      ->default_str("quick")
      ->check(CLI::IsMember(names).description(""));
  for (const char* other : {"--task", "--gaps", "--hidden", "--batch", "--rate", "--clip", "--steps"})
    paper->excludes(app.get_option(other));
  app.add_option("--trials", o.trials, "With --paper: networks for each experiment")->check(size_range())->needs(paper);
  app.add_option("--sequences", o.sequences,
                 "With --paper: sequences to train each on at most; 0: as many as the paper's LSTM needed")
      ->check(at_least_zero())
      ->needs(paper);
  app.get_option("--resume")->description("With --paper: go on exactly where the same command was stopped");
  app.get_option("--resume")->needs(paper);
}

int run_paper(const TrainingOptions& o, const PaperOptions& paper) {
  const StopSignal stop;
  const Generator rng(o.seed);
  const std::vector<Experiment> all = experiments(rng);
  prepare(o, all, paper);
  std::string heading = fmt::format(
      "Ours: mean of {}{}\n\n{:<28}{:>34}{:>27}\n{:<28}{:>8}{:>26}{:>9}{:>18}{:>7}{:>9}\n", paper.trials,
      paper.trials > 1 ? " (least to most)" : "", "", "training sequences until success",
      fmt::format("then wrong, of {}", tested), "experiment", "paper", "ours", "paper", "ours", "units", "weights");
  std::string csv = "experiment,paper_sequences,sequences,failed,paper_wrong,wrong,units,weights\n";
  nlohmann::ordered_json result;
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (!chosen(all[i], paper.experiments)) continue;
    Row row{all[i], paper.sequences > 0 ? paper.sequences : all[i].paper_sequences};
    for (Index number = 1; number <= paper.trials; ++number) {
      const Generator own = rng.split(static_cast<std::uint64_t>(number));  // each has its own strings, too
      const Experiment e = experiments(own)[i];
      Trial trial(e, number, o, own.split(10 + i));
      fmt::print("{}", std::exchange(heading, ""));  // not above an error
      trial.run(row.limit, stop);
      if (stop.requested()) {
        fmt::print(stderr,
                   "stopped in {} after {} sequences, all saved in {}; the same command with --resume goes on\n",
                   e.name, trial.sequences(), quoted(o.out));
        return exit_stopped;
      }
      row.add(trial);
    }
    row.print();
    result[all[i].name] = row.json();
    csv += row.csv();
    write_file_atomically(o.out / "paper.csv", csv);
  }
  fmt::print("\n");
  print_result(result);
  return exit_ok;
}

}  // namespace unroll::examples
