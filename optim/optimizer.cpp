#include <optim/optimizer.h>

#include <algorithm>
#include <cmath>
#include <set>

namespace unroll {

Optimizer::Optimizer(std::vector<Parameter*> parameters, double rate, std::vector<std::string> averages)
    : averages_(std::move(averages)) {
  set_rate(rate);
  std::set<std::string> names;
  for (Parameter* parameter : parameters) {
    if (std::ranges::find(parameters_, parameter) != parameters_.end()) continue;
    if (!names.insert(parameter->name()).second)
      fail("Optimizer: two parameters are named \"{}\"; give each a name of its own", parameter->name());
    parameters_.push_back(parameter);
    slots_.push_back({parameter, {}});
  }
}

void Optimizer::set_rate(double rate) {
  if (!(std::isfinite(rate) && rate >= 0)) fail("Optimizer: the learning rate is {}; it must be at least 0", rate);
  rate_ = rate;
}

void Optimizer::prepare(Slot& slot) {
  const Parameter& parameter = *slot.parameter;
  slot.averages.resize(averages_.size());
  for (Tensor& average : slot.averages)
    if (average.shape() != parameter.shape() || average.dtype() != parameter.dtype())
      average = Tensor(parameter.shape(), parameter.dtype());
}

void Optimizer::step() {
  ++steps_;
  for (Slot& slot : slots_) {
    if (!slot.parameter->has_grad() || !slot.parameter->trainable()) continue;
    prepare(slot);
    update(*slot.parameter, slot.averages);
    slot.parameter->use_up_grad();
  }
}

std::map<std::string, Tensor> Optimizer::state_dict() const {
  std::map<std::string, Tensor> state;
  state["step"] = Tensor::scalar(static_cast<double>(steps_), float64);
  state["rate"] = Tensor::scalar(rate_, float64);
  for (const Slot& slot : slots_)
    for (std::size_t i = 0; i < slot.averages.size(); ++i)
      state[slot.parameter->name() + "." + averages_[i]] = slot.averages[i];
  return state;
}

void Optimizer::load_state_dict(const std::map<std::string, Tensor>& state) {
  std::size_t used = 2;
  for (const char* name : {"step", "rate"})
    if (auto found = state.find(name); found == state.end() || found->second.size() != 1)
      fail("Optimizer: the saved state has no \"{}\"; it is not an optimizer's", name);
  std::vector<Slot> loaded = slots_;
  for (Slot& slot : loaded) {
    slot.averages.clear();
    for (const std::string& average : averages_) {
      std::string name = slot.parameter->name() + "." + average;
      auto found = state.find(name);
      if (found == state.end()) break;  // a parameter that no gradient had reached
      if (found->second.shape() != slot.parameter->shape())
        fail("Optimizer: the saved \"{}\" is {} and the parameter {}; it is of another model", name,
             found->second.shape(), slot.parameter->shape());
      slot.averages.push_back(found->second.to(slot.parameter->dtype()));
      ++used;
    }
    if (!slot.averages.empty() && slot.averages.size() != averages_.size())
      fail("Optimizer: the saved state of \"{}\" is incomplete; it is of another optimizer", slot.parameter->name());
  }
  double step = state.at("step").item(), rate = state.at("rate").item();
  if (!(step >= 0 && step < 0x1p53 && step == std::floor(step)))
    fail("Optimizer: the saved step count is {}; the state is damaged", step);
  if (used != state.size())
    fail("Optimizer: the saved state has {} entries that this optimizer does not; it is of another",
         state.size() - used);
  set_rate(rate);
  steps_ = static_cast<Index>(step);
  slots_ = std::move(loaded);
}

}  // namespace unroll
