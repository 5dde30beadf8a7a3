#include <autograd/file.h>
#include <examples/common/metrics.h>

#include <fmt/format.h>

#include <cmath>

namespace unroll::examples {

Metrics::Metrics(std::filesystem::path path, std::string_view columns)
    : path_(std::move(path)), text_(fmt::format("{}\n", columns)) {}

void Metrics::add(std::initializer_list<double> row) {
  std::string line;
  for (double x : row) line += fmt::format("{}{}", line.empty() ? "" : ",", std::isnan(x) ? "" : fmt::format("{}", x));
  const std::string when = line.substr(0, line.find(',') + 1);
  const std::size_t last = text_.rfind('\n', text_.size() - 2) + 1;  // npos + 1 is 0: the header
  if (last > 0 && text_.compare(last, when.size(), when) == 0) text_.resize(last);
  text_ += line + '\n';
}

void Metrics::write() const { write_file_atomically(path_, text_); }

}  // namespace unroll::examples
