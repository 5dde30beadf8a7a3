#include <examples/common/checkpoint.h>
#include <examples/common/console.h>

#include <charconv>

namespace unroll::examples {

namespace fs = std::filesystem;

namespace {

constexpr const char* setting_prefix = "setting.";

/// The entries whose names begin with `prefix`, without it.
template <class T>
std::map<std::string, T> with_prefix(const std::map<std::string, T>& all, const std::string& prefix) {
  std::map<std::string, T> found;
  for (auto at = all.lower_bound(prefix); at != all.end() && at->first.starts_with(prefix); ++at)
    found.emplace(at->first.substr(prefix.size()), at->second);
  return found;
}

void put(TensorFile& file, const std::string& prefix, const std::map<std::string, Tensor>& tensors) {
  for (const auto& [name, tensor] : tensors) file.tensors.emplace(prefix + name, tensor);
}

}  // namespace

bool Checkpoint::exists() const {
  std::error_code error;
  return fs::exists(path_, error);
}

void Checkpoint::fail_missing(const std::string& name) const {
  fail("{} has no valid \"{}\"; it is not a checkpoint of this program, or damaged", quoted(path_), name);
}

TensorFile Checkpoint::read() const {
  if (!exists()) fail("there is no run to resume: {} does not exist; start one without --resume", quoted(path_));
  TensorFile file = read_safetensors(path_);
  if (auto found = file.metadata.find("program"); found == file.metadata.end() || found->second != program_)
    fail("{} is not a checkpoint of {}", quoted(path_), program_);
  return file;
}

std::map<std::string, std::string> Checkpoint::settings() const { return with_prefix(read().metadata, setting_prefix); }

void Checkpoint::add(Module& model) {
  parts_.push_back({[&model](TensorFile& file) { put(file, "model.", model.state_dict()); },
                    [&model](TensorFile& file) { model.load_state_dict(with_prefix(file.tensors, "model.")); }});
  for (const auto& [name, generator] : model.generators()) {
    const std::string key = "generator." + name;
    parts_.push_back({[key, g = generator](TensorFile& file) {
                        file.metadata[key] = fmt::format("{} {} {}", g->seed(), g->stream(), g->position());
                      },
                      [this, key, g = generator](TensorFile& file) {
                        const std::string text = file.metadata[key];
                        std::array<std::uint64_t, 3> part{};
                        const char *at = text.data(), *end = at + text.size();
                        for (std::uint64_t& number : part) {
                          const auto [next, error] = std::from_chars(at, end, number);
                          if (error != std::errc()) fail_missing(key);
                          at = next == end ? next : next + 1;
                        }
                        if (at != end) fail_missing(key);
                        *g = Generator(part[0], part[1], part[2]);
                      }});
  }
}

void Checkpoint::add(Optimizer& optimizer) {
  parts_.push_back(
      {[&optimizer](TensorFile& file) { put(file, "optimizer.", optimizer.state_dict()); },
       [&optimizer](TensorFile& file) { optimizer.load_state_dict(with_prefix(file.tensors, "optimizer.")); }});
}

void Checkpoint::add(const std::string& name, RecurrentState& state) {
  const std::string prefix = name + ".";
  parts_.push_back({[&state, prefix](TensorFile& file) {
                      for (std::size_t i = 0; i < state.tensors().size(); ++i)
                        file.tensors.emplace(fmt::format("{}{:03}", prefix, i), state.tensors()[i]);
                    },
                    [&state, prefix](TensorFile& file) {
                      state.reset();
                      for (auto& [index, tensor] : with_prefix(file.tensors, prefix)) state.tensors().push_back(tensor);
                    }});
}

void Checkpoint::add(const std::string& name, std::map<std::string, Tensor>& tensors) {
  const std::string prefix = name + ".";
  parts_.push_back({[&tensors, prefix](TensorFile& file) { put(file, prefix, tensors); },
                    [&tensors, prefix](TensorFile& file) { tensors = with_prefix(file.tensors, prefix); }});
}

void Checkpoint::add(const std::string& name, Index& number) {
  parts_.push_back({[&number, name](TensorFile& file) { file.metadata[name] = fmt::format("{}", number); },
                    [this, &number, name](TensorFile& file) {
                      const std::string& text = file.metadata[name];
                      const char* end = text.data() + text.size();
                      const auto [at, error] = std::from_chars(text.data(), end, number);
                      if (error != std::errc() || at != end || number < 0) fail_missing(name);
                    }});
}

void Checkpoint::add(const std::string& name, double& number) {
  // fmt writes as many digits as it takes to read the same bits back.
  parts_.push_back({[&number, name](TensorFile& file) { file.metadata[name] = fmt::format("{}", number); },
                    [this, &number, name](TensorFile& file) {
                      const std::string& text = file.metadata[name];
                      const char* end = text.data() + text.size();
                      const auto [at, error] = std::from_chars(text.data(), end, number);
                      if (error != std::errc() || at != end) fail_missing(name);
                    }});
}

void Checkpoint::add(const std::string& name, std::string& text) {
  parts_.push_back({[&text, name](TensorFile& file) { file.metadata[name] = text; },
                    [this, &text, name](TensorFile& file) {
                      if (!file.metadata.contains(name)) fail_missing(name);
                      text = file.metadata[name];
                    }});
}

void Checkpoint::save() const {
  TensorFile file;
  file.metadata["program"] = program_;
  for (const auto& [name, value] : settings_) file.metadata[setting_prefix + name] = value;
  for (const Part& part : parts_) part.save(file);
  write_safetensors(path_, file);
}

void Checkpoint::load() {
  TensorFile file = read();
  for (const auto& [name, value] : fixed_)
    if (file.metadata[setting_prefix + name] != value)
      fail("cannot resume from {}: the {} is not the same as in that run; start anew without --resume", quoted(path_),
           name);
  for (const Part& part : parts_) part.load(file);
}

void make_folder(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (!error && !fs::is_directory(folder, error)) error = std::make_error_code(std::errc::not_a_directory);
  if (error) fail("the folder {} cannot be made: {}; choose another --out", quoted(folder), error.message());
}

void set_earlier_run_aside(const fs::path& folder, const std::vector<std::string>& names) {
  std::error_code error;
  std::vector<fs::path> found;
  for (const std::string& name : names)
    if (fs::exists(folder / name, error)) found.push_back(name);
  if (found.empty()) return;
  fs::path aside;
  for (int i = 1; aside.empty() || fs::exists(aside, error); ++i) aside = folder / fmt::format("earlier-{}", i);
  make_folder(aside);
  for (const fs::path& name : found) {
    fs::rename(folder / name, aside / name, error);
    if (error) fail("{} cannot be moved to {}: {}", quoted(folder / name), quoted(aside), error.message());
  }
  fmt::print(stderr, "{} holds an earlier run; its files are now in {} (to go on with a run: --resume)\n",
             quoted(folder), quoted(aside));
}

}  // namespace unroll::examples
