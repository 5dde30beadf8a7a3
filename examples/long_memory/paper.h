#pragma once

#include <examples/common/options.h>

namespace unroll::examples {

/// long_memory --paper: the experiments of Hochreiter and Schmidhuber 1997, as paper_tasks.h has them, in a table
/// beside the paper's own figures.
struct PaperOptions {
  std::vector<std::string> experiments;  ///< none: without --paper
  Index trials = 3;                      ///< networks for each
  Index sequences = 0;                   ///< to train each on at most; 0: as many as the paper's LSTM needed
};
/// Adds --paper and what goes with it. The trainer's own options must be there, of which it excludes some.
void add_paper_options(CLI::App& app, PaperOptions& options);

/// Does the experiments one after another and keeps each network in a checkpoint, finished or not: with --resume it
/// goes on from there, with the same bits. Returns an exit code. Throws Error when there is nothing to resume.
int run_paper(const TrainingOptions& options, const PaperOptions& paper);

}  // namespace unroll::examples
