#include <optim/weight_average.h>

#include <optim/elementwise_update.h>
#include <optim/saved_state.h>

#include <algorithm>
#include <utility>

namespace unroll {

WeightAverage::WeightAverage(const std::vector<Parameter*>& parameters, Options options) : options_(options) {
  if (!(options.decay >= 0 && options.decay < 1))
    fail("WeightAverage: decay is {}; it must be in [0, 1)", options.decay);
  std::map<std::string, const Parameter*> names;
  for (Parameter* parameter : parameters) {
    auto [named, is_new] = names.emplace(parameter->name(), parameter);
    if (is_new)
      slots_.push_back({parameter, std::as_const(*parameter).value()});
    else if (named->second != parameter)
      fail("WeightAverage: two parameters are named \"{}\"; give each a name of its own", parameter->name());
  }
}

void WeightAverage::refuse_applied(const char* function) const {
  if (applied_) fail("WeightAverage: {} while the averages are applied; let what `apply` returned go first", function);
}

/// A model may have been converted since.
void WeightAverage::follow_types() {
  for (Slot& slot : slots_)
    if (slot.average.dtype() != slot.parameter->dtype()) slot.average = slot.average.to(slot.parameter->dtype());
}

void WeightAverage::update() {
  refuse_applied("update");
  follow_types();
  const auto t = static_cast<double>(updates_);
  const double decay = options_.warm_up ? std::min(options_.decay, (1 + t) / (10 + t)) : options_.decay;
  for (Slot& slot : slots_) {
    if (!slot.parameter->trainable()) {
      slot.average.assign(std::as_const(*slot.parameter).value());
      continue;
    }
    detail::update_elementwise(
        [=]<class A>(A average, auto value) { average += typename A::Scalar(1 - decay) * (value - average); },
        slot.average, std::as_const(*slot.parameter).value());
  }
  ++updates_;
}

WeightAverage::Applied WeightAverage::apply() {
  refuse_applied("apply");
  return Applied(*this);
}

/// Element by element: tapes that have used a parameter know its memory.
void WeightAverage::exchange() {
  follow_types();
  for (Slot& slot : slots_)
    detail::update_elementwise([](auto value, auto average) { value.swap(average); }, slot.parameter->value(),
                               slot.average);
  applied_ = !applied_;
}

std::map<std::string, Tensor> WeightAverage::state_dict() const {
  refuse_applied("state_dict");
  std::map<std::string, Tensor> state;
  state["step"] = Tensor::scalar(static_cast<double>(updates_), float64);
  for (const Slot& slot : slots_) state[slot.parameter->name() + ".average"] = slot.average;
  return state;
}

void WeightAverage::load_state_dict(const std::map<std::string, Tensor>& state) {
  refuse_applied("load_state_dict");
  const Index updates = detail::saved_count("WeightAverage", state, "step");
  std::vector<Slot> loaded;
  for (const Slot& slot : slots_) {
    const Parameter& parameter = *slot.parameter;
    auto found = state.find(parameter.name() + ".average");
    if (found == state.end())
      fail("WeightAverage: the saved state has no average of \"{}\"; it is of another model", parameter.name());
    if (found->second.shape() != parameter.shape())
      fail("WeightAverage: the saved average of \"{}\" is {} and the parameter {}; it is of another model",
           parameter.name(), found->second.shape(), parameter.shape());
    loaded.push_back({slot.parameter, found->second.to(parameter.dtype())});
  }
  if (state.size() != slots_.size() + 1)
    fail("WeightAverage: the saved state has {} averages and there are {} parameters; it is of another model",
         state.size() - 1, slots_.size());
  updates_ = updates;
  slots_ = std::move(loaded);
}

}  // namespace unroll
