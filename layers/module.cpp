#include <layers/module.h>

#include <fmt/ranges.h>

#include <algorithm>
#include <set>

namespace unroll {

void Module::add(std::string_view name, Parameter& parameter, Stored stored) {
  if (std::ranges::find(parameters_, &parameter) != parameters_.end()) return;  // shared weights
  parameter.set_name(std::string(name));
  parameters_.push_back(&parameter);
  entries_.push_back({std::string(name), &parameter, stored.transposed, std::string(stored.summed_with)});
}

void Module::add(std::string_view name, Generator& generator) { generators_.emplace_back(name, &generator); }

void Module::add(std::string_view name, Module& module, std::string_view suffix) {
  auto full = [&](std::string_view inner) {
    return fmt::format("{}{}{}{}", name, name.empty() ? "" : ".", inner, suffix);
  };
  children_.push_back(&module);
  for (const Entry& entry : module.entries_) {
    if (std::ranges::find(parameters_, entry.parameter) != parameters_.end()) continue;  // shared weights
    entry.parameter->set_name(full(entry.name));
    parameters_.push_back(entry.parameter);
    entries_.push_back({full(entry.name), entry.parameter, entry.transposed,
                        entry.summed_with.empty() ? std::string() : full(entry.summed_with)});
  }
  for (const auto& [inner, generator] : module.generators_) generators_.emplace_back(full(inner), generator);
}

Parameter& Module::parameter(std::string_view name) const {
  std::vector<std::string_view> names;
  for (const Entry& entry : entries_) {
    if (entry.name == name) return *entry.parameter;
    names.push_back(entry.name);
  }
  fail("parameter: there is no \"{}\"; the module has {}", name, fmt::join(names, ", "));
}

Index Module::count() const {
  Index sum = 0;
  for (const Parameter* parameter : parameters_) sum += parameter->size();
  return sum;
}

void Module::train(bool training) {
  training_ = training;
  for (Module* child : children_) child->train(training);
}

void Module::freeze(bool frozen) {
  for (Parameter* parameter : parameters_) parameter->set_trainable(!frozen);
}

void Module::zero_grad() {
  for (Parameter* parameter : parameters_) parameter->zero_grad();
}

void Module::to(DType dtype) {
  for (Parameter* parameter : parameters_) parameter->to(dtype);
}

std::map<std::string, Tensor> Module::state_dict() const {
  std::map<std::string, Tensor> state;
  for (const Entry& entry : entries_) {
    const Tensor& value = entry.parameter->value();
    state[entry.name] = entry.transposed ? value.transposed() : value;
    if (!entry.summed_with.empty()) state[entry.summed_with] = Tensor(value.shape(), value.dtype());
  }
  return state;
}

void Module::load_state_dict(const std::map<std::string, Tensor>& state) {
  std::vector<std::string> faults;
  std::set<std::string> expected;
  std::vector<Tensor> values;
  for (const Entry& entry : entries_) {
    const Parameter& parameter = *entry.parameter;
    Shape shape = parameter.shape();
    if (entry.transposed) shape = {shape[1], shape[0]};
    Tensor value(shape, parameter.dtype());
    for (const std::string& name : {entry.name, entry.summed_with}) {
      if (name.empty()) continue;
      expected.insert(name);
      auto found = state.find(name);
      if (found == state.end()) {
        if (name == entry.name) faults.push_back(fmt::format("{} is missing", name));
      } else if (found->second.shape() != shape) {
        faults.push_back(fmt::format("{} is {} instead of {}", name, found->second.shape(), shape));
      } else {
        Tensor given = found->second.to(parameter.dtype());
        with_type(parameter.dtype(), [&]<class T>(T) { value.matrix<T>() += given.matrix<T>(); });
      }
    }
    values.push_back(entry.transposed ? value.transposed() : std::move(value));
  }
  for (const auto& [name, tensor] : state)
    if (!expected.contains(name)) faults.push_back(fmt::format("{} is unexpected", name));
  if (!faults.empty()) fail("the weights are of another model: {}", fmt::join(faults, "; "));
  // Into the memory there is, which a tape may have bound.
  for (std::size_t i = 0; i < entries_.size(); ++i) entries_[i].parameter->value().assign(values[i]);
}

void save_weights(const std::filesystem::path& path, const Module& module,
                  const std::map<std::string, std::string>& metadata) {
  write_safetensors(path, {module.state_dict(), metadata});
}

std::map<std::string, std::string> load_weights(const std::filesystem::path& path, Module& module) {
  TensorFile file = read_safetensors(path);
  try {
    module.load_state_dict(file.tensors);
  } catch (const Error& error) {
    fail("{}: {}", path.string(), error.what());
  }
  return file.metadata;
}

}  // namespace unroll
