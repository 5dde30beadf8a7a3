#pragma once

#include <autograd/random.h>

#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <vector>

namespace unroll::examples::paper {

/// Sequences to read, of unequal lengths, and the outputs that are wanted, each in [0, 1]: at every step, or once.
struct Sequences {
  Tensor x;                    ///< [T, N, D]; past a sequence's length, zeros
  std::vector<Index> lengths;  ///< [N]
  Tensor targets;              ///< [T, N, K] at every step, or [N, K] after the last
  Tensor legal = {};           ///< [T, N, K], where several answers are right: 1 for each of them
  bool every_step() const { return targets.shape().rank() == 3; }
};

/// How wrong the outputs (of the targets' shape) are for each sequence: the largest |output - target|. Where several
/// answers are right, by how much an illegal one outranks a legal one at worst: below 0 if none does.
std::vector<double> errors_of(const TensorView& outputs, const Sequences& sequences);

/// When an experiment has succeeded, by the errors of a set of sequences.
struct Criterion {
  double tolerance;                                             ///< a sequence is right when its error is below this
  Index most_wrong = 0;                                         ///< of them
  double mean_error = std::numeric_limits<double>::infinity();  ///< they stay below
  bool met(const std::vector<double>& errors) const;
};
/// How many training sequences, the most recent ones, an experiment without `examined` is judged by.
inline constexpr Index recent = 2000;

/// One experiment of Hochreiter and Schmidhuber 1997, "Long short-term memory", Neural Computation 9(8), as the paper
/// has it, and the network that we do it with: an LSTM with forget gates, Adam and clipping, which the paper did not
/// have, and often more units.
struct Experiment {
  std::string name, title;
  bool quick = true;

  Index inputs, outputs;
  std::function<Sequences(Index count, Generator& rng)> draw;  ///< to train on
  /// What it is judged by, if not by what it answered to the most recent training sequences.
  std::optional<Sequences> examined = {};
  Criterion criterion;
  /// The paper's figures: training sequences until success, and, where it tests with others, how many of 2,560 were
  /// wrong. They are means over several networks.
  Index paper_sequences;
  std::optional<double> paper_wrong = {};

  /// Our network: see paper.cpp.
  Index lag;            ///< the longest, in steps
  bool direct = false;  ///< the outputs see the inputs too
  Index hidden, batch;
  double rate;
};

/// All of them, with what is fixed for a whole experiment drawn from streams of `rng`.
std::vector<Experiment> experiments(const Generator& rng);

}  // namespace unroll::examples::paper
