#pragma once

// Phrases as a model reads them: words, single digits and marks.

#include <autograd/error.h>
#include <autograd/indices.h>
#include <examples/translate/phrases.h>

#include <algorithm>
#include <cctype>

namespace unroll::examples::translate {

using Ids = std::vector<std::int32_t>;

/// "March 23rd, 1987" -> march 2 3 rd , 1 9 8 7. Spaces only part what they stand between.
inline std::vector<std::string> tokens_of(const std::string& text) {
  std::vector<std::string> tokens;
  bool in_word = false;
  for (char byte : text) {
    const auto c = static_cast<unsigned char>(byte);
    const bool letter = std::isalpha(c) != 0 || c >= 0x80;
    if (letter && in_word)
      tokens.back() += static_cast<char>(std::tolower(c));
    else if (std::isspace(c) == 0)
      tokens.emplace_back(1, static_cast<char>(std::tolower(c)));
    in_word = letter;
  }
  return tokens;
}

/// A number for each token that the rules of phrases.h can give. An id is a place in the list.
class Words {
 public:
  Words() {
    for (const auto& list : {std::span<const char* const>(small_numbers), {tens}, {ordinals}, {months}, {weekdays}})
      for (const std::string word : list) {
        words_.push_back(word);
        if (list.data() == months.data()) words_.push_back(word.substr(0, 3));
      }
    for (const char* word : {"hundred", "thousand", "million", "and", "oh", "the", "of", "in", "year", "on",
                             "thirtieth", "st", "nd", "rd", "th", ",", ".", "-"})
      words_.emplace_back(word);
    for (char digit = '0'; digit <= '9'; ++digit) words_.emplace_back(1, digit);
    std::ranges::sort(words_);
    words_.erase(std::unique(words_.begin(), words_.end()), words_.end());
  }
  Index size() const { return std::ssize(words_); }
  /// Throws Error, naming the word, when there is one that no phrase has.
  Ids encode(const std::string& text) const {
    Ids ids;
    for (const std::string& token : tokens_of(text)) {
      const auto at = std::ranges::lower_bound(words_, token);
      if (at == words_.end() || *at != token)
        fail("\"{}\" occurs in no phrase that the model has read; write a number below a billion or a date in words",
             token);
      ids.push_back(static_cast<std::int32_t>(at - words_.begin()));
    }
    if (ids.empty()) fail("there is nothing to translate in \"{}\"", text);
    return ids;
  }

 private:
  std::vector<std::string> words_;
};

/// What a model writes, a character at a time; `end` ends it, and is also what it reads first.
namespace answers {
inline constexpr std::string_view characters = "0123456789-";
inline constexpr std::int32_t end = 11, count = 12;
inline constexpr Index longest = 11;  ///< of a date, with its end
}  // namespace answers

/// Phrases side by side, steps first, padded at their ends.
struct Batch {
  static constexpr std::int32_t padding = -100;  ///< that the loss passes over
  Ids inputs, targets;
  std::vector<Index> lengths;
  Index steps, answer_steps;

  explicit Batch(const std::vector<Phrase>& phrases, const Words& words) {
    std::vector<Ids> all;
    std::size_t answer = 0;
    for (const Phrase& phrase : phrases) {
      lengths.push_back(std::ssize(all.emplace_back(words.encode(phrase.text))));
      answer = std::max(answer, phrase.answer.size() + 1);
    }
    steps = std::ranges::max(lengths);
    answer_steps = static_cast<Index>(answer);
    const std::size_t batch = phrases.size();
    inputs.assign(static_cast<std::size_t>(steps) * batch, 0);
    targets.assign(answer * batch, padding);
    for (std::size_t n = 0; n < batch; ++n) {
      for (std::size_t t = 0; t < all[n].size(); ++t) inputs[t * batch + n] = all[n][t];
      for (std::size_t t = 0; t < phrases[n].answer.size(); ++t)
        targets[t * batch + n] = static_cast<std::int32_t>(answers::characters.find(phrases[n].answer[t]));
      targets[phrases[n].answer.size() * batch + n] = answers::end;
    }
  }
  Index size() const { return std::ssize(lengths); }
  Indices read() const { return {inputs, {steps, size()}}; }
  Indices write() const { return {targets, {answer_steps, size()}}; }
};

inline std::string text_of(const Ids& answer) {
  std::string text;
  for (std::int32_t id : answer) text += answers::characters[static_cast<std::size_t>(id)];
  return text;
}

}  // namespace unroll::examples::translate
