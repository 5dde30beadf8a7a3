#include <examples/long_memory/tasks.h>

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <sstream>
#include <string_view>
#include <utility>

namespace unroll::examples {

namespace {

constexpr std::pair<const char*, const char*> homes[] = {
    {"india", "hindi"},    {"france", "french"},      {"japan", "japanese"},      {"poland", "polish"},
    {"turkey", "turkish"}, {"greece", "greek"},       {"italy", "italian"},       {"germany", "german"},
    {"russia", "russian"}, {"spain", "spanish"},      {"sweden", "swedish"},      {"norway", "norwegian"},
    {"denmark", "danish"}, {"finland", "finnish"},    {"hungary", "magyar"},      {"korea", "korean"},
    {"thailand", "thai"},  {"vietnam", "vietnamese"}, {"portugal", "portuguese"}, {"iceland", "icelandic"}};
constexpr Index countries = std::size(homes);

constexpr const char* phrases[] = {"then we moved to a small house near the river .",
                                   "my mother worked in a school and my father drove a bus .",
                                   "the winters were long but the summers were warm .",
                                   "every evening there was music in the street .",
                                   "my best friend came from * .",
                                   "later i learned to cook and to repair old clocks .",
                                   "once we saw a film about * .",
                                   "my brother plays the piano and reads the news .",
                                   "nobody in the village had a telephone at that time ."};

std::vector<std::string> words_of(const std::string& text) {
  std::istringstream in(text);
  std::vector<std::string> words;
  for (std::string word; in >> word;) words.push_back(word);
  return words;
}

/// All words that sentences are made of, each once; the countries come first, so their numbers are the languages'.
const std::vector<std::string>& vocabulary() {
  static const std::vector<std::string> all = [] {
    std::vector<std::string> found;
    auto add = [&](const std::string& text) {
      for (const std::string& word : words_of(text))
        if (word != "*" && std::ranges::find(found, word) == found.end()) found.push_back(word);
    };
    for (const auto& [country, language] : homes) add(country);
    add("i grew up in . i speak");
    for (const char* phrase : phrases) add(phrase);
    return found;
  }();
  return all;
}

struct Sentence {
  std::vector<std::string> words;
  Index home;
};

Sentence draw_sentence(Index gap, Generator& rng) {
  const Index home = rng.below(countries);
  Sentence sentence{words_of(std::string("i grew up in ") + homes[home].first + " ."), home};
  const std::size_t until = sentence.words.size() + static_cast<std::size_t>(gap);
  while (sentence.words.size() < until)
    for (const std::string& word : words_of(phrases[rng.below(std::size(phrases))]))
      sentence.words.push_back(word == "*" ? homes[rng.below(countries)].first : word);
  sentence.words.resize(until);
  sentence.words.insert(sentence.words.end(), {"i", "speak"});
  return sentence;
}

Episodes draw_sentences(Index gap, Index sequences, Generator& rng) {
  Episodes e{.sequences = sequences};
  for (Index n = 0; n < sequences; ++n) {
    const Sentence sentence = draw_sentence(gap, rng);
    e.tokens.resize(sentence.words.size() * static_cast<std::size_t>(sequences));
    for (std::size_t t = 0; t < sentence.words.size(); ++t) {
      const auto number = std::ranges::find(vocabulary(), sentence.words[t]) - vocabulary().begin();
      e.tokens[t * static_cast<std::size_t>(sequences) + static_cast<std::size_t>(n)] =
          static_cast<std::int32_t>(number);
    }
    e.classes.push_back(static_cast<std::int32_t>(sentence.home));
  }
  return e;
}

Episodes draw_adding(Index gap, Index sequences, Generator& rng) {
  Episodes e{.sequences = sequences, .numbers = Tensor({gap, sequences, 2}), .sums = Tensor({1, sequences, 1})};
  for (Index n = 0; n < sequences; ++n) {
    for (Index t = 0; t < gap; ++t) e.numbers.set({t, n, 0}, rng.uniform());
    const Index marks[] = {rng.below(gap / 2), gap / 2 + rng.below(gap - gap / 2)};
    for (Index t : marks) e.numbers.set({t, n, 1}, 1);
    e.sums.set({0, n, 0}, e.numbers.at({marks[0], n, 0}) + e.numbers.at({marks[1], n, 0}));
  }
  return e;
}

constexpr Index copied = 10;
constexpr std::int32_t symbols = 8, blank = 8, request = 9;

Episodes draw_copying(Index gap, Index sequences, Generator& rng) {
  const Index steps = gap + 2 * copied;
  Episodes e{.sequences = sequences, .answers = steps};
  e.tokens.assign(static_cast<std::size_t>(steps * sequences), blank);
  e.classes = e.tokens;
  for (Index n = 0; n < sequences; ++n) {
    auto at = [&](Index t) { return static_cast<std::size_t>(t * sequences + n); };
    for (Index i = 0; i < copied; ++i)
      e.tokens[at(i)] = e.classes[at(steps - copied + i)] = static_cast<std::int32_t>(rng.below(symbols));
    e.tokens[at(copied + gap - 1)] = request;
  }
  return e;
}

}  // namespace

Task adding_task() {
  // |sum - 1| < d has a probability of 1 - (1 - d)^2.
  return {.name = "adding",
          .numbers = 2,
          .shortest = 2,
          .draw = draw_adding,
          .loss_without_memory = [](Index) { return 1.0 / 6; },
          .success_without_memory = 1 - (1 - close_enough) * (1 - close_enough)};
}

Task copy_task() {
  return {.name = "copy",
          .tokens = request + 1,
          .outputs = blank + 1,
          .trivial = blank,
          .draw = draw_copying,
          .loss_without_memory = [](Index gap) { return copied * std::log(8.0) / static_cast<double>(gap + 20); },
          .success_without_memory = 1.0 / symbols};
}

Task sentence_task() {
  return {.name = "sentence",
          .tokens = static_cast<Index>(vocabulary().size()),
          .outputs = countries,
          .draw = draw_sentences,
          .loss_without_memory = [](Index) { return std::log(static_cast<double>(countries)); },
          .success_without_memory = 1.0 / countries};
}

std::string sentence_example(Index gap, Generator& rng) {
  const Sentence sentence = draw_sentence(gap, rng);
  return fmt::format("{} [{}]", fmt::join(sentence.words, " "), homes[sentence.home].second);
}

}  // namespace unroll::examples
