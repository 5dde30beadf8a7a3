#pragma once

// What is measured (a Case), on which numbers (a Problem), and by whom (a Contender).

#include <autograd/tensor.h>

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace unroll::benchmarks {

namespace topic {
inline const std::string limits = "limits", inference = "inference", sweep = "forward+backward",
                         sweep_dx = "forward+backward+dx", training = "training step", streaming = "streaming",
                         nodes = "nodes", statement = "statement", own_cell = "own cell", memory = "memory",
                         checkpoint = "checkpoint", checkpoint_memory = "checkpoint memory", lengths = "lengths",
                         bandwidth = "bandwidth", compile = "compile";
}  // namespace topic

struct Sizes {
  Index batch = 1, steps = 1, input = 1, hidden = 1, layers = 1;
  friend bool operator==(const Sizes&, const Sizes&) = default;
};

struct Case {
  std::string topic, cell;
  Sizes sizes;
  int threads = 1;
  friend bool operator==(const Case&, const Case&) = default;
};

/// What a contender computed, by names that all agree on: "y", "dx", "weight_ih_l0", "loss".
using Values = std::map<std::string, Tensor>;

struct Contender {
  std::string name;
  /// What is timed, once.
  std::function<void()> run;
  /// The same from a fresh start, and what came out, to be compared with the others'; null when it would be what
  /// another of this name computes.
  std::function<Values()> result;
  /// Before its turn: its thread count.
  std::function<void()> prepare = [] {};
  /// How long its threads may go on spinning after its turn.
  double settle_ms = 5;
};
using Contenders = std::vector<Contender>;

/// A layer's weights as Unroll has them: W_ih [D, GH], W_hh [H, GH], biases [GH], where G is 4 (gates i, f, g, o),
/// 3 (r, z, n) or 1. b_hh is zero but for the GRU, whose second bias cannot be added to the first.
struct LayerWeights {
  Tensor W_ih, W_hh, b_ih, b_hh;
};

/// The numbers that all contenders of a case share.
struct Problem {
  explicit Problem(const Case& c);

  Case task;
  Tensor x;   ///< [T, N, D]
  Tensor dy;  ///< [T, N, H], the gradient to begin the backward from
  std::vector<LayerWeights> layers;
  Tensor head_W, head_b;              ///< [H, V], [V]
  std::vector<std::int32_t> targets;  ///< T N of them, below V
};
using ProblemPtr = std::shared_ptr<const Problem>;

/// The gates of a cell: how many times its hidden size its products are wide.
Index gates(const std::string& cell);
/// The words to choose among in the training step.
Index classes(const Sizes& sizes);
/// Multiplications and additions in the matrix products that a recurrent case cannot do without.
double flops(const Case& c);

}  // namespace unroll::benchmarks
