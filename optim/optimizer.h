#pragma once

#include <autograd/parameter.h>

#include <map>
#include <vector>

namespace unroll {

/// What optimizers share: the parameters, the learning rate, and a state that can be saved.
///
/// `step` moves every parameter that a backward has reached since the last step, and uses its gradient up: the
/// next backward starts it anew, so no zero_grad is needed between steps. Frozen parameters and parameters
/// without a gradient are left alone. The gradient itself is never changed.
class Optimizer {
 public:
  virtual ~Optimizer() = default;
  Optimizer(const Optimizer&) = delete;
  Optimizer& operator=(const Optimizer&) = delete;

  void step();

  double rate() const { return rate_; }
  /// Throws Error unless the rate is finite and at least 0.
  void set_rate(double rate);
  /// The number of steps made.
  Index steps() const { return steps_; }
  const std::vector<Parameter*>& parameters() const { return parameters_; }

  /// All that a resumed training needs to go on with the same bits: step count, learning rate and, by
  /// parameter, the running averages.
  std::map<std::string, Tensor> state_dict() const;
  /// Throws Error, and changes nothing, unless the entries are those of an optimizer of this kind over
  /// parameters of these names and shapes.
  void load_state_dict(const std::map<std::string, Tensor>& state);

 protected:
  /// A parameter listed twice is stepped once. Throws Error when two parameters have the same name, which
  /// could then not be told apart in a saved state.
  Optimizer(std::vector<Parameter*> parameters, double rate, std::vector<std::string> averages);

  /// The update of one parameter. `averages` are the tensors, of its shape and type, that go with it.
  virtual void update(Parameter& parameter, std::vector<Tensor>& averages) = 0;

 private:
  struct Slot {
    Parameter* parameter;
    std::vector<Tensor> averages;
  };
  void prepare(Slot& slot);

  std::vector<Parameter*> parameters_;
  std::vector<Slot> slots_;
  std::vector<std::string> averages_;
  double rate_;
  Index steps_ = 0;
};

}  // namespace unroll
