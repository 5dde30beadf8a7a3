#pragma once

#include <autograd/random.h>
#include <autograd/safetensors.h>
#include <optim/stateful.h>

#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace unroll {

/// Everything a training needs to go on with the same bits, in one safetensors file. A program adds whatever changes
/// while it trains; `save` writes what these hold and `load` puts it back.
///
///     Checkpoint checkpoint("run/checkpoint.safetensors", {.program = "my_trainer"});
///     checkpoint.add("model", model);        // weights, buffers, and the positions of dropout's random streams
///     checkpoint.add("adam", adam);          // running averages, step count, learning rate
///     checkpoint.add("plateau", plateau);    // where the schedule is
///     checkpoint.add("rng", rng);            // what the program itself draws from
///     checkpoint.add("state", state);        // the recurrent layers' state between windows
///     checkpoint.add("step", step);          // and with it the position in the data
///     checkpoint.add("best_loss", best_loss);
///     if (checkpoint.exists()) fmt::print(stderr, "{}", checkpoint.load().note);
///     while (step < steps) {
///       train_on(windows[step++ % windows.count()]);
///       if (step % 100 == 0 || step == steps) checkpoint.save();
///     }
///
/// What was added must outlive the checkpoint.
///
/// The newest checkpoint is `path`, "checkpoint.safetensors"; the one before it is "checkpoint.1.safetensors", then
/// "checkpoint.2.safetensors". A save writes "checkpoint.next.safetensors" and flushes it to the disk, and only then
/// moves each file to its next name: killed at any moment, it leaves a good checkpoint under one of these names. A
/// checksum (XXH64) of all that is in a file tells whether it is as it was written.
class Checkpoint {
 public:
  struct Options {
    std::string program = {};  ///< a checkpoint of another program is refused
    Index keep = 2;            ///< how many checkpoints to keep, at least 1
  };
  /// Throws Error when `keep` is out of range.
  Checkpoint(std::filesystem::path path, Options options);
  explicit Checkpoint(std::filesystem::path path) : Checkpoint(std::move(path), Options()) {}

  const std::filesystem::path& path() const { return path_; }
  /// The files that may hold a checkpoint, the newest first.
  std::vector<std::filesystem::path> files() const;
  /// True when one of them is there, good or not.
  bool exists() const;

  // All throw Error when the name is empty, has a dot in it, is "checkpoint" or has been added before.

  /// A Module with its random streams, an Optimizer, a RecurrentState: any object with a state.
  template <Stateful T>
  void add(const std::string& name, T& object);
  void add(const std::string& name, std::map<std::string, Tensor>& tensors);
  void add(const std::string& name, Generator& generator);
  void add(const std::string& name, Index& number);
  void add(const std::string& name, double& number);
  /// UTF-8.
  void add(const std::string& name, std::string& text);

  /// Settings of the run, saved with everything else for whoever asks for `settings`.
  void set(const std::map<std::string, std::string>& values) { settings_.insert(values.begin(), values.end()); }
  /// A setting without which the run would be another one: `load` refuses a checkpoint that has another value.
  void fix(const std::string& name, const std::string& value) { settings_[name] = fixed_[name] = value; }
  /// The settings in the file that `load` would use. Throws Error like it.
  std::map<std::string, std::string> settings() const { return read().settings; }

  /// Writes a new checkpoint. Throws Error when it cannot be written; then the earlier ones are as they were.
  void save() const;

  struct Source {
    std::filesystem::path file;  ///< that was loaded
    std::string note;            ///< when a newer one was damaged or gone: a line that says so, and why; else empty
  };
  /// Puts back what the newest good file holds; one that is missing, cut off or damaged is passed over. Throws Error,
  /// and changes nothing, when no file is good (with the reason for each), or when the newest good one is not of this
  /// program, these settings and these parts.
  Source load();

 private:
  struct Part {
    std::string name;
    std::function<TensorFile()> save;
    std::function<void(const TensorFile&)> load;
  };
  struct Content {
    Source source;
    std::map<std::string, std::string> settings;
    std::map<std::string, TensorFile> parts;
  };
  void add_part(Part part);
  Content read() const;
  void check_fits(const Content& content) const;

  std::filesystem::path path_;
  Options options_;
  std::map<std::string, std::string> settings_, fixed_;
  std::vector<Part> parts_;
};

namespace detail {
std::string to_text(const Generator& generator);
/// Throws Error when the text is not what `to_text` gives.
Generator generator_from(const std::map<std::string, std::string>& texts, const std::string& name);
}  // namespace detail

template <Stateful T>
void Checkpoint::add(const std::string& name, T& object) {
  constexpr bool has_generators = requires { object.generators(); };
  auto save = [&object] {
    TensorFile file{object.state_dict(), {}};
    if constexpr (has_generators)
      for (const auto& [stream, generator] : object.generators()) file.metadata[stream] = detail::to_text(*generator);
    return file;
  };
  auto load = [&object](const TensorFile& file) {
    std::vector<std::pair<Generator*, Generator>> generators;
    if constexpr (has_generators)
      for (const auto& [stream, generator] : object.generators())
        generators.emplace_back(generator, detail::generator_from(file.metadata, stream));
    object.load_state_dict(file.tensors);
    for (const auto& [generator, saved] : generators) *generator = saved;
  };
  add_part({name, save, load});
}

}  // namespace unroll
