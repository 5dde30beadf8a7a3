#pragma once

// Text as a model of words sees it: words in lower case, and the numbers that stand for them.

#include <autograd/shape.h>

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace unroll::examples {

/// The words of a text in lower case: runs of letters, digits and apostrophes. Every other character that can be seen
/// is a word of its own: "Not bad, isn't it?" gives not bad , isn't it ? -- Only the letters A to Z are made lower
/// case, and every character beyond ASCII counts as a letter, but for dashes, curly quotes and the like (U+2000 to
/// U+206F). Throws Error when the text is not UTF-8.
std::vector<std::string> split_words(std::string_view text);

/// A number for every word of a text that occurs often enough: the most frequent first, equally frequent ones by the
/// alphabet. Number 0, "<unk>", stands for all others.
class WordVocabulary {
 public:
  static constexpr std::int32_t unknown = 0;
  /// Words that occur at least `least` times, and of those the `most` most frequent; 0: all.
  struct CutOff {
    Index least = 1, most = 0;
  };
  WordVocabulary(const std::vector<std::string>& words, CutOff cut_off);

  /// With <unk>.
  Index size() const { return static_cast<Index>(words_.size()); }
  const std::string& word(std::int32_t number) const { return words_[static_cast<std::size_t>(number)]; }
  std::vector<std::int32_t> encode(const std::vector<std::string>& words) const;

  /// "[\"<unk>\",\"the\"]": the words as JSON, for a weight file's metadata, and back. Throws Error when it is not
  /// that.
  std::string to_json() const;
  static WordVocabulary from_json(std::string_view json);

 private:
  explicit WordVocabulary(std::vector<std::string> words);

  std::vector<std::string> words_;
  std::map<std::string, std::int32_t, std::less<>> numbers_;
};

}  // namespace unroll::examples
