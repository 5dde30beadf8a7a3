#pragma once

#include <autograd/random.h>

#include <fmt/format.h>

#include <array>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace unroll::examples {

/// Two headlines of the same words in another order: the first is about finance, the second about wildlife.
using Headlines = std::array<std::string, 2>;

/// Pairs to learn from and pairs to be judged by.
struct HeadlineParts {
  std::vector<Headlines> training, test;
};

/// Writes different pairs of headlines, in each of which what changes places is a thing of the market and an animal:
///
///     market falls into bear territory      finance
///     bear falls into market territory      wildlife
///
/// What a headline is about is its subject, which is the first noun in some frames and the second in others. A quarter
/// of all pairs of nouns, and of all pairs of an opening and a frame, are for the test only, where both are new.
inline HeadlineParts write_headlines(std::size_t training, std::size_t test, Generator rng) {
  using Words = std::vector<std::string_view>;
  static const Words markets = {"market", "stock",    "bank",  "bond",   "dollar", "fund",
                                "share",  "currency", "index", "trader", "broker", "investor"},
                     animals = {"bear", "bull",  "hawk", "dove",  "whale", "wolf",
                                "fox",  "tiger", "lion", "shark", "eagle", "stag"},
                     openings = {"", "report :", "against all expectations ,", "after a long and quiet night ,"},
                     closings = {"", "on monday", "as experts had warned", "for the third time this year"},
                     // {s} is the subject
      frames = {"{s} falls into {o} territory",    "{s} fears another {o} attack", "{s} escapes from the {o} trap",
                "{s} runs ahead of the {o} crowd", "into {o} territory falls {s}", "another {o} attack frightens {s}",
                "the {o} trap closes on {s}",      "no {o} crowd can stop {s}"};
  auto choose = [&](const Words& from) { return static_cast<std::size_t>(rng.below(std::ssize(from))); };
  std::set<std::string> written;
  auto write = [&](std::size_t count, bool held_out) {
    std::vector<Headlines> pairs;
    while (pairs.size() < count) {
      const std::size_t market = choose(markets), animal = choose(animals), opening = choose(openings),
                        frame = choose(frames), closing = choose(closings);
      const bool new_nouns = (market + animal) % 4 == 0, new_fragments = (opening + frame) % 4 == 0;
      if (new_nouns != held_out || new_fragments != held_out) continue;
      auto headline = [&](std::string_view subject, std::string_view other) {
        const auto middle = fmt::format(fmt::runtime(frames[frame]), fmt::arg("s", subject), fmt::arg("o", other));
        return fmt::format("{}{}{}{}{}", openings[opening], openings[opening].empty() ? "" : " ", middle,
                           closings[closing].empty() ? "" : " ", closings[closing]);
      };
      const Headlines pair = {headline(markets[market], animals[animal]), headline(animals[animal], markets[market])};
      if (written.insert(pair[0]).second) pairs.push_back(pair);
    }
    return pairs;
  };
  HeadlineParts parts;
  parts.training = write(training, false);
  parts.test = write(test, true);
  return parts;
}

}  // namespace unroll::examples
