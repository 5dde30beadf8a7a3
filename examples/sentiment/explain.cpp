#include <autograd/softmax.h>
#include <examples/common/plot.h>
#include <examples/sentiment/explain.h>

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

namespace unroll::examples {

namespace {

using Matrix = std::vector<std::vector<double>>;

/// [T, 1, H] by rows.
Matrix rows_of(const Tensor& tensor) {
  const std::vector<double> all = tensor.to_vector();
  Matrix rows;
  const auto width = static_cast<std::ptrdiff_t>(tensor.shape()[2]);
  for (auto at = all.begin(); at != all.end(); at += width) rows.emplace_back(at, at + width);
  return rows;
}

std::vector<double> means_of(const Matrix& rows) {
  std::vector<double> means;
  for (const auto& row : rows)
    means.push_back(std::accumulate(row.begin(), row.end(), 0.0) / static_cast<double>(row.size()));
  return means;
}

/// The indices of the `count` largest sizes, the largest first.
std::vector<std::size_t> largest(const std::vector<double>& values, std::size_t count) {
  std::vector<std::size_t> order(values.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order,
                           [&](std::size_t a, std::size_t b) { return std::abs(values[a]) > std::abs(values[b]); });
  order.resize(std::min(count, order.size()));
  return order;
}

}  // namespace

std::pair<std::string, double> explain(const std::vector<std::string>& words, const LSTM& lstm, const Var& logits,
                                       const std::vector<std::string>& labels, const std::filesystem::path& folder) {
  const Matrix cells = rows_of(lstm.watched().values("c")), said = rows_of(Tensor(softmax(logits).value()));
  const std::vector<double> input = means_of(rows_of(lstm.watched().values("i"))),
                            forget = means_of(rows_of(lstm.watched().values("f"))),
                            output = means_of(rows_of(lstm.watched().values("o")));
  const std::size_t units = cells.front().size();
  const std::size_t verdict = largest(said.back(), 1).front();

  fmt::print("\n{:<14}  input  forget  output   drift  {:<28}  so far\n", "word", "most moved units of the cell");
  std::vector<double> before(units, 0), moved(units, 0);
  for (std::size_t t = 0; t < words.size(); ++t) {
    std::vector<double> change(units);
    double squares = 0;
    for (std::size_t j = 0; j < units; ++j) {
      change[j] = cells[t][j] - before[j];
      squares += change[j] * change[j];
      moved[j] += std::abs(change[j]);
    }
    std::string most;
    for (std::size_t j : largest(change, 3)) most += fmt::format("{}:{:+.2f}  ", j, change[j]);
    const std::size_t now = largest(said[t], 1).front();
    fmt::print("{:<14}  {:5.2f}  {:6.2f}  {:6.2f}  {:6.2f}  {:<28}  {} {:.0f} %\n", words[t], input[t], forget[t],
               output[t], std::sqrt(squares / static_cast<double>(units)), most, labels[now], 100 * said[t][now]);
    before = cells[t];
  }

  if (std::ranges::any_of(words, [](const std::string& word) { return word.ends_with(" ?"); }))
    fmt::print("? marks a word that training did not have.\n");

  // All on one scale: gates from 0 to 1, what the cells show and the lean of the prediction from -1 to 1.
  HeatMap map{.title = "An LSTM reads, word by word",
              .x_label = "",
              .y_label = "",
              .scale_label = "from -1 to 1",
              .rows = {"lean to " + labels[verdict], "input gate", "forget gate", "output gate"},
              .columns = words,
              .values = {{}, input, forget, output},
              .low = -1,
              .high = 1};
  for (const auto& p : said) map.values.front().push_back(2 * p[verdict] - 1);
  for (std::size_t j : largest(moved, 6)) {
    map.rows.push_back(fmt::format("tanh of cell {}", j));
    map.values.emplace_back();
    for (const auto& c : cells) map.values.back().push_back(std::tanh(c[j]));
  }
  draw(map, folder / "explain.csv", folder / "explain.svg");
  return {labels[verdict], said.back()[verdict]};
}

}  // namespace unroll::examples
