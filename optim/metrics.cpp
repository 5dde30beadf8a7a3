#include <autograd/error.h>
#include <autograd/file.h>
#include <optim/metrics.h>

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

namespace unroll {

Metrics::Metrics(std::filesystem::path path, std::vector<std::string> columns)
    : path_(std::move(path)), columns_(std::move(columns)), json_(path_.extension() == ".jsonl") {
  if (columns_.empty()) fail("Metrics: there are no columns; name at least one");
  auto needs_quotes = [](unsigned char c) { return c < 0x20 || c == ',' || c == '"' || c == '\\'; };
  for (const std::string& column : columns_)
    if (std::ranges::any_of(column, needs_quotes))
      fail("Metrics: the column {} cannot be written without quotes; choose another name", detail::in_quotes(column));
  if (!json_) text_ = fmt::format("{}\n", fmt::join(columns_, ","));
}

std::string Metrics::line(std::initializer_list<double> row) const {
  std::vector<std::string> cells;
  for (const double* x = row.begin(); x != row.end(); ++x) {
    const bool none = json_ ? !std::isfinite(*x) : std::isnan(*x);
    const std::string cell = !none ? fmt::to_string(*x) : json_ ? "null" : "";
    cells.push_back(json_ ? fmt::format("\"{}\":{}", columns_[cells.size()], cell) : cell);
  }
  return json_ ? fmt::format("{{{}}}\n", fmt::join(cells, ",")) : fmt::format("{}\n", fmt::join(cells, ","));
}

void Metrics::add(std::initializer_list<double> row) {
  if (row.size() != columns_.size())
    fail("Metrics: a row has {} numbers; there are {} columns", row.size(), columns_.size());
  const std::string added = line(row);
  const std::string when = added.substr(0, added.find_first_of(",}\n") + 1);
  // Where the last row begins: not at 0, where a CSV file has its header.
  const std::size_t last = text_.size() < 2 ? text_.npos : text_.rfind('\n', text_.size() - 2) + 1;
  if ((json_ || last != 0) && last != text_.npos && text_.compare(last, when.size(), when) == 0) text_.resize(last);
  text_ += added;
}

void Metrics::write() const { write_file_atomically(path_, text_); }

}  // namespace unroll
