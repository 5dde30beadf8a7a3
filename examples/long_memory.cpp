/// Long memory: which of RNN, GRU and LSTM still answers when the question comes 5 to 150 steps after the fact.

#include <autograd/autograd.h>
#include <examples/common/cells.h>
#include <examples/common/folder.h>
#include <examples/common/plot.h>
#include <examples/common/run.h>
#include <examples/long_memory/paper.h>
#include <examples/long_memory/tasks.h>
#include <layers/layers.h>
#include <optim/optim.h>

#include <CLI/CLI.hpp>

#include <cmath>

using namespace unroll;
using namespace unroll::examples;

struct Options : TrainingOptions {
  std::string task = "all";
  std::vector<Index> gaps;
  Index hidden = 64;
  PaperOptions paper;
};

/// Reads a sequence, and answers at its end: answers = head(layer(embedding(tokens) or numbers)).
template <class Layer>
struct MemoryModel : Module {
  std::optional<Embedding> embedding;
  Layer layer;
  Linear head;

  static constexpr Index embedding_size = 32;
  MemoryModel(const Task& task, const Options& o, Generator rng)
      : layer(task.tokens > 0 ? embedding_size : task.numbers, o.hidden, rng), head(o.hidden, task.outputs, rng) {
    if (task.tokens > 0) add("embedding", embedding.emplace(task.tokens, embedding_size, rng));
    add("layer", layer);
    add("head", head);
  }

  Var operator()(Tape& tape, const Episodes& e) {
    const Index steps = static_cast<Index>(e.tokens.size()) / e.sequences;
    Var x = embedding ? (*embedding)(tape, Indices(e.tokens, {steps, e.sequences})) : tape.constant(e.numbers);
    const Var y = layer(x).y;
    return head(slice(y, 0, y.size(0) - e.answers, y.size(0)));
  }
};

Var loss_of(const Var& answers, const Episodes& e) {
  return e.classes.empty() ? mse(answers, e.sums) : cross_entropy(answers, e.classes);
}

/// The share of right answers, and the loss.
struct Score {
  double success, loss;
};

template <class Layer>
Score evaluate(MemoryModel<Layer>& model, const Task& task, const Episodes& e) {
  Tape tape = Tape::inference();
  const Var answers = model(tape, e);
  Mean success;
  if (e.classes.empty()) {
    for (Index n = 0; n < e.sequences; ++n)
      success.add(std::abs(answers.value().at({0, n, 0}) - e.sums.at({0, n, 0})) < close_enough ? 1 : 0);
  } else {
    const std::vector<std::int32_t> given = argmax(answers.value());
    for (std::size_t i = 0; i < given.size(); ++i)
      if (e.classes[i] != task.trivial) success.add(given[i] == e.classes[i] ? 1 : 0);
  }
  return {success.value(), loss_of(answers, e).item()};
}

/// Trains a model with gaps up to `gap`, until it answers nearly all of some held-out questions at `gap` itself or
/// --steps are made; its score is that on other questions at `gap`. All models see the same sequences. The shorter gaps
/// are for fairness: without them no model here finds out in time what it is to remember over 20 words.
template <class Layer>
Score train(const Task& task, Index gap, const Options& o, const std::string& name, const StopSignal& stop) {
  MemoryModel<Layer> model(task, o, Generator(o.seed));
  // Over 20 words the RNN learns more with 0.001 or 0.002 than with 0.005, at which the others learn fast.
  Adam adam(model.parameters(), {.rate = std::is_same_v<Layer, RNN> ? o.rate / 5 : o.rate});
  Generator rng = Generator(o.seed).split(1), held_out = Generator(o.seed).split(2);
  const Episodes validation = task.draw(gap, 128, held_out), test = task.draw(gap, 500, held_out);
  Progress progress(0, o.steps, static_cast<double>(o.batch), "sequences");
  Mean losses;
  Tape tape;
  for (Index step = 1; step <= o.steps && !stop.requested(); ++step) {
    const Episodes e = task.draw(task.shortest + rng.below(gap - task.shortest + 1), o.batch, rng);
    tape.clear();
    Var loss = loss_of(model(tape, e), e);
    tape.backward(loss);
    if (o.clip > 0) clip_grad_norm(model.parameters(), o.clip);
    adam.step();
    losses.add(loss.item());
    const bool learned = step % 100 == 0 && evaluate(model, task, validation).success > 0.99;
    if (progress.due() || learned || step == o.steps) {
      progress.show(step, fmt::format("{}, gap {}, {}  loss {:.4f}", task.name, gap, name, losses.value()));
      losses.reset();
    }
    if (learned) break;
  }
  return evaluate(model, task, test);
}

