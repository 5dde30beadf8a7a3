#include <autograd/error.h>
#include <examples/common/words.h>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <utility>

namespace unroll::examples {

namespace {

bool is_utf8(std::string_view text) {
  try {
    return !nlohmann::json(text).dump().empty();
  } catch (const nlohmann::json::type_error&) {
    return false;
  }
}

bool is_space(char c) { return static_cast<unsigned char>(c) <= ' ' || c == '\x7f'; }
bool is_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '\'' ||
         static_cast<unsigned char>(c) >= 0x80;
}
char to_lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

}  // namespace

std::vector<std::string> split_words(std::string_view text) {
  if (!is_utf8(text)) fail("a text is not UTF-8; convert it (iconv -f latin1 -t utf-8, if that is what it is)");
  std::vector<std::string> words;
  std::string word;
  auto finish = [&] {
    if (!word.empty()) words.push_back(std::exchange(word, {}));
  };
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text.substr(i).starts_with("\xe2\x80\x99")) {  // the curly apostrophe
      word += '\'';
      i += 2;
    } else if (text.substr(i).starts_with("\xe2\x80") || text.substr(i).starts_with("\xe2\x81")) {
      finish();
      words.emplace_back(text.substr(i, 3));
      i += 2;
    } else if (is_letter(text[i])) {
      word += to_lower(text[i]);
    } else {
      finish();
      if (!is_space(text[i])) words.emplace_back(1, text[i]);
    }
  }
  finish();
  return words;
}

WordVocabulary::WordVocabulary(std::vector<std::string> words) : words_(std::move(words)) {
  for (std::size_t i = 0; i < words_.size(); ++i) numbers_.emplace(words_[i], static_cast<std::int32_t>(i));
}

WordVocabulary::WordVocabulary(const std::vector<std::string>& words, CutOff cut_off) : WordVocabulary({"<unk>"}) {
  std::map<std::string, Index> counts;
  for (const std::string& word : words) ++counts[word];
  std::vector<std::pair<Index, std::string>> ranked;
  for (const auto& [word, count] : counts)
    if (count >= cut_off.least) ranked.emplace_back(-count, word);
  std::ranges::sort(ranked);
  if (cut_off.most > 0 && std::ssize(ranked) > cut_off.most) ranked.resize(static_cast<std::size_t>(cut_off.most));
  for (const auto& [count, word] : ranked)
    if (numbers_.emplace(word, static_cast<std::int32_t>(words_.size())).second) words_.push_back(word);
}

std::vector<std::int32_t> WordVocabulary::encode(const std::vector<std::string>& words) const {
  std::vector<std::int32_t> numbers;
  numbers.reserve(words.size());
  for (const std::string& word : words) {
    const auto found = numbers_.find(word);
    numbers.push_back(found == numbers_.end() ? unknown : found->second);
  }
  return numbers;
}

std::string WordVocabulary::to_json() const { return nlohmann::json(words_).dump(); }

WordVocabulary WordVocabulary::from_json(std::string_view text) {
  const nlohmann::json json = nlohmann::json::parse(text, nullptr, false);
  std::vector<std::string> words;
  if (json.is_array())
    for (const auto& word : json)
      if (word.is_string()) words.push_back(word.get<std::string>());
  WordVocabulary vocabulary(words);
  if (words.empty() || words.front() != "<unk>" || words.size() != json.size() ||
      vocabulary.numbers_.size() != words.size())
    fail("the vocabulary is damaged");
  return vocabulary;
}

}  // namespace unroll::examples
