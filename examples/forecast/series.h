#pragma once

// The time series that forecast looks at: from a CSV file, or made by rule.

#include <autograd/error.h>
#include <autograd/random.h>
#include <examples/common/console.h>
#include <examples/common/text.h>

#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <numbers>
#include <optional>

namespace unroll::examples::forecast {

/// Values at equal distances in time.
struct Series {
  std::vector<std::string> names;            ///< of the columns
  std::vector<std::vector<double>> columns;  ///< all of one length
  std::vector<std::string> labels = labels_for(names);

  Index length() const { return static_cast<Index>(columns.front().size()); }

  /// The names as parts of file names, all different.
  static std::vector<std::string> labels_for(const std::vector<std::string>& names) {
    std::vector<std::string> labels;
    for (std::string label : names) {
      std::ranges::replace_if(
          label, [](char c) { return std::isalnum(static_cast<unsigned char>(c)) == 0; }, '_');
      while (label.empty() || std::ranges::find(labels, label) != labels.end()) label += '_';
      labels.push_back(label.substr(0, 100));
    }
    return labels;
  }
};

/// A trend with a season of 24 steps that grows with it, and noise that grows with the value and fades slowly:
/// something like the hourly sales of a shop that does well.
inline Series make_seasons(Index length, Generator rng) {
  Series series{{"seasons"}, {{}}};
  for (double t = 0, noise = 0; t < static_cast<double>(length); ++t) {
    const double level = 50 + 0.01 * t, phase = 2 * std::numbers::pi * t / 24;
    const double clean = level * (1 + 0.3 * std::sin(phase) + 0.1 * std::cos(2 * phase));
    noise = 0.7 * noise + rng.normal();
    series.columns[0].push_back(clean * (1 + 0.03 * noise));
  }
  return series;
}

/// dx/dt = 0.2 x(t - 17) / (1 + x(t - 17)^10) - 0.1 x(t), at t = 0, 1, 2, ...: fixed by its past without any chance,
/// and chaotic (Mackey and Glass 1977, "Oscillation and chaos in physiological control systems", equation 4b). Solved
/// by Euler's method in steps of 1/100, from a constant past that is drawn; the first 500 steps are not shown.
inline Series make_mackey_glass(Index length, Generator rng) {
  constexpr Index parts = 100, delay = 17 * parts, hidden = 500;
  std::vector<double> x(delay + 1, rng.uniform(1.1, 1.3));
  Series series{{"mackey_glass"}, {{}}};
  for (Index t = -hidden; t < length; ++t) {
    if (t >= 0) series.columns[0].push_back(x.back());
    for (Index k = 0; k < parts; ++k) {
      const double past = x[x.size() - 1 - delay];
      x.push_back(x.back() + (0.2 * past / (1 + std::pow(past, 10)) - 0.1 * x.back()) / parts);
    }
  }
  return series;
}

/// The sum of all that chance has added so far. Its best forecast is its last value, however far ahead.
inline Series make_random_walk(Index length, Generator rng) {
  Series series{{"random_walk"}, {{}}};
  for (double value = 0; series.length() < length; value += rng.normal()) series.columns[0].push_back(value);
  return series;
}

/// The cells of a line of CSV. Quotes keep a comma in a cell; doubled, they stand for themselves.
inline std::vector<std::string> split_cells(std::string_view line) {
  std::vector<std::string> cells(1);
  bool inside = false;
  for (std::size_t i = 0; i < line.size(); ++i) {
    if (line[i] == '"' && inside && line.substr(i + 1).starts_with('"'))
      cells.back() += line[i++];
    else if (line[i] == '"')
      inside = !inside;
    else if (line[i] == ',' && !inside)
      cells.emplace_back();
    else
      cells.back() += line[i];
  }
  for (std::string& cell : cells) {
    const std::size_t begin = std::min(cell.find_first_not_of(" \t"), cell.size());
    cell = cell.substr(begin, cell.find_last_not_of(" \t") + 1 - begin);
  }
  return cells;
}

inline std::optional<double> number_in(std::string_view text) {
  double value = 0;
  if (text.starts_with('+')) text.remove_prefix(1);
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value)) return {};
  return value;
}

/// Columns of a CSV file with a line of names, oldest values first; none named: all whose first value is a number.
/// Throws Error, with line and column, on whatever is not a finite number in them.
inline Series read_series(const std::filesystem::path& path, std::vector<std::string> wanted) {
  std::string text = read_text({path});
  if (text.starts_with("\xef\xbb\xbf")) text.erase(0, 3);
  if (text.find('\0') != text.npos || text.starts_with("\xff\xfe") || text.starts_with("\xfe\xff"))
    fail("{} is not plain text (UTF-16?); save it as CSV in UTF-8", quoted(path));

  Series series;
  std::vector<std::string> header;
  std::vector<std::size_t> places;  // of the wanted columns
  Index number = 0;
  for (std::size_t begin = 0, end; begin < text.size(); begin = end + 1) {
    end = std::min(text.find('\n', begin), text.size());
    std::string_view line = std::string_view(text).substr(begin, end - begin);
    if (line.ends_with('\r')) line.remove_suffix(1);
    ++number;
    if (line.find_first_not_of(" \t") == line.npos) continue;
    const std::vector<std::string> cells = split_cells(line);
    if (header.empty()) {
      header = cells;
      continue;
    }
    if (cells.size() != header.size())
      fail("{}, line {}: {} cells, where the first line names {} columns", quoted(path), number, cells.size(),
           header.size());
    if (places.empty()) {
      if (wanted.empty())
        for (std::size_t i = 0; i < cells.size(); ++i)
          if (number_in(cells[i])) wanted.push_back(header[i]);
      if (wanted.empty()) fail("{}, line {}: there is no number in it; is it CSV, with commas?", quoted(path), number);
      for (const std::string& name : wanted) {
        if (std::ranges::count(header, name) != 1 || std::ranges::count(wanted, name) != 1)
          fail("{}: column \"{}\" is {}; the columns are {}", quoted(path), name,
               std::ranges::count(header, name) == 0 ? "not there" : "there or wanted twice", fmt::join(header, ", "));
        places.push_back(static_cast<std::size_t>(std::ranges::find(header, name) - header.begin()));
      }
      series = {wanted, std::vector<std::vector<double>>(wanted.size())};
    }
    for (std::size_t c = 0; c < places.size(); ++c) {
      const std::optional<double> value = number_in(cells[places[c]]);
      if (!value)
        fail("{}, line {}, column \"{}\": \"{}\" is not a finite number; fill it in, or leave the line out",
             quoted(path), number, wanted[c], cells[places[c]]);
      series.columns[c].push_back(*value);
    }
  }
  if (series.columns.empty()) fail("{} has no line of values below its line of names", quoted(path));
  return series;
}

}  // namespace unroll::examples::forecast