/// All models at all gaps of a task: prints the table, and draws it.
bool study(const Task& task, const std::vector<Index>& gaps, const Options& o, const StopSignal& stop,
           nlohmann::ordered_json& result) {
  const std::vector<std::string> cells = {"rnn", "gru", "lstm"};
  Metrics metrics(o.out / (task.name + ".csv"), {"gap", "rnn", "gru", "lstm", "no_memory"});
  fmt::print("\n{}: share of right answers (loss)\n{:>5}", task.name, "gap");
  for (const char* name : {"RNN", "GRU", "LSTM", "no memory"}) fmt::print("{:>18}", name);
  fmt::print("\n");
  for (Index gap : gaps) {
    fmt::print("{:>5}", gap);
    std::vector<double> successes;
    for (const std::string& cell : cells) {
      const Score score = with_layer(
          cell, [&]<class Layer>(std::type_identity<Layer>) { return train<Layer>(task, gap, o, cell, stop); });
      if (stop.requested()) return false;
      fmt::print("{:>18}", fmt::format("{:.2f} ({:.4f})", score.success, score.loss));
      std::fflush(stdout);
      successes.push_back(score.success);
      result[task.name][cell].push_back({{"gap", gap}, {"success", score.success}, {"loss", score.loss}});
    }
    fmt::print("{:>18}\n", fmt::format("{:.2f} ({:.4f})", task.success_without_memory, task.loss_without_memory(gap)));
    metrics.add({static_cast<double>(gap), successes[0], successes[1], successes[2], task.success_without_memory});
    metrics.write();
  }
  if (gaps.size() == 1) return true;  // no curve
  draw({.title = fmt::format("Who still answers? ({})", task.name),
        .x_label = "steps between what is to be remembered and the question",
        .y_label = "share of right answers",
        .curves = {{2, "RNN"}, {3, "GRU"}, {4, "LSTM"}, {5, "no memory"}},
        .log_x = true},
       metrics.path(), o.out / (task.name + ".svg"));
  return true;
}

int run(const Options& o) {
  const StopSignal stop;
  // What fits into two minutes.
  const std::vector<std::pair<Task, std::vector<Index>>> tasks = {
      {sentence_task(), {5, 10, 20, 50, 100}}, {adding_task(), {150}}, {copy_task(), {10}}};
  for (const auto& [task, gaps] : tasks)
    for (Index gap : o.gaps)
      if ((o.task == "all" || o.task == task.name) && gap < task.shortest)
        fail("--gaps {}: the task {} needs {} steps at least", gap, task.name, task.shortest);
  make_folder(o.out);
  std::vector<std::filesystem::path> files;
  for (const auto& [task, gaps] : tasks) files.insert(files.end(), {task.name + ".csv", task.name + ".svg"});
  set_earlier_run_aside(o.out, files);
  Generator rng = Generator(o.seed).split(3);
  fmt::print("{}\n", sentence_example(20, rng));
  nlohmann::ordered_json result;
  for (const auto& [task, gaps] : tasks)
    if ((o.task == "all" || o.task == task.name) && !study(task, o.gaps.empty() ? gaps : o.gaps, o, stop, result)) {
      fmt::print(stderr, "stopped; the rows that were finished are in {}\n", quoted(o.out));
      return exit_stopped;
    }
  fmt::print("\n");
  print_result(result);
  return exit_ok;
}

int main(int argc, char** argv) {
  CLI::App app("Shows which recurrent network still answers after a gap.", "long_memory");
  Options o;
  o.out = "runs/long_memory";
  o.rate = 0.005;
  o.steps = 1800;
  // Many small models, one after another, each row of the table kept as it is finished.
  add_training_options(app, o, {"dropout", "epochs"});
  app.get_option("--out")->description("Folder for the tables and the pictures");
  app.get_option("--rate")->description("Learning rate of Adam; a fifth of it for the RNN");
  app.get_option("--steps")->description("Training steps of each model at most");
  app.add_option("--hidden", o.hidden, "Units of the recurrent layer")->check(size_range());
  app.add_option("--task", o.task, "adding, copy, sentence or all")
      ->check(CLI::IsMember({"adding", "copy", "sentence", "all"}));
  app.add_option("--gaps", o.gaps, "Steps to remember for, such as 10,50,150; none: some that suit the task")
      ->delimiter(',')
      ->default_str("")
      ->check(CLI::Range(1, 16384));
  add_paper_options(app, o.paper);
  return run_example(app, argc, argv, [&] {
    const auto threads = use_threads(o.threads);
    return o.paper.experiments.empty() ? run(o) : run_paper(o, o.paper);
  });
}
