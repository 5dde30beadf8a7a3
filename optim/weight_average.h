#pragma once

#include <autograd/parameter.h>

#include <map>
#include <string>
#include <vector>

namespace unroll {

/// The exponential moving average of weights, which often generalises better than the weights themselves:
///
///     average = average + (1 - decay) (value - average)
///
/// with each `update`, from the values there were at first.
///
///     WeightAverage average(model.parameters(), {.decay = 0.999});
///     adam.step();
///     average.update();                    // after every step
///     {
///       auto averaged = average.apply();   // the model has the averages
///       evaluate(model);
///     }                                    // and its own weights again
///
/// A frozen parameter's average is its value. The parameters must outlive it, and it stays where it was made.
/// Source: Polyak and Juditsky 1992, "Acceleration of stochastic approximation by averaging", with TensorFlow's
/// ExponentialMovingAverage's weights.
class WeightAverage {
 public:
  struct Options {
    double decay = 0.999;  ///< in [0, 1)
    /// Averages over less while there is little: the decay is min(decay, (1 + t) / (10 + t)) after t updates, as with
    /// TensorFlow's `num_updates`.
    bool warm_up = false;
  };
  /// A parameter listed twice is averaged once. Throws Error on an option out of range, and when two parameters have
  /// the same name.
  WeightAverage(const std::vector<Parameter*>& parameters, Options options);
  explicit WeightAverage(const std::vector<Parameter*>& parameters) : WeightAverage(parameters, Options()) {}
  WeightAverage(const WeightAverage&) = delete;
  WeightAverage& operator=(const WeightAverage&) = delete;

  /// While it lives, the parameters have their averages for values: the two are exchanged, in place.
  class Applied {
   public:
    ~Applied() { average_.exchange(); }
    Applied(const Applied&) = delete;
    Applied& operator=(const Applied&) = delete;

   private:
    friend class WeightAverage;
    explicit Applied(WeightAverage& average) : average_(average) { average_.exchange(); }
    WeightAverage& average_;
  };

  // All of these throw Error while the averages are applied.

  void update();
  [[nodiscard]] Applied apply();
  /// The number of updates and, by parameter, the averages.
  std::map<std::string, Tensor> state_dict() const;
  /// Throws Error, and changes nothing, unless the entries are those of parameters of these names and shapes.
  void load_state_dict(const std::map<std::string, Tensor>& state);

  /// The number of updates made.
  Index updates() const { return updates_; }

 private:
  struct Slot {
    Parameter* parameter;
    Tensor average;
  };
  void exchange();
  void follow_types();
  void refuse_applied(const char* function) const;

  Options options_;
  std::vector<Slot> slots_;
  Index updates_ = 0;
  bool applied_ = false;
};

}  // namespace unroll
