#include <examples/recognise/decode.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <map>

namespace unroll::examples::recognise {

namespace {

constexpr double never = -std::numeric_limits<double>::infinity();

double log_add(double a, double b) {
  if (a < b) std::swap(a, b);
  return b == never ? a : a + std::log1p(std::exp(b - a));
}

/// The paths that read as the same labels: the logarithms of the probability of those that end with a blank, and of
/// those that end with the last label.
struct Paths {
  double with_blank = never, with_label = never;
  double all() const { return log_add(with_blank, with_label); }
};

}  // namespace

Labels best_path(const Posteriors& p) {
  Labels labels;
  std::int32_t before = blank;
  for (Index t = 0; t < p.length(); ++t) {
    const auto row = p.values.begin() + t * p.classes;
    const auto label = static_cast<std::int32_t>(std::max_element(row, row + p.classes) - row);
    if (label != blank && label != before) labels.push_back(label);
    before = label;
  }
  return labels;
}

std::vector<Transcription> prefix_beam_search(const Posteriors& p, Index width) {
  std::vector<std::pair<Labels, Paths>> beam = {{{}, {.with_blank = 0}}};
  for (Index t = 0; t < p.length(); ++t) {
    std::map<Labels, Paths> next;
    for (const auto& [labels, paths] : beam) {
      Paths& same = next[labels];
      same.with_blank = log_add(same.with_blank, paths.all() + p.at(t, blank));
      if (!labels.empty()) same.with_label = log_add(same.with_label, paths.with_label + p.at(t, labels.back()));
      Labels longer = labels;
      longer.push_back(blank);
      for (std::int32_t label = blank + 1; label < p.classes; ++label) {
        // Without a blank between them, two equal labels would be one.
        const bool again = !labels.empty() && labels.back() == label;
        longer.back() = label;
        Paths& more = next[longer];
        more.with_label = log_add(more.with_label, (again ? paths.with_blank : paths.all()) + p.at(t, label));
      }
    }
    beam.assign(next.begin(), next.end());
    const Index kept = std::min(width, std::ssize(beam));
    std::ranges::partial_sort(beam, beam.begin() + kept, std::greater<>(),
                              [](const auto& x) { return x.second.all(); });
    beam.resize(static_cast<std::size_t>(kept));
  }
  std::vector<Transcription> found;
  for (auto& [labels, paths] : beam) found.push_back({std::move(labels), paths.all()});
  return found;
}

Alignment align(const Labels& said, const Labels& heard) {
  // distance[i][j]: between what was said from i on and what was heard from j on.
  const std::size_t rows = said.size(), columns = heard.size();
  std::vector<std::vector<std::size_t>> distance(rows + 1, std::vector<std::size_t>(columns + 1));
  for (std::size_t i = rows + 1; i-- > 0;)
    for (std::size_t j = columns + 1; j-- > 0;) {
      std::size_t& least = distance[i][j];
      least = rows - i + columns - j;
      if (i < rows && j < columns) least = distance[i + 1][j + 1] + (said[i] == heard[j] ? 0 : 1);
      if (i < rows) least = std::min(least, distance[i + 1][j] + 1);
      if (j < columns) least = std::min(least, distance[i][j + 1] + 1);
    }
  Alignment alignment;
  for (std::size_t i = 0, j = 0; i < rows || j < columns;) {
    const bool both =
        i < rows && j < columns && distance[i][j] == distance[i + 1][j + 1] + (said[i] == heard[j] ? 0 : 1);
    const bool missed = !both && i < rows && distance[i][j] == distance[i + 1][j] + 1;
    alignment.emplace_back(both || missed ? said[i] : blank, missed ? blank : heard[j]);
    i += both || missed ? 1 : 0;
    j += missed ? 0 : 1;
  }
  return alignment;
}

Index errors(const Alignment& alignment) {
  return std::ranges::count_if(alignment, [](const auto& pair) { return pair.first != pair.second; });
}

}  // namespace unroll::examples::recognise
