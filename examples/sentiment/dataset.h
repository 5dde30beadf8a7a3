#pragma once

#include <examples/common/sentences.h>
#include <examples/sentiment/reviews.h>

#include <map>

namespace unroll::examples {

/// Reviews as numbers.
struct Dataset {
  /// `least`: see WordVocabulary, which only knows the words of the training.
  Dataset(const Reviews& reviews, Index least);

  std::vector<Sentence> training, validation, test;
  std::vector<Kind> kinds;  ///< of the test's sentences
  std::vector<std::string> labels;
  WordVocabulary vocabulary;
  std::string fingerprint;  ///< of all texts and labels
};

/// The shares of the test's sentences that models judged right: a table on standard output, and a picture.
class Accuracies {
 public:
  explicit Accuracies(const std::vector<Kind>& kinds) : kinds_(kinds) {}
  void add(const std::string& model, const std::vector<bool>& right);
  /// "all" and the kinds of sentences that there are.
  std::vector<std::string> columns() const;
  const std::vector<std::pair<std::string, std::map<std::string, double>>>& rows() const { return rows_; }
  void print() const;
  /// accuracy.csv and accuracy.svg; `chance` is white.
  void draw(const std::filesystem::path& folder, double chance) const;

 private:
  std::vector<Kind> kinds_;
  std::vector<std::pair<std::string, std::map<std::string, double>>> rows_;
};

/// Puts the validation losses of the models' metrics.csv side by side: learning.csv and learning.svg.
void draw_learning(const std::vector<std::string>& models, const std::filesystem::path& folder);

}  // namespace unroll::examples
