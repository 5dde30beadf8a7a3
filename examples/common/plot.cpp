#include <examples/common/console.h>
#include <examples/common/plot.h>

#include <fmt/format.h>
#include <unistd.h>

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

}  // namespace

void draw(const Plot& plot, const fs::path& csv, const fs::path& svg) {
  if (!installed("gnuplot")) {
    fmt::print(stderr, "no plot: gnuplot is not installed (Debian: apt install gnuplot-nox); the numbers are in {}\n",
               quoted(csv));
    return;
  }
  fs::path temporary = svg;
  temporary += ".tmp";
  std::string script = fmt::format(
      "set terminal svg size 860,520 font 'sans-serif,15' background '#ffffff'\n"
      "set output {}\n"
      "set datafile separator ','\n"
      "set title {} noenhanced\nset xlabel {} noenhanced\nset ylabel {} noenhanced\n"
      "set key top right noenhanced\nset grid lc rgb '#d8d8d8'\nset border 3 lc rgb '#444444'\nset tics nomirror\n"
      "plot ",
      gnuplot_string(temporary.string()), gnuplot_string(plot.title), gnuplot_string(plot.x_label),
      gnuplot_string(plot.y_label));
  for (std::size_t i = 0; i < plot.curves.size(); ++i)
    script += fmt::format("{}{} using 1:{} skip 1 with linespoints lw 2.5 pt 7 ps 0.4 lc rgb '{}' title {}",
                          i == 0 ? "" : ", ", gnuplot_string(csv.string()), plot.curves[i].column,
                          colours[i % colours.size()], gnuplot_string(plot.curves[i].title));
  script += "\nunset output\n";

  std::FILE* gnuplot = ::popen("gnuplot >/dev/null 2>&1", "w");
  bool good = gnuplot != nullptr;
  if (good) {
    good = std::fwrite(script.data(), 1, script.size(), gnuplot) == script.size();
    good = ::pclose(gnuplot) == 0 && good;
  }
  std::error_code error;
  if (good) fs::rename(temporary, svg, error);
  if (!good || error) {
    fs::remove(temporary, error);
    fmt::print(stderr, "no plot: gnuplot could not draw {}; the numbers are in {}\n", quoted(svg), quoted(csv));
  }
}

}  // namespace unroll::examples
