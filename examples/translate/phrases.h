#pragma once

// What translate learns from: numbers and dates as they are said, and as they are written in digits. All made by rule.

#include <autograd/random.h>

#include <fmt/format.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <set>
#include <string>
#include <vector>

namespace unroll::examples::translate {

/// A phrase and its translation: "three hundred and seven thousand and twelve", "307012".
struct Phrase {
  std::string text, answer;
};

inline constexpr std::array small_numbers = {
    "zero", "one",    "two",    "three",    "four",     "five",    "six",     "seven",     "eight",    "nine",
    "ten",  "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"};
inline constexpr std::array tens = {"",      "",      "twenty",  "thirty", "forty",
                                    "fifty", "sixty", "seventy", "eighty", "ninety"};
inline constexpr std::array ordinals = {
    "",           "first",     "second",    "third",       "fourth",     "fifth",      "sixth",
    "seventh",    "eighth",    "ninth",     "tenth",       "eleventh",   "twelfth",    "thirteenth",
    "fourteenth", "fifteenth", "sixteenth", "seventeenth", "eighteenth", "nineteenth", "twentieth"};
inline constexpr std::array months = {"january", "february", "march",     "april",   "may",      "june",
                                      "july",    "august",   "september", "october", "november", "december"};
inline constexpr std::array weekdays = {"sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"};

/// n in [0, 10^9) in words: with the British "and" before what is below a hundred, or without.
inline std::string in_words(std::int64_t n, bool with_and) {
  if (n < 20) return small_numbers[static_cast<std::size_t>(n)];
  if (n < 100) {
    const char* ten = tens[static_cast<std::size_t>(n / 10)];
    return n % 10 == 0 ? ten : fmt::format("{}-{}", ten, in_words(n % 10, false));
  }
  for (const auto& [size, name] : {std::pair{1'000'000, " million"}, {1000, " thousand"}, {100, " hundred"}})
    if (n >= size) {
      const std::int64_t rest = n % size;
      const std::string begin = in_words(n / size, with_and) + name;
      if (rest == 0) return begin;
      return fmt::format("{}{}{}", begin, with_and && rest < 100 ? " and " : " ", in_words(rest, with_and));
    }
  return {};
}

/// A day of a month: "twenty-third", "23rd" or "23".
inline std::string day_in_words(unsigned day) {
  if (day <= 20) return ordinals[day];
  return day == 30 ? "thirtieth" : fmt::format("{}-{}", tens[day / 10], ordinals[day % 10]);
}
inline std::string day_with_ending(unsigned day) {
  const bool teen = day / 10 == 1;
  return fmt::format("{}{}", day,
                     teen || day % 10 > 3 || day % 10 == 0 ? "th" : std::array{"", "st", "nd", "rd"}[day % 10]);
}

/// A year from 1100 to 2099 as it is said: "nineteen eighty-seven", "eighteen oh five", "two thousand and nine".
inline std::string year_in_words(int year) {
  if (year / 10 == 200) return in_words(year, true);
  const std::string century = in_words(year / 100, false), in_it = in_words(year % 100, false);
  if (year % 100 == 0) return century + " hundred";
  return fmt::format("{}{}{}", century, year % 100 < 10 ? " oh " : " ", in_it);
}

/// A number of up to nine digits, each length as often.
inline Phrase draw_number(Generator& rng) {
  std::int64_t most = 10;
  for (Index digits = rng.below(9); digits > 0; --digits) most *= 10;
  const std::int64_t n = rng.below(most);
  return {in_words(n, rng.below(2) == 0), fmt::format("{}", n)};
}

/// A day of the years 1100 to 2099, in one of the ways that people write it.
inline Phrase draw_date(Generator& rng) {
  using namespace std::chrono;
  const sys_days first = year(1100) / 1 / 1, after = year(2100) / 1 / 1;
  const sys_days at = first + days(rng.below((after - first).count()));
  const year_month_day date(at);
  const unsigned day = unsigned(date.day());
  const std::string name = months[unsigned(date.month()) - 1], short_name = name.substr(0, 3);
  const std::string year = rng.below(2) == 0 ? fmt::format("{}", int(date.year())) : year_in_words(int(date.year()));
  std::string text;
  switch (rng.below(6)) {
    case 0:
      text = fmt::format("the {} of {}, {}", day_in_words(day), name, year);
      break;
    case 1:
      text = fmt::format("{} {}, {}", name, day, year);
      break;
    case 2:
      text = fmt::format("{} {} {}", day_with_ending(day), name, year);
      break;
    case 3:
      text = fmt::format("{} {}. {}", day, short_name, year);
      break;
    case 4:
      text = fmt::format("{}, {} the {}, {}", weekdays[weekday(at).c_encoding()], name, day_in_words(day), year);
      break;
    default:
      text = fmt::format("in the year {}, on {} {}", year, name, day_with_ending(day));
  }
  return {text, fmt::format("{:04}-{:02}-{:02}", int(date.year()), unsigned(date.month()), day)};
}

/// Which part an answer belongs to, whatever the phrase: a tenth is to choose by, a tenth to be judged by, and training
/// sees neither in any of their ways.
enum class Part { train, validation, test };
inline Part part_of(const std::string& answer) {
  std::uint64_t hash = 14695981039346656037u;  // FNV-1a
  for (unsigned char c : answer) hash = (hash ^ c) * 1099511628211u;
  const std::uint64_t tenth = (hash ^ hash >> 32) % 10;
  return tenth == 0 ? Part::validation : tenth == 1 ? Part::test : Part::train;
}

/// A phrase of a part: a number or a date, each as often.
inline Phrase draw_phrase(Part part, Generator& rng) {
  for (;;) {
    Phrase phrase = rng.below(2) == 0 ? draw_number(rng) : draw_date(rng);
    if (part_of(phrase.answer) == part) return phrase;
  }
}

/// Phrases of a part, no answer twice.
inline std::vector<Phrase> draw_phrases(Part part, Index count, Generator rng) {
  std::vector<Phrase> phrases;
  for (std::set<std::string> seen; std::ssize(phrases) < count;)
    if (Phrase phrase = draw_phrase(part, rng); seen.insert(phrase.answer).second) phrases.push_back(std::move(phrase));
  return phrases;
}

}  // namespace unroll::examples::translate
