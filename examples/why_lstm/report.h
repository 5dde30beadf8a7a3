#pragma once

#include <autograd/shape.h>

#include <filesystem>
#include <string>
#include <vector>

namespace unroll::examples {

/// Numbers under a name: one for each step, or for each of `Findings::lengths`.
struct Curve {
  std::string name;
  std::vector<double> values;
};

/// What why_lstm finds out.
struct Findings {
  /// Of sequences: 10 to 500 steps.
  static constexpr Index lengths[] = {10, 20, 50, 100, 200, 500};

  /// By model and Var v of its state.
  struct Gradients {
    std::vector<Curve> along;  ///< |dL/dv_t| / |dL/dv_T| at t = 1 to T of one sequence
    std::vector<Curve> reach;  ///< |dL/dv_1| / |dL/dv_T| by length
  };
  Gradients start, trained;
  std::vector<Curve> error;  ///< by model and length
  double scale = 1;          ///< what the recurrent weights of these two were multiplied with:
  Curve unclipped, clipped;  ///< losses by training step, until the gradient is no number any more
};

/// Prints tables and one line of JSON, and leaves every curve in `folder`, as CSV and as pictures. Throws Error when a
/// file cannot be written.
void report(const Findings& findings, const std::filesystem::path& folder);

/// The files that `report` writes.
std::vector<std::filesystem::path> report_files();

}  // namespace unroll::examples
