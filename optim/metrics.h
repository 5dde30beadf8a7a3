#pragma once

#include <filesystem>
#include <initializer_list>
#include <string>
#include <vector>

namespace unroll {

/// The numbers of a training, a row for each moment, kept as a file: CSV, or JSON lines where the path ends in
/// ".jsonl". The first column says when.
///
///     Metrics metrics("run/metrics.csv", {"step", "train_loss", "validation_loss"});
///     metrics.add({100, 1.93, nan});      // 100,1.93,           {"step":100,"train_loss":1.93,"validation_loss":null}
///     metrics.write();
class Metrics {
 public:
  /// Throws Error when there is no column, or when a name has a character that would need quotes: one of ,"\ or a
  /// control character.
  Metrics(std::filesystem::path path, std::vector<std::string> columns);

  /// Adds a row, or replaces the last row when that has the same first cell. NaN is an empty cell (null in JSON, which
  /// has no infinite numbers either). Throws Error when the row is not as long as there are columns.
  void add(std::initializer_list<double> row);
  /// Writes the file, all or nothing. Throws Error.
  void write() const;

  const std::filesystem::path& path() const { return path_; }
  /// What the file is to hold; a checkpoint saves and restores it.
  std::string& text() { return text_; }

 private:
  std::string line(std::initializer_list<double> row) const;

  std::filesystem::path path_;
  std::vector<std::string> columns_;
  bool json_;
  std::string text_;
};

}  // namespace unroll
