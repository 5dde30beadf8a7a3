#include <autograd/file.h>
#include <examples/common/console.h>
#include <examples/common/plot.h>

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>

namespace unroll::examples {

namespace {

namespace fs = std::filesystem;

bool installed(const std::string& program) {
  const char* path = std::getenv("PATH");
  std::string rest = path == nullptr ? "" : path;
  while (!rest.empty()) {
    const std::size_t colon = std::min(rest.find(':'), rest.size());
    if (::access((fs::path(rest.substr(0, colon)) / program).c_str(), X_OK) == 0) return true;
    rest.erase(0, colon + 1);
  }
  return false;
}

/// A string in gnuplot's single quotes, in which nothing but the quote itself is special.
std::string gnuplot_string(const std::string& text) {
  std::string out = "'";
  for (char c : text) out += c == '\'' ? "''" : c == '\n' ? " " : std::string(1, c);
  return out + "'";
}

// Colours that differ in lightness too, for a reader who does not tell hues apart.
constexpr std::array colours = {"#1f6fb2", "#d1520f", "#2a8a4a", "#7a3fa0", "#8a6d1a", "#444444"};

constexpr const char* look =
    "set datafile separator ','\nset tics nomirror\nset grid lc rgb '#d8d8d8'\nset border 3 lc rgb '#444444'\n";

std::string labels(const std::string& title, const std::string& x, const std::string& y) {
  return fmt::format("set title {} noenhanced\nset xlabel {} noenhanced\nset ylabel {} noenhanced\n",
                     gnuplot_string(title), gnuplot_string(x), gnuplot_string(y));
}

/// Runs a script that draws a picture of the given size in pixels.
void run_gnuplot(const std::string& script, std::size_t width, std::size_t height, const fs::path& csv,
                 const fs::path& svg) {
  if (!installed("gnuplot")) {
    fmt::print(stderr, "no plot: gnuplot is not installed (Debian: apt install gnuplot-nox); the numbers are in {}\n",
               quoted(csv));
    return;
  }
  fs::path temporary = svg;
  temporary += ".tmp";
  const std::string all = fmt::format(
      "set terminal svg size {},{} font 'sans-serif,15' background '#ffffff'\nset output {}\n{}{}\nunset output\n",
      width, height, gnuplot_string(temporary.string()), look, script);
  std::FILE* gnuplot = ::popen("gnuplot >/dev/null 2>&1", "w");
  bool good = gnuplot != nullptr;
  if (good) {
    good = std::fwrite(all.data(), 1, all.size(), gnuplot) == all.size();
    good = ::pclose(gnuplot) == 0 && good;
  }
  std::error_code error;
  if (good) fs::rename(temporary, svg, error);
  if (!good || error) {
    fs::remove(temporary, error);
    fmt::print(stderr, "no plot: gnuplot could not draw {}; the numbers are in {}\n", quoted(svg), quoted(csv));
  }
}

/// The names of an axis' marks.
std::string marks(const char* axis, const std::vector<std::string>& names, const char* how) {
  std::string script = fmt::format("set {}tics noenhanced {} (", axis, how);
  for (std::size_t i = 0; i < names.size(); ++i)
    script += fmt::format("{}{} {}", i == 0 ? "" : ", ", gnuplot_string(names[i]), i);
  return script + ")\n";
}

/// A cell of a CSV file, in quotes where it needs them.
std::string csv_cell(const std::string& text) {
  if (text.find_first_of(",\"\n") == std::string::npos) return text;
  std::string out = "\"";
  for (char c : text) out += c == '"' ? "\"\"" : std::string(1, c);
  return out + "\"";
}

}  // namespace

void draw(const Plot& plot, const fs::path& csv, const fs::path& svg) {
  std::string script = labels(plot.title, plot.x_label, plot.y_label) + "set key above noenhanced\n";
  if (plot.log_x) script += "set logscale x\n";
  if (plot.log_y) script += "set logscale y\nset format y '10^{%T}'\n";
  script += "plot ";
  for (std::size_t i = 0; i < plot.curves.size(); ++i)
    script += fmt::format("{}{} using 1:{} skip 1 with linespoints lw 2.5 pt 7 ps 0.4 lc rgb '{}' title {}",
                          i == 0 ? "" : ", ", gnuplot_string(csv.string()), plot.curves[i].column,
                          colours[i % colours.size()], gnuplot_string(plot.curves[i].title));
  run_gnuplot(script, 860, 520, csv, svg);
}

void draw(const HeatMap& map, const fs::path& csv, const fs::path& svg) {
  std::string table = csv_cell(map.y_label), cells;
  for (const std::string& column : map.columns) table += fmt::format(",{}", csv_cell(column));
  table += "\n";
  for (std::size_t i = 0; i < map.rows.size(); ++i) {
    table += csv_cell(map.rows[i]);
    for (double value : map.values[i]) {
      table += fmt::format(",{}", value);
      cells += fmt::format("{} ", value);
    }
    table += "\n";
    cells += "\n";
  }
  write_file_atomically(csv, table);

  const char* palette = map.low < 0 ? "(-1 '#1f6fb2', 0 '#ffffff', 1 '#d1520f')" : "(0 '#ffffff', 1 '#1f4f8f')";
  std::string script = labels(map.title, map.x_label, map.y_label);
  script += "unset grid\nset datafile separator whitespace\nset tics out scale 0.5\n";
  const bool long_names = std::ranges::any_of(map.columns, [](const std::string& name) { return name.size() > 5; });
  script += marks("x", map.columns, long_names ? "rotate by 60 right" : "") + marks("y", map.rows, "");
  script += fmt::format(
      "set palette defined {}\nset cbrange [{}:{}]\nset cblabel {} noenhanced\nset xrange [-0.5:{}]\nset yrange "
      "[{}:-0.5]\n",
      palette, map.low, map.high, gnuplot_string(map.scale_label), static_cast<double>(map.columns.size()) - 0.5,
      static_cast<double>(map.rows.size()) - 0.5);
  script += fmt::format("$cells << END\n{}END\nplot $cells matrix with image pixels notitle", cells);
  const std::size_t width = std::clamp<std::size_t>(260 + 42 * map.columns.size(), 520, 1400);
  const std::size_t height = std::clamp<std::size_t>(200 + 34 * map.rows.size(), 320, 1100);
  run_gnuplot(script, width, height, csv, svg);
}

}  // namespace unroll::examples
