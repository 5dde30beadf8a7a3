#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace unroll::examples {

/// Curves from the columns of a CSV file, against its first column.
struct Plot {
  struct Curve {
    int column;  ///< counted from 1
    std::string title;
  };
  std::string title, x_label, y_label;
  std::vector<Curve> curves;
};

/// Draws a plot as an SVG file through gnuplot. Says in one line on standard error why not, where that fails:
/// a picture is never worth stopping a run for.
void draw(const Plot& plot, const std::filesystem::path& csv, const std::filesystem::path& svg);

}  // namespace unroll::examples
