#pragma once

// The options that trainers share, under the same names everywhere, and their way into and out of a checkpoint.

#include <autograd/shape.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace CLI {
class App;
class Validator;
}  // namespace CLI

namespace unroll::examples {

/// A trainer sets the defaults that suit it and then adds the options.
struct TrainingOptions {
  std::filesystem::path out;
  Index batch = 32;
  double rate = 0.002;
  double clip = 1;
  double dropout = 0;
  Index steps = 1000;
  Index epochs = 0;
  std::uint64_t seed = 1;
  int threads = 0;
  bool resume = false;

  /// The options that a resumed run has to share with the one that was stopped, and those that it takes over unless
  /// others are given.
  std::vector<std::string> fixed = {"batch", "rate", "clip", "dropout", "seed"}, saved = {"steps", "epochs"};
};
/// Leaves out those that an example has no use for: {"dropout", "resume"}.
void add_training_options(CLI::App& app, TrainingOptions& options, const std::vector<std::string>& without = {});

/// The shape of a recurrent model of tokens.
struct ModelOptions {
  std::string cell = "lstm";
  Index hidden = 256, layers = 1, embedding = 64;
  inline static const std::vector<std::string> names = {"cell", "hidden", "layers", "embedding"};
};
void add_model_options(CLI::App& app, ModelOptions& options, const std::vector<std::string>& without = {});

/// How a language model writes text; see `draw` in sampling.h.
struct SamplingOptions {
  bool sample = false;
  std::string prompt;
  Index length = 600;
  double temperature = 0.7;
  Index top_k = 0;
};
void add_sampling_options(CLI::App& app, SamplingOptions& options);

/// Options of a number, refused outside the range (that of a size, with what memory can hold in mind).
CLI::Validator size_range();
CLI::Validator above_zero();
CLI::Validator at_least_zero();
CLI::Validator probability();

/// Makes a path absolute, so that a saved one holds from whatever folder a run is resumed.
CLI::Validator absolute_path();

/// The values that options have now, given or by default, by name ("hidden"), as text for a file's metadata.
std::map<std::string, std::string> option_values(const CLI::App& app, const std::vector<std::string>& names);

/// Gives options the values that a file has for them, so that a user need not repeat them. One that was given on
/// the command line keeps its value, as does one that it excludes; but when it is among `fixed` and differs from
/// the saved value, an Error says so.
void restore_options(CLI::App& app, const std::map<std::string, std::string>& saved,
                     const std::vector<std::string>& fixed);

}  // namespace unroll::examples
