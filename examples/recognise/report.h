#pragma once

#include <examples/recognise/decode.h>

#include <nlohmann/json.hpp>

#include <filesystem>

namespace unroll::examples::recognise {

/// What a model made of every utterance of the test.
struct Heard {
  std::string name, title;  ///< of the model: in file names, and for readers
  std::vector<Posteriors> posteriors;
};

/// Prints each model's label error rate, the sum of errors over that of labels, by the best path and by the search, and
/// what each heard in the first utterance, with a picture of its posteriors there. Returns the rates.
nlohmann::ordered_json report(const std::vector<Heard>& models, const std::vector<Utterance>& test, Index beam,
                              const std::filesystem::path& folder);

/// The files that `report` writes for models of these names.
std::vector<std::string> report_files(const std::vector<std::string>& models);

}  // namespace unroll::examples::recognise
