#pragma once

// How well numbers and dates are translated, as a table.

#include <examples/translate/phrases.h>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>

namespace unroll::examples::translate {

inline bool is_date(const Phrase& phrase) { return phrase.answer.find('-') != phrase.answer.npos; }

/// The phrase with the most letters, of dates or of numbers; null where there is none.
inline const Phrase* longest_of(const std::vector<Phrase>& phrases, bool dates) {
  const Phrase* longest = nullptr;
  for (const Phrase& phrase : phrases)
    if (is_date(phrase) == dates && (longest == nullptr || phrase.text.size() > longest->text.size()))
      longest = &phrase;
  return longest;
}

/// Prints how many answers are exactly right, of greedy search and of a beam search of some width, and up to five of
/// the latter that are not. Adds the shares to `result`.
inline void report(const std::vector<Phrase>& phrases, const std::vector<std::string>& greedy,
                   const std::vector<std::string>& beam, Index width, nlohmann::ordered_json& result) {
  fmt::print("Exactly right, of phrases whose answers training never saw:\n{:<10} {:>7} {:>9} {:>9}\n", "", "phrases",
             "greedy", fmt::format("beam {}", width));
  for (const bool dates : {false, true}) {
    double count = 0, greedy_right = 0, beam_right = 0;
    for (std::size_t n = 0; n < phrases.size(); ++n) {
      if (is_date(phrases[n]) != dates) continue;
      count += 1;
      greedy_right += greedy[n] == phrases[n].answer;
      beam_right += beam[n] == phrases[n].answer;
    }
    if (count == 0) continue;
    const char* kind = dates ? "dates" : "numbers";
    fmt::print("{:<10} {:>7} {:>7.1f} % {:>7.1f} %\n", kind, count, 100 * greedy_right / count,
               100 * beam_right / count);
    result[kind] = {{"greedy", greedy_right / count}, {"beam", beam_right / count}};
  }
  int shown = 0;
  for (std::size_t n = 0; n < phrases.size() && shown < 5; ++n) {
    if (beam[n] == phrases[n].answer) continue;
    if (++shown == 1) fmt::print("Mistakes of the beam search, for example:\n");
    fmt::print("  {}: {}, not {}\n", phrases[n].text, beam[n], phrases[n].answer);
  }
}

}  // namespace unroll::examples::translate
