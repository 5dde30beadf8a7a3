#include <layers/module.h>

#include <autograd/file.h>

#include <fmt/ranges.h>

#include <algorithm>
#include <optional>

namespace unroll {

// ---- Registration --------------------------------------------------------------------------------------------------

void Module::begin_add(std::string_view name, const void* part) {
  if (part == this) fail("Module::add: \"{}\" is the module itself; a module cannot be a part of itself", name);
  if (part_of_another_)
    fail(
        "Module::add: \"{}\" comes too late: the module is already part of another, which would not see it; add it "
        "before, best in the module's constructor",
        name);
  for (const auto& [before, its_name] : parts_)
    if (before == part)
      fail("Module::add: \"{}\" has already been added as \"{}\"; a module has each of its parts once", name, its_name);
  parts_.emplace_back(part, name);
}

void Module::take_name(const std::string& name) {
  if (name.empty()) fail("Module::add: a parameter, buffer or generator has an empty name; give it one");
  if (!names_.insert(name).second) fail("Module::add: two parts are named \"{}\"; give each a name of its own", name);
}

void Module::add_entry(Entry entry) {
  const Shape& shape = entry.value().shape();
  if (entry.transposed && shape.rank() != 2)
    fail("Module::add: \"{}\" is {} and to be stored transposed, so it must be a matrix", entry.name, shape);
  take_name(entry.name);
  if (!entry.summed_with.empty()) take_name(entry.summed_with);
  for (const Entry& before : entries_)
    if (&before.value() == &entry.value() && before.shares.empty()) entry.shares = before.name;
  if (entry.shares.empty() && entry.parameter != nullptr) {
    // Another module may already have given it the full name of which this is the last part.
    if (!entry.parameter->name().ends_with("." + entry.name)) entry.parameter->set_name(entry.name);
    parameters_.push_back(entry.parameter);
  }
  entries_.push_back(std::move(entry));
}

void Module::add_generator(const std::string& name, Generator& generator) {
  take_name(name);
  if (std::ranges::find(generators_, &generator, [](const auto& stream) { return stream.second; }) == generators_.end())
    generators_.emplace_back(name, &generator);
}

void Module::add(std::string_view name, Parameter& parameter, Stored stored) {
  begin_add(name, &parameter);
  add_entry({std::string(name), &parameter, nullptr, stored.transposed, std::string(stored.summed_with)});
}

void Module::add(std::string_view name, Tensor& buffer, Stored stored) {
  begin_add(name, &buffer);
  add_entry({std::string(name), nullptr, &buffer, stored.transposed, std::string(stored.summed_with)});
}

void Module::add(std::string_view name, Generator& generator) {
  begin_add(name, &generator);
  add_generator(std::string(name), generator);
}

void Module::add(std::string_view name, Module& module, std::string_view suffix) {
  begin_add(name, &module);
  auto full = [&](std::string_view inner) {
    return inner.empty() ? std::string() : fmt::format("{}{}{}{}", name, name.empty() ? "" : ".", inner, suffix);
  };
  for (const Entry& entry : module.entries_)
    add_entry({full(entry.name), entry.parameter, entry.buffer, entry.transposed, full(entry.summed_with)});
  for (const auto& [inner, generator] : module.generators_) add_generator(full(inner), *generator);
  children_.push_back(&module);
  module.part_of_another_ = true;
}

// ---- All parameters ------------------------------------------------------------------------------------------------

Parameter& Module::parameter(std::string_view name) const {
  std::vector<std::string_view> names;
  for (const Entry& entry : entries_) {
    if (entry.parameter == nullptr) continue;
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

void Module::freeze(std::string_view part, bool frozen) {
  std::vector<Parameter*> found;
  std::vector<std::string_view> names;
  const std::string of_module = fmt::format("{}.", part);
  for (const Entry& entry : entries_) {
    if (entry.parameter == nullptr) continue;
    names.push_back(entry.name);
    if (entry.name == part || entry.name.starts_with(of_module)) found.push_back(entry.parameter);
  }
  if (found.empty()) fail("freeze: there is no \"{}\"; the module has {}", part, fmt::join(names, ", "));
  for (Parameter* parameter : found) parameter->set_trainable(!frozen);
}

void Module::zero_grad() {
  for (Parameter* parameter : parameters_) parameter->zero_grad();
}

void Module::to(DType dtype) {
  for (const Entry& entry : entries_) {
    if (!entry.shares.empty()) continue;
    if (entry.parameter != nullptr)
      entry.parameter->to(dtype);
    else
      *entry.buffer = entry.buffer->to(dtype);
  }
}

// ---- Summary -------------------------------------------------------------------------------------------------------

std::string Module::summary() const {
  using Row = std::array<std::string, 5>;
  std::vector<Row> rows{{"layer", "name", "shape", "values", ""}};
  std::string layer_above;
  Index frozen = 0;
  for (const Entry& entry : entries_) {
    const std::size_t dot = entry.name.rfind('.');
    const std::string layer = dot == std::string::npos ? "" : entry.name.substr(0, dot);
    const bool is_frozen = entry.parameter != nullptr && !entry.parameter->trainable();
    std::string note = entry.parameter == nullptr ? "buffer" : is_frozen ? "frozen" : "";
    if (!entry.shares.empty()) note = "is " + entry.shares;
    if (is_frozen && entry.shares.empty()) frozen += entry.parameter->size();
    const bool counts = entry.parameter != nullptr && entry.shares.empty();
    rows.push_back({layer == layer_above ? "" : layer, entry.name.substr(dot + 1), to_string(entry.value().shape()),
                    counts ? fmt::to_string(entry.value().size()) : "-", note});
    layer_above = layer;
  }
  rows.push_back(
      {"total", "", "", fmt::to_string(count()), frozen > 0 ? fmt::format("{} of them frozen", frozen) : ""});

  std::array<std::size_t, 5> width{};
  for (const Row& row : rows)
    for (std::size_t i = 0; i < row.size(); ++i) width[i] = std::max(width[i], row[i].size());
  std::string table;
  for (const auto& [layer, name, shape, values, note] : rows) {
    table += fmt::format("{:<{}}  {:<{}}  {:<{}}  {:>{}}  {}", layer, width[0], name, width[1], shape, width[2], values,
                         width[3], note);
    table.erase(table.find_last_not_of(' ') + 1);
    table += '\n';
  }
  return table;
}

// ---- State ---------------------------------------------------------------------------------------------------------

Shape Module::Entry::stored_shape() const {
  const Shape& shape = value().shape();
  return transposed ? Shape{shape[1], shape[0]} : shape;
}

std::map<std::string, Tensor> Module::state_dict() const {
  std::map<std::string, Tensor> state;
  for (const Entry& entry : entries_) {
    if (!entry.shares.empty()) continue;
    state[entry.name] = entry.transposed ? entry.value().transposed() : entry.value();
    if (!entry.summed_with.empty()) state[entry.summed_with] = Tensor(entry.stored_shape(), entry.value().dtype());
  }
  return state;
}

namespace {

using State = std::map<std::string, Tensor>;

void accumulate(Tensor& sum, const Tensor& addend) {
  with_type(sum.dtype(), [&]<class T>(T) {
    T* to = sum.data<T>();
    const T* from = addend.data<T>();
    for (Index i = 0; i < sum.size(); ++i)
      if (from[i] != 0) to[i] += from[i];  // -0 + 0 would be 0, which are other bits
  });
}

bool same_numbers(const Tensor& a, const Tensor& b) {
  const std::vector<double> x = a.to_vector(), y = b.to_vector();
  return std::ranges::equal(x, y, [](double p, double q) { return p == q || (p != p && q != q); });
}

/// A name from a file, for a message that stays on one line.
std::string printable(std::string_view name) {
  const std::string quoted = detail::in_quotes(name, 200);
  return quoted.substr(1, quoted.size() - 2);
}

/// The sum of the entries of these names, in the given type, of which some may be absent; nothing if all are.
std::optional<Tensor> sum_of(std::initializer_list<std::string> names, const State& state, const Shape& shape,
                             DType dtype, std::vector<std::string>& faults) {
  std::optional<Tensor> sum;
  for (const std::string& name : names) {
    const auto found = name.empty() ? state.end() : state.find(name);
    if (found == state.end()) continue;
    if (found->second.shape() != shape) {
      faults.push_back(fmt::format("{} is {} instead of {}", name, found->second.shape(), shape));
      continue;
    }
    Tensor value = found->second.to(dtype);
    if (sum)
      accumulate(*sum, value);
    else
      sum = std::move(value);
  }
  return sum;
}

}  // namespace

std::map<const Tensor*, Tensor> Module::read_values(const State& state, std::vector<std::string>& faults) const {
  std::map<const Tensor*, Tensor> values;
  for (const Entry& entry : entries_) {
    std::optional<Tensor> value =
        sum_of({entry.name, entry.summed_with}, state, entry.stored_shape(), entry.value().dtype(), faults);
    if (!value) continue;
    if (entry.transposed) value = value->transposed();
    const auto [first, is_new] = values.try_emplace(&entry.value(), *value);
    if (!is_new && !same_numbers(first->second, *value))
      faults.push_back(fmt::format("{} differs from {}, which it shares", entry.name, entry.shares));
  }
  return values;
}

Loaded Module::left_out_by(const State& state) const {
  auto given = [&](const Entry& entry) {
    return state.contains(entry.name) || (!entry.summed_with.empty() && state.contains(entry.summed_with));
  };
  std::set<std::string_view> expected;
  std::set<const Tensor*> found;
  for (const Entry& entry : entries_) {
    expected.insert({entry.name, entry.summed_with});
    if (given(entry)) found.insert(&entry.value());
  }
  Loaded left_out;
  for (const Entry& entry : entries_) {
    const bool under_another_name = !given(entry) && found.contains(&entry.value());
    if (!entry.shares.empty() || under_another_name) continue;
    for (const std::string& name : {entry.name, entry.summed_with})
      if (!name.empty() && !state.contains(name)) left_out.missing.push_back(name);
  }
  for (const auto& [name, tensor] : state)
    if (name.empty() || !expected.contains(name)) left_out.unexpected.push_back(name);
  return left_out;
}

Loaded Module::load_state_dict(const State& state, LoadOptions options) {
  std::vector<std::string> faults;
  const std::map<const Tensor*, Tensor> values = read_values(state, faults);
  const Loaded left_out = left_out_by(state);
  if (!options.partial) {
    for (const std::string& name : left_out.missing) faults.push_back(fmt::format("{} is missing", name));
    for (const std::string& name : left_out.unexpected)
      faults.push_back(fmt::format("{} is unexpected", printable(name)));
  }
  if (!faults.empty()) fail("the weights are of another model: {}", fmt::join(faults, "; "));

  // Into the memory there is, which a tape may have bound.
  for (const Entry& entry : entries_) {
    const auto value = values.find(&entry.value());
    if (value == values.end() || !entry.shares.empty()) continue;
    (entry.parameter != nullptr ? entry.parameter->value() : *entry.buffer).assign(value->second);
  }
  return left_out;
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
