#pragma once

#include <autograd/parameter.h>
#include <autograd/random.h>
#include <autograd/safetensors.h>

#include <string>
#include <vector>

namespace unroll {

/// Part of a model: parameters, random streams and other modules, each under a name.
///
/// A module registers its members in its constructor with `add`; it can be neither copied nor moved, so what
/// is registered stays where it is.
///
///     struct Model : Module {
///       Linear first, second;
///       explicit Model(Generator& rng) : first(784, 100, rng), second(100, 10, rng) {
///         add("first", first);
///         add("second", second);
///       }
///     };
class Module {
 public:
  Module() = default;
  Module(const Module&) = delete;
  Module& operator=(const Module&) = delete;
  virtual ~Module() = default;

  /// Every parameter of this module and the modules in it, each once, in the order they were added. The name of
  /// a parameter is the full one, from the outermost module it was added to: "lstm.weight_hh_l0".
  const std::vector<Parameter*>& parameters() const { return parameters_; }
  /// A parameter by its name in this module, as in `state_dict`. Throws Error, listing the names, when there is none.
  Parameter& parameter(std::string_view name) const;
  /// The number of learned values.
  Index count() const;

  /// Training or evaluation: dropout acts in training only. A module starts in training.
  void train(bool training = true);
  void eval() { train(false); }
  bool training() const { return training_; }

  /// Freezes parameters: no gradient is computed for them and no optimizer changes them.
  void freeze(bool frozen = true);
  void zero_grad();
  /// Converts every parameter; for gradient checks, `model.to(float64)`.
  void to(DType dtype);

  /// The weights under their names in this module and in PyTorch's layouts, as `torch.nn` modules of the same
  /// kind have them: a matrix that we multiply from the right is stored transposed there.
  std::map<std::string, Tensor> state_dict() const;
  /// Sets the weights from such a dictionary, converting types. All missing, unexpected and mis-shaped entries
  /// are reported at once, as one Error, and then nothing is changed.
  void load_state_dict(const std::map<std::string, Tensor>& state);

  /// The random streams of dropout and the like, by full name: part of what a resumed training needs.
  const std::vector<std::pair<std::string, Generator*>>& generators() const { return generators_; }

 protected:
  /// How a parameter is stored where PyTorch stores it differently.
  struct Stored {
    bool transposed = false;
    /// PyTorch adds a second parameter to this one, where one is enough: stored as zeros, read as a sum.
    std::string_view summed_with = {};
  };
  void add(std::string_view name, Parameter& parameter, Stored stored = {false, {}});
  void add(std::string_view name, Generator& generator);
  /// The parts of a module get its name before theirs ("lstm." + "weight"); with a suffix, after ("weight" + "_l0").
  void add(std::string_view name, Module& module, std::string_view suffix = {});

 private:
  struct Entry {
    std::string name;
    Parameter* parameter;
    bool transposed;
    std::string summed_with;
  };
  std::vector<Parameter*> parameters_;
  std::vector<Entry> entries_;
  std::vector<std::pair<std::string, Generator*>> generators_;
  std::vector<Module*> children_;
  bool training_ = true;
};

/// Writes a module's weights as a safetensors file that PyTorch can load; atomically. Throws Error.
void save_weights(const std::filesystem::path& path, const Module& module,
                  const std::map<std::string, std::string>& metadata = {});
/// Loads such a file into a module of the same shape and returns the file's metadata. Throws Error, and
/// changes nothing, when the file is damaged or its entries are not the module's.
std::map<std::string, std::string> load_weights(const std::filesystem::path& path, Module& module);

}  // namespace unroll
