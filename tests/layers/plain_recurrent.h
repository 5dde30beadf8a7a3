#pragma once

// Recurrent layers a second time, as plain loops over numbers, one sequence after the other, from the equations and the
// weights in PyTorch's names and layouts. For tests.

#include <layers/layers.h>

#include <functional>
#include <map>
#include <string>
#include <vector>

namespace unroll::testing {

using Numbers = std::vector<double>;
using Steps = std::vector<Numbers>;  // [T][D]

/// What one cell does: h and c (empty where there is none) of the step before, and x.
struct PlainState {
  Numbers h, c;
};
/// The weights of one cell, by their names without the layer.
class PlainCell {
 public:
  virtual ~PlainCell() = default;
  virtual PlainState step(const Numbers& x, const PlainState& before) const = 0;

  std::map<std::string, Tensor> weights;

 protected:
  bool has(const std::string& name) const { return weights.contains(name); }
  Numbers vector(const std::string& name) const { return weights.at(name).to_vector(); }
  /// W x of W [rows, columns].
  Numbers product(const std::string& name, const Numbers& x) const;
  /// Normalised to mean 0 and variance 1, times a gain; x itself when there is none.
  Numbers normalised(const std::string& gain, Numbers x) const;
  /// x + b, when there is b.
  Numbers plus(Numbers x, const std::string& name) const;
};

struct PlainRNN : PlainCell {
  bool relu = false;
  PlainState step(const Numbers& x, const PlainState& before) const override;
};
struct PlainLSTM : PlainCell {
  PlainState step(const Numbers& x, const PlainState& before) const override;
};
struct PlainGRU : PlainCell {
  PlainState step(const Numbers& x, const PlainState& before) const override;
};

struct PlainOptions {
  Index layers = 1;
  Bidirectional bidirectional = Bidirectional::no;
  bool residual = false;
};
struct PlainOutput {
  Steps y;
  std::vector<PlainState> states;  ///< by layer and direction
};
/// One sequence through all layers, from the given states.
PlainOutput run_plain(PlainCell& cell, const std::map<std::string, Tensor>& state_dict, const PlainOptions& options,
                      Steps x, const std::vector<PlainState>& initial);

}  // namespace unroll::testing
