#pragma once

#include <autograd/parameter.h>
#include <optim/elementwise_update.h>
#include <optim/schedule.h>

#include <limits>
#include <map>
#include <string>
#include <vector>

namespace unroll {

/// What optimizers share: groups of parameters, their learning rates, and a state that can be saved.
///
///     Adam adam(body.parameters(), {.rate = 1e-3});
///     adam.add_group(embedding.parameters(), {.rate = 1e-2, .weight_decay = 0});
///     adam.set_schedule(schedule::warm_up(100, schedule::cosine(10'000)));
///     ...
///     tape.backward(loss);
///     clip_grad_norm(adam.parameters(), 1.0);
///     adam.step();
///
/// `step` moves every parameter that a backward has reached since the last step, and uses its gradient up: the
/// next backward starts it anew, so no zero_grad is needed between steps, and gradients of several backward calls
/// before a step add up. Frozen parameters and parameters without a gradient are left alone. The gradient itself is
/// never changed. Of a sparse parameter (Parameter::set_sparse) only the rows that were used are moved.
class Optimizer {
 public:
  virtual ~Optimizer() = default;
  Optimizer(const Optimizer&) = delete;
  Optimizer& operator=(const Optimizer&) = delete;

  void step();
  /// The number of steps made.
  Index steps() const { return steps_; }

  /// The parameters of all groups, and of one: to clip a group by itself. Groups are numbered from 0; a number that
  /// there is not is an Error here and below.
  const std::vector<Parameter*>& parameters() const { return parameters_; }
  const std::vector<Parameter*>& parameters(std::size_t group) const { return at(group).parameters; }
  std::size_t groups() const { return groups_.size(); }

  /// The learning rate of a group's next step: base_rate * schedule(steps) * rate_factor.
  double rate(std::size_t group = 0) const { return scheduled(at(group), schedule_(steps_)); }
  /// A group's own learning rate, at first that of its options. Throws Error unless it is finite and at least 0.
  double base_rate(std::size_t group = 0) const { return at(group).rate; }
  void set_base_rate(double rate, std::size_t group = 0);
  /// A factor on the rates of all groups as a function of the steps made. It is no part of the saved state: a resumed
  /// program sets it again, and the step count that is saved tells it where it stands.
  void set_schedule(Schedule schedule) { schedule_ = std::move(schedule); }
  /// Another factor on all rates, such as that of ReduceOnPlateau. Throws Error unless it is finite and at least 0.
  double rate_factor() const { return rate_factor_; }
  void set_rate_factor(double factor);

  /// All that a resumed training needs to go on with the same bits: step count, rates and, by parameter, the
  /// number of its own steps and its running averages.
  std::map<std::string, Tensor> state_dict() const;
  /// Throws Error that names all faults, and changes nothing, unless the entries are those of an optimizer of this kind
  /// over parameters of these names and shapes.
  void load_state_dict(const std::map<std::string, Tensor>& state);

 protected:
  /// What an optimizer remembers of a parameter: a tensor of its shape and type or, where `number` is set, one float64.
  struct Average {
    std::string name;
    double start = 0;
    bool number = false;
  };

  /// One parameter in one step.
  struct Update {
    // In the paper's symbols, so that an optimizer reads like it.
    Tensor& theta;
    Tensor& gradient;
    std::vector<Tensor>& averages;  ///< in the order of `Average`s
    double rate;
    double t;                                  ///< the parameter's own steps, this one included
    const std::vector<Index>* rows = nullptr;  ///< to move only these of theta

    /// Calls `f(theta, gradient, averages...)` with pieces of the tensors as Eigen arrays, in one parallel pass.
    template <class F, class... Averages>
    void elementwise(F&& f, Averages&... tensors) {
      if (rows != nullptr)
        detail::update_rows(f, *rows, theta, gradient, tensors...);
      else
        detail::update_elementwise(f, theta, gradient, tensors...);
    }
  };

  /// `kind` names the optimizer in messages.
  explicit Optimizer(std::string kind) : kind_(std::move(kind)) {}
  /// A parameter listed twice is stepped once. Throws Error, and adds nothing, when two parameters have the same name,
  /// which could then not be told apart in a saved state, or when one is in another group already.
  void add_group(const std::vector<Parameter*>& parameters, double rate, const std::vector<Average>& averages);
  virtual void apply(Update& update, std::size_t group) = 0;

  /// Throws Error unless low <= value < high.
  void check(const char* option, double value, double low, double high = std::numeric_limits<double>::infinity()) const;

 private:
  struct Group {
    std::vector<Parameter*> parameters;
    double rate;
    std::vector<Average> averages;
  };
  struct Slot {
    Parameter* parameter;
    std::size_t group;
    Index steps = 0;
    std::vector<Tensor> averages = {};
  };
  const Group& at(std::size_t group) const;
  double scheduled(const Group& group, double factor) const { return group.rate * factor * rate_factor_; }
  void prepare(Slot& slot) const;
  Slot load_slot(const Slot& slot, const std::map<std::string, Tensor>& state, std::vector<std::string>& faults) const;

  std::string kind_;
  std::vector<Group> groups_;
  std::vector<Parameter*> parameters_;
  std::vector<Slot> slots_;
  Schedule schedule_ = schedule::constant();
  double rate_factor_ = 1;
  Index steps_ = 0;
};

/// An optimizer whose groups have options of their own. To write one is to say what it remembers and how it moves:
///
///     struct SignDescentOptions {
///       double rate = 1e-3;
///     };
///     class SignDescent : public GroupedOptimizer<SignDescentOptions> {
///      public:
///       explicit SignDescent(const std::vector<Parameter*>& parameters, Options options = {})
///           : GroupedOptimizer("SignDescent") {
///         add_group(parameters, options);
///       }
///
///      private:
///       void update(Update& u, const Options&) override {
///         u.elementwise([&]<class A>(A theta, A g) { theta -= static_cast<typename A::Scalar>(u.rate) * g.sign(); });
///       }
///     };
template <class GroupOptions>
class GroupedOptimizer : public Optimizer {
 public:
  using Options = GroupOptions;

  /// Adds parameters with options of their own. Throws Error, and adds nothing, on an option out of range, and
  /// when a parameter is in another group or has the name of one.
  void add_group(const std::vector<Parameter*>& parameters, Options options = {}) {
    check_options(options);
    Optimizer::add_group(parameters, options.rate, averages(options));
    options_.push_back(options);
  }

 protected:
  using Optimizer::Optimizer;
  /// Throws Error on an option out of range. (The rate is checked already.)
  virtual void check_options(const Options&) const {}
  virtual std::vector<Average> averages(const Options&) const { return {}; }
  virtual void update(Update& update, const Options& options) = 0;

 private:
  void apply(Update& one, std::size_t group) final { update(one, options_[group]); }
  std::vector<Options> options_;
};

}  // namespace unroll
