#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace unroll::examples {

// Pictures are SVG files that gnuplot draws. Where it fails or is missing, one line on standard error says so, and the
// numbers are there as CSV: a picture is never worth stopping a run for.

/// Curves from the columns of a CSV file, against its first column.
struct Plot {
  struct Curve {
    int column;  ///< counted from 1
    std::string title;
  };
  std::string title, x_label, y_label;
  std::vector<Curve> curves;
  bool log_x = false, log_y = false;
};
void draw(const Plot& plot, const std::filesystem::path& csv, const std::filesystem::path& svg);

/// A matrix as a picture, with names for its rows (from above) and columns. White is `low`, or 0 where `low` is below
/// it.
struct HeatMap {
  std::string title, x_label, y_label, scale_label;
  std::vector<std::string> rows, columns;
  std::vector<std::vector<double>> values;  ///< by row
  double low = 0, high = 1;
};
/// Writes the matrix to `csv`, where it throws Error if it cannot, and draws it.
void draw(const HeatMap& map, const std::filesystem::path& csv, const std::filesystem::path& svg);

}  // namespace unroll::examples
