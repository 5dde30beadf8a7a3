#pragma once

#include <filesystem>
#include <initializer_list>
#include <string>
#include <string_view>

namespace unroll::examples {

/// The numbers of a run, a row for each moment, kept as a CSV file. The first column says when.
class Metrics {
 public:
  /// `columns` is the header, "step,train_nats".
  Metrics(std::filesystem::path path, std::string_view columns);

  /// Adds a row, with an empty cell for NaN, or replaces the last row when that has the same first cell.
  void add(std::initializer_list<double> row);
  /// Writes the file, all or nothing. Throws Error.
  void write() const;

  const std::filesystem::path& path() const { return path_; }
  /// What the file is to hold; a checkpoint saves and restores it.
  std::string& text() { return text_; }

 private:
  std::filesystem::path path_;
  std::string text_;
};

}  // namespace unroll::examples
