#include <optim/optimizer.h>

#include <autograd/file.h>
#include <optim/saved_state.h>

#include <algorithm>
#include <cmath>
#include <set>

namespace unroll {

void Optimizer::check(const char* option, double value, double low, double high) const {
  if (value >= low && value < high) return;
  if (std::isinf(high)) fail("{}: {} is {}; it must be at least {}, and finite", kind_, option, value, low);
  fail("{}: {} is {}; it must be in [{}, {})", kind_, option, value, low, high);
}

const Optimizer::Group& Optimizer::at(std::size_t group) const {
  if (group >= groups_.size()) fail("{}: there is no group {}; it has {}", kind_, group, groups_.size());
  return groups_[group];
}

void Optimizer::add_group(const std::vector<Parameter*>& parameters, double rate,
                          const std::vector<Average>& averages) {
  check("rate", rate, 0);
  std::set<std::string> names;
  for (const Slot& slot : slots_) names.insert(slot.parameter->name());
  Group group{{}, rate, averages};
  std::set<const Parameter*> listed;
  for (Parameter* parameter : parameters) {
    if (std::ranges::find(parameters_, parameter) != parameters_.end())
      fail("{}: \"{}\" is in another group already", kind_, parameter->name());
    if (!listed.insert(parameter).second) continue;
    if (!names.insert(parameter->name()).second)
      fail("{}: two parameters are named \"{}\"; give each a name of its own", kind_, parameter->name());
    group.parameters.push_back(parameter);
  }
  for (Parameter* parameter : group.parameters) {
    parameters_.push_back(parameter);
    slots_.push_back({parameter, groups_.size()});
  }
  groups_.push_back(std::move(group));
}

void Optimizer::set_base_rate(double rate, std::size_t group) {
  at(group);
  check("rate", rate, 0);
  groups_[group].rate = rate;
}

void Optimizer::set_rate_factor(double factor) {
  check("rate factor", factor, 0);
  rate_factor_ = factor;
}

/// Gives a parameter that is stepped for the first time its averages, and converts those of one that was converted.
void Optimizer::prepare(Slot& slot) const {
  const Parameter& parameter = *slot.parameter;
  const std::vector<Average>& wanted = groups_[slot.group].averages;
  for (std::size_t i = slot.averages.size(); i < wanted.size(); ++i)
    slot.averages.push_back(wanted[i].number ? Tensor::scalar(wanted[i].start, float64)
                                             : Tensor::full(parameter.shape(), wanted[i].start, parameter.dtype()));
  for (std::size_t i = 0; i < wanted.size(); ++i)
    if (!wanted[i].number && slot.averages[i].dtype() != parameter.dtype())
      slot.averages[i] = slot.averages[i].to(parameter.dtype());
}

void Optimizer::step() {
  const double factor = schedule_(steps_);  // first of all: when it throws, nothing has moved
  for (Slot& slot : slots_) {
    Parameter& parameter = *slot.parameter;
    if (!parameter.has_grad() || !parameter.trainable()) continue;
    prepare(slot);
    ++slot.steps;
    Update one{parameter.value(),
               parameter.grad(),
               slot.averages,
               scheduled(groups_[slot.group], factor),
               static_cast<double>(slot.steps),
               parameter.grad_rows()};
    apply(one, slot.group);
    parameter.use_up_grad();
  }
  ++steps_;
}

std::map<std::string, Tensor> Optimizer::state_dict() const {
  std::map<std::string, Tensor> state;
  state["step"] = Tensor::scalar(static_cast<double>(steps_), float64);
  state["rate_factor"] = Tensor::scalar(rate_factor_, float64);
  Tensor rates({static_cast<Index>(groups_.size())}, float64);
  for (std::size_t i = 0; i < groups_.size(); ++i) rates.data<double>()[i] = groups_[i].rate;
  state["rates"] = std::move(rates);
  for (const Slot& slot : slots_) {
    const std::string& name = slot.parameter->name();
    state[name + ".step"] = Tensor::scalar(static_cast<double>(slot.steps), float64);
    for (std::size_t i = 0; i < slot.averages.size(); ++i)
      state[name + "." + groups_[slot.group].averages[i].name] = slot.averages[i];
  }
  return state;
}

namespace {

using State = std::map<std::string, Tensor>;

/// The entry of a name, when it has the shape.
const Tensor* find(const State& state, const std::string& name, const Shape& shape, std::vector<std::string>& faults) {
  const auto found = state.find(name);
  if (found == state.end()) {
    faults.push_back(fmt::format("{} is missing", name));
    return nullptr;
  }
  if (found->second.shape() == shape) return &found->second;
  faults.push_back(fmt::format("{} is {} instead of {}", name, found->second.shape(), shape));
  return nullptr;
}

Index find_count(const State& state, const std::string& name, std::vector<std::string>& faults) {
  const Tensor* tensor = find(state, name, {}, faults);
  if (tensor == nullptr) return 0;
  const double count = tensor->item();
  if (detail::is_count(count)) return static_cast<Index>(count);
  faults.push_back(fmt::format("{} is {}, not a count", name, count));
  return 0;
}

bool is_rate(double value) { return value >= 0 && std::isfinite(value); }

}  // namespace

Optimizer::Slot Optimizer::load_slot(const Slot& slot, const State& state, std::vector<std::string>& faults) const {
  const Parameter& parameter = *slot.parameter;
  Slot loaded{slot.parameter, slot.group, find_count(state, parameter.name() + ".step", faults)};
  if (loaded.steps == 0) return loaded;  // no gradient had reached it
  for (const Average& average : groups_[slot.group].averages) {
    const Shape shape = average.number ? Shape{} : parameter.shape();
    const DType dtype = average.number ? float64 : parameter.dtype();
    const Tensor* tensor = find(state, parameter.name() + "." + average.name, shape, faults);
    if (tensor != nullptr) loaded.averages.push_back(tensor->to(dtype));
  }
  return loaded;
}

void Optimizer::load_state_dict(const State& state) {
  std::vector<std::string> faults;
  const Index steps = find_count(state, "step", faults);
  const Tensor* factor = find(state, "rate_factor", {}, faults);
  const Tensor* rates = find(state, "rates", {static_cast<Index>(groups_.size())}, faults);
  if (factor != nullptr && !is_rate(factor->item())) faults.emplace_back("rate_factor is not a rate");
  if (rates != nullptr && !std::ranges::all_of(rates->to_vector(), is_rate)) faults.emplace_back("rates are not rates");
  std::set<std::string> expected = {"step", "rate_factor", "rates"};
  std::vector<Slot> loaded;
  for (const Slot& slot : slots_) {
    loaded.push_back(load_slot(slot, state, faults));
    const std::string& name = slot.parameter->name();
    expected.insert(name + ".step");
    if (loaded.back().steps > 0)
      for (const Average& average : groups_[slot.group].averages) expected.insert(name + "." + average.name);
  }
  for (const auto& [name, tensor] : state)
    if (!expected.contains(name)) faults.push_back(fmt::format("{} is unexpected", detail::in_quotes(name, 200)));
  if (!faults.empty()) fail("{}: the saved state is of another optimizer or model: {}", kind_, fmt::join(faults, "; "));

  steps_ = steps;
  rate_factor_ = factor->item();
  const std::vector<double> values = rates->to_vector();
  for (std::size_t i = 0; i < groups_.size(); ++i) groups_[i].rate = values[i];
  slots_ = std::move(loaded);
}

}  // namespace unroll
