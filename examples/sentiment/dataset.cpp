#include <autograd/file.h>
#include <examples/common/plot.h>
#include <examples/common/text.h>
#include <examples/sentiment/dataset.h>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstdlib>
#include <iterator>
#include <sstream>

namespace unroll::examples {

namespace {

std::vector<std::string> words_of(const std::vector<Review>& reviews) {
  std::vector<std::string> all;
  for (const Review& review : reviews) std::ranges::copy(split_words(review.text), std::back_inserter(all));
  return all;
}

std::vector<std::string> labels_of(const std::vector<Review>& reviews) {
  std::vector<std::string> labels;
  for (const Review& review : reviews) labels.push_back(review.label);
  std::ranges::sort(labels);
  labels.erase(std::unique(labels.begin(), labels.end()), labels.end());
  return labels;
}

std::string kind_name(Kind kind) { return std::string(kind_names[static_cast<std::size_t>(kind)]); }

}  // namespace

Dataset::Dataset(const Reviews& reviews, Index least)
    : labels(labels_of(reviews.training)), vocabulary(words_of(reviews.training), {.least = least}) {
  std::string all;
  auto encode = [&](const std::vector<Review>& from, std::vector<Sentence>& to) {
    for (const Review& review : from) {
      const auto label = std::ranges::find(labels, review.label) - labels.begin();
      to.push_back({vocabulary.encode(split_words(review.text)), static_cast<std::int32_t>(label)});
      all += review.label + "\t" + review.text + "\n";
    }
    all += "\n";
  };
  encode(reviews.training, training);
  encode(reviews.validation, validation);
  encode(reviews.test, test);
  for (const Review& review : reviews.test) kinds.push_back(kind_of(split_words(review.text)));
  fingerprint = examples::fingerprint(all);
}

void Accuracies::add(const std::string& model, const std::vector<bool>& right) {
  std::map<std::string, double> shares;
  for (const std::string& column : columns()) {
    double good = 0, count = 0;
    for (std::size_t i = 0; i < right.size(); ++i) {
      if (column != "all" && column != kind_name(kinds_[i])) continue;
      good += right[i] ? 1 : 0;
      ++count;
    }
    shares[column] = good / count;
  }
  rows_.emplace_back(model, shares);
}

std::vector<std::string> Accuracies::columns() const {
  std::vector<std::string> names = {"all"};
  for (Kind kind : {Kind::plain, Kind::negation, Kind::contrast})
    if (std::ranges::find(kinds_, kind) != kinds_.end()) names.push_back(kind_name(kind));
  return names;
}

void Accuracies::print() const {
  fmt::print("\nAccuracy on {} held-out sentences, in per cent\n\n{:<20}", kinds_.size(), "");
  for (const std::string& column : columns()) fmt::print("{:>10}", column);
  for (const auto& [model, shares] : rows_) {
    fmt::print("\n{:<20}", model);
    for (const std::string& column : columns()) fmt::print("{:>10.1f}", 100 * shares.at(column));
  }
  fmt::print("\n");
}

void Accuracies::draw(const std::filesystem::path& folder, double chance) const {
  HeatMap map{.title = fmt::format("Accuracy on {} held-out sentences", kinds_.size()),
              .x_label = "kind of sentence",
              .y_label = "",
              .scale_label = "share judged right",
              .rows = {},
              .columns = columns(),
              .values = {},
              .low = chance,
              .high = 1};
  for (const auto& [model, shares] : rows_) {
    map.rows.push_back(model);
    map.values.emplace_back();
    for (const std::string& column : map.columns) map.values.back().push_back(shares.at(column));
  }
  examples::draw(map, folder / "accuracy.csv", folder / "accuracy.svg");
}

void draw_learning(const std::vector<std::string>& models, const std::filesystem::path& folder) {
  std::map<long, std::vector<std::string>> losses;  // by step, a cell for each model
  for (std::size_t m = 0; m < models.size(); ++m) {
    std::istringstream lines(read_text({folder / models[m] / "metrics.csv"}));
    for (std::string line; std::getline(lines, line);) {
      const std::string loss = line.substr(line.rfind(',') + 1);  // empty where nothing was evaluated
      const long step = std::strtol(line.c_str(), nullptr, 10);
      if (step == 0 || loss.empty()) continue;
      losses[step].resize(models.size());
      losses[step][m] = loss;
    }
  }
  std::string table = fmt::format("step,{}\n", fmt::join(models, ","));
  for (const auto& [step, cells] : losses) table += fmt::format("{},{}\n", step, fmt::join(cells, ","));
  write_file_atomically(folder / "learning.csv", table);
  Plot plot{.title = "Loss on validation sentences",
            .x_label = "training step",
            .y_label = "loss (nats per sentence)",
            .curves = {},
            .log_y = true};
  for (std::size_t m = 0; m < models.size(); ++m) plot.curves.push_back({static_cast<int>(m) + 2, models[m]});
  examples::draw(plot, folder / "learning.csv", folder / "learning.svg");
}

}  // namespace unroll::examples
