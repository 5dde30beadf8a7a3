#pragma once

#include <layers/recurrent.h>
#include <optim/optimizer.h>

#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace unroll::examples {

/// Everything a training needs to go on with the same bits, in one safetensors file. A trainer adds whatever
/// changes while it runs; `save` writes what these hold, all or nothing, and `load` puts it back.
///
///     Checkpoint checkpoint(out / "checkpoint.safetensors", "char_lm");
///     checkpoint.add(model);
///     checkpoint.add(adam);
///     checkpoint.add("step", step);
///     if (resume) checkpoint.load();
class Checkpoint {
 public:
  Checkpoint(std::filesystem::path path, std::string program) : path_(std::move(path)), program_(std::move(program)) {}

  const std::filesystem::path& path() const { return path_; }
  bool exists() const;
  /// The settings in the file. Throws Error when it is not a checkpoint of this program.
  std::map<std::string, std::string> settings() const;
  /// Settings of the run, saved with everything else.
  void set(const std::map<std::string, std::string>& values) { settings_.insert(values.begin(), values.end()); }
  /// A setting without which the run would be another one: `load` refuses a checkpoint that has another value.
  void fix(const std::string& name, const std::string& value) { settings_[name] = fixed_[name] = value; }

  /// Weights, and the positions of dropout's random streams.
  void add(Module& model);
  void add(Optimizer& optimizer);
  void add(const std::string& name, RecurrentState& state);
  void add(const std::string& name, std::map<std::string, Tensor>& tensors);
  void add(const std::string& name, Index& number);
  void add(const std::string& name, double& number);
  void add(const std::string& name, std::string& text);

  /// Throws Error, and leaves the file as it was, when it cannot be written.
  void save() const;
  /// Throws Error when the file cannot be read, is damaged, or is of a run of another kind.
  void load();

 private:
  struct Part {
    std::function<void(TensorFile&)> save;
    std::function<void(TensorFile&)> load;
  };
  TensorFile read() const;
  [[noreturn]] void fail_missing(const std::string& name) const;

  std::filesystem::path path_;
  std::string program_;
  std::map<std::string, std::string> settings_, fixed_;
  std::vector<Part> parts_;
};

/// Moves what an earlier run left in a folder into a new folder `earlier-N` inside it, with a line that says so:
/// a new run takes its place, and nothing is lost. Throws Error.
void set_earlier_run_aside(const std::filesystem::path& folder, const std::vector<std::string>& names);

/// Makes a folder and those it is in. Throws Error, with the reason, when that fails.
void make_folder(const std::filesystem::path& folder);

}  // namespace unroll::examples
