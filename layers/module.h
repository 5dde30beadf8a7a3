#pragma once

#include <autograd/parameter.h>
#include <autograd/random.h>
#include <autograd/safetensors.h>

#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace unroll {

struct LoadOptions {
  /// Takes what fits by name and leaves the rest of the module as it is, instead of refusing. A shape that does not
  /// fit is still an Error.
  bool partial = false;
};

/// What a partial load left out, by name.
struct Loaded {
  std::vector<std::string> missing;     ///< of the module, and not in the dictionary
  std::vector<std::string> unexpected;  ///< in the dictionary, and not of the module
};

/// Part of a model: parameters, buffers, random streams and other modules, each under a name.
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
///
/// A parameter that several modules have registered (tied weights; see TiedLinear) is one parameter: listed, counted
/// and stored once, under the first of its names. It is found, frozen and loaded under any of them.
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
  /// The same for one part, by name: a parameter, or all of a module ("lstm", "block.linear"). Throws Error, listing
  /// the names, when there is no such part.
  void freeze(std::string_view part, bool frozen = true);
  void freeze(const char* part, bool frozen = true) { freeze(std::string_view(part), frozen); }  // it is no bool
  void zero_grad();
  /// Converts every parameter and buffer; for gradient checks, `model.to(float64)`.
  void to(DType dtype);

  /// A table to print: each parameter's and buffer's layer, name and shape, the number of its values, whether it is
  /// frozen, a buffer or another's, and the total.
  std::string summary() const;

  /// Parameters and buffers under their names in this module and in PyTorch's layouts, as `torch.nn` modules of the
  /// same kind have them: a matrix that we multiply from the right is stored transposed there.
  std::map<std::string, Tensor> state_dict() const;
  /// Sets parameters and buffers from such a dictionary, converting types. All missing, unexpected and mis-shaped
  /// entries are reported at once, as one Error, and then nothing is changed. Of a parameter with several names, one
  /// is needed; where there are more, they must agree.
  ///
  /// A partial load throws for shapes only, and returns what it did not find or use. Of two entries that are summed, an
  /// absent one then counts as zeros. From a file:
  ///
  ///     Loaded left_out = model.load_state_dict(read_safetensors(path).tensors, {.partial = true});
  Loaded load_state_dict(const std::map<std::string, Tensor>& state, LoadOptions options = {});

  /// The random streams of dropout and the like, by full name: part of what a resumed training needs.
  const std::vector<std::pair<std::string, Generator*>>& generators() const { return generators_; }

 protected:
  /// How a tensor is stored where PyTorch stores it differently.
  struct Stored {
    bool transposed = false;
    /// PyTorch adds a second parameter to this one, where one is enough: stored as zeros, read as a sum.
    std::string_view summed_with = {};
  };

  // All throw Error when the part has been added here before, when a name occurs twice, and when this module is itself
  // part of another already, which would not see what is added later.

  void add(std::string_view name, Parameter& parameter, Stored stored = {false, {}});
  /// A buffer: a tensor that is stored and converted with the parameters, but not trained.
  void add(std::string_view name, Tensor& buffer, Stored stored = {false, {}});
  void add(std::string_view name, Generator& generator);
  /// The parts of a module get its name before theirs ("lstm." + "weight"); with a suffix, after ("weight" + "_l0").
  void add(std::string_view name, Module& module, std::string_view suffix = {});

 private:
  /// A name of a parameter or, where that is null, of a buffer.
  struct Entry {
    std::string name;
    Parameter* parameter;
    Tensor* buffer;
    bool transposed;
    std::string summed_with;
    std::string shares = {};  ///< the first name of the same tensor, when this is another

    const Tensor& value() const { return parameter != nullptr ? std::as_const(*parameter).value() : *buffer; }
    Shape stored_shape() const;
  };
  void begin_add(std::string_view name, const void* part);
  void take_name(const std::string& name);
  void add_entry(Entry entry);
  void add_generator(const std::string& name, Generator& generator);
  /// What a dictionary holds for each tensor of this module, by any of its names; says what does not fit.
  std::map<const Tensor*, Tensor> read_values(const std::map<std::string, Tensor>& state,
                                              std::vector<std::string>& faults) const;
  Loaded left_out_by(const std::map<std::string, Tensor>& state) const;

  std::vector<Entry> entries_;
  std::vector<Parameter*> parameters_;
  std::vector<std::pair<std::string, Generator*>> generators_;
  std::vector<Module*> children_;
  std::vector<std::pair<const void*, std::string>> parts_;  ///< what was added to this very module
  std::set<std::string> names_;
  bool part_of_another_ = false;
  bool training_ = true;
};

/// Writes a module's parameters and buffers as a safetensors file that PyTorch can load; atomically. Throws Error.
void save_weights(const std::filesystem::path& path, const Module& module,
                  const std::map<std::string, std::string>& metadata = {});
/// Loads such a file into a module of the same shape and returns the file's metadata. Throws Error, and
/// changes nothing, when the file is damaged or its entries are not the module's.
std::map<std::string, std::string> load_weights(const std::filesystem::path& path, Module& module);

}  // namespace unroll
