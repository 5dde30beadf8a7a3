#pragma once

#include <optim/stateful.h>

#include <functional>
#include <map>
#include <string>

namespace unroll {

/// Ends a training that does not get better on held-out data, and keeps the weights it was best with.
///
///     EarlyStopping stopping(model, {.patience = 5});
///     do {
///       train_epoch();
///     } while (!stopping.observe(evaluate(model)));
///     stopping.restore();
///
/// A metric counts as better when it is below the best by more than `min_delta` (above it, with Mode::max); NaN never
/// does. Source: Goodfellow, Bengio and Courville 2016, "Deep Learning", algorithm 7.1.
class EarlyStopping {
 public:
  enum class Mode { min, max };
  struct Options {
    Index patience = 10;    ///< the observations in a row without a better one after which to stop; at least 1
    double min_delta = 0;   ///< at least 0
    Mode mode = Mode::min;  ///< whether lower or higher is better
  };
  /// Without weights to keep. Throws Error on an option out of range.
  explicit EarlyStopping(Options options);
  /// Keeps a copy of the model's state at the best observation. The model must outlive it.
  template <Stateful Model>
  EarlyStopping(Model& model, Options options) : EarlyStopping(options) {
    save_ = [&model] { return model.state_dict(); };
    load_ = [&model](const std::map<std::string, Tensor>& state) { model.load_state_dict(state); };
  }

  /// True when it is time to stop.
  bool observe(double metric);
  /// The best metric; infinite before there is one.
  double best() const { return best_; }
  /// The observations since the best: 0 when the last one was.
  Index since_best() const { return since_best_; }
  /// Gives the model the weights it was best with. Throws Error when there are none.
  void restore() const;

  /// What was observed, and the best weights.
  std::map<std::string, Tensor> state_dict() const;
  /// Throws Error, and changes nothing, when the entries are others; whether the weights are the model's is seen by
  /// `restore`.
  void load_state_dict(const std::map<std::string, Tensor>& state);

 private:
  Options options_;
  std::function<std::map<std::string, Tensor>()> save_;
  std::function<void(const std::map<std::string, Tensor>&)> load_;
  double best_;
  Index since_best_ = 0;
  std::map<std::string, Tensor> weights_;
};

}  // namespace unroll
