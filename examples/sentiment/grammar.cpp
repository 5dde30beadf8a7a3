#include <examples/sentiment/reviews.h>

#include <fmt/format.h>

#include <set>

namespace unroll::examples {

namespace {

using Words = std::vector<std::string_view>;

const std::array<Words, 2> adjectives = {Words{"boring", "bad", "dull", "awful", "tedious", "clumsy", "silly",
                                               "predictable", "dreadful", "weak", "ugly", "annoying"},
                                         Words{"great", "good", "enjoyable", "brilliant", "charming", "funny",
                                               "gripping", "clever", "wonderful", "delightful", "moving", "superb"}};
const Words nouns = {"film",  "plot", "story",   "book",  "series",    "show",
                     "music", "play", "concert", "novel", "programme", "musical"};
const Words degrees = {"quite", "very", "really", "rather", "truly", "so"};
const Words negations = {"not", "not at all", "never", "hardly", "by no means", "in no way"};

// What says nothing, before and after what does: the longer, the more there is to remember.
const Words openings = {"", "last week", "to be honest ,", "my sister says that", "as far as i can tell ,"};
const Words closings = {"and we saw it with friends from work on a rainy evening in november",
                        "which is what my neighbour had told me over lunch the other day",
                        "and the tickets had been sold out for weeks before we went there",
                        "as you can also read in the paper that comes out here on mondays"};

// {n} is the noun, {x} and {y} are adjectives of opposite polarity, {d} a degree, {no} a negation.
const Words plain_frames = {"the {n} was {d} {x}", "i found the {n} {d} {x}", "how {x} this {n} was",
                            "{d} {x} is what i would call the {n}", "the {n} they gave us was {x}"};
const Words negation_frames = {"the {n} was {no} {x}", "i found the {n} {no} {x}", "the {n} was {no} {x} and {d} {y}",
                               "the {n} was {d} {y} and {no} {x}", "i found the {n} {d} {y} , {no} {x}"};
const Words contrast_starts = {"started off {}", "was {} at first", "looked {} to begin with",
                               "was {} in the opening minutes"};
const Words contrast_ends = {"by the end it became {}", "it turned out {}", "it was {} in the long run",
                             "i left with the feeling that it was {}"};

// {start} is what the speaker concedes, {end} the verdict.
const Words contrast_joins = {"the {n} {start} but {end}", "although the {n} {start} , {end}",
                              "{end} although the {n} {start}"};

/// A sentence and the one to go with it, of the opposite label, with which of their parts are for the test only.
struct Pair {
  std::array<Review, 2> reviews;
  bool test_fragments, test_words;
};

template <class T>
std::size_t choose(const T& from, Generator& rng) {
  return static_cast<std::size_t>(rng.below(std::ssize(from)));
}

/// Every fourth of all combinations of two.
bool for_test(std::size_t a, std::size_t b) { return (a + b) % 4 == 0; }

/// Up to three closings in a row.
std::string draw_closing(Generator& rng) {
  std::string text;
  const std::size_t first = choose(closings, rng), count = choose(closings, rng);
  for (std::size_t i = 0; i < count; ++i) text += fmt::format(" {}", closings[(first + i) % closings.size()]);
  return text;
}

Review finished(std::string_view opening, std::string_view middle, std::string_view closing, bool positive) {
  return {fmt::format("{}{}{}{}", opening, opening.empty() ? "" : " ", middle, closing),
          positive ? "positive" : "negative"};
}

/// One opinion, or two of which {y}'s agrees with the other's negation.
Pair draw_simple(const Words& frames, bool negated, Generator& rng) {
  const std::size_t opening = choose(openings, rng), frame = choose(frames, rng), noun = choose(nouns, rng),
                    degree = choose(degrees, rng), negation = choose(negations, rng);
  const bool two = frames[frame].find("{y}") != std::string_view::npos;
  const std::size_t good = choose(adjectives[1], rng), bad = two ? choose(adjectives[0], rng) : good;
  const std::string closing = draw_closing(rng);
  Pair pair;
  for (const bool praise : {false, true}) {
    const std::string_view x = praise ? adjectives[1][good] : adjectives[0][bad],
                           y = praise ? adjectives[0][bad] : adjectives[1][good];
    const std::string middle =
        fmt::format(fmt::runtime(frames[frame]), fmt::arg("n", nouns[noun]), fmt::arg("d", degrees[degree]),
                    fmt::arg("no", negations[negation]), fmt::arg("x", x), fmt::arg("y", y));
    pair.reviews[praise ? 1 : 0] = finished(openings[opening], middle, closing, praise != negated);
  }
  pair.test_fragments = for_test(opening, frame);
  pair.test_words = two ? for_test(good, bad) : for_test(noun, good);
  return pair;
}

/// Two opinions of opposite polarity, each perhaps by way of a negation, one conceded and the other the verdict.
Pair draw_contrast(Generator& rng) {
  const std::size_t opening = choose(openings, rng), start = choose(contrast_starts, rng),
                    end = choose(contrast_ends, rng), join = choose(contrast_joins, rng), noun = choose(nouns, rng);
  std::array<std::string, 2> opinions;
  std::array<std::size_t, 2> chosen{};
  for (const std::size_t polarity : {0, 1}) {
    const bool negated = rng.below(4) == 0;
    const Words& from = adjectives[negated ? 1 - polarity : polarity];
    chosen[polarity] = choose(from, rng);
    const Words& before = negated ? negations : degrees;
    opinions[polarity] = fmt::format("{} {}", before[choose(before, rng)], from[chosen[polarity]]);
  }
  const std::string closing = draw_closing(rng);
  Pair pair;
  for (const std::size_t verdict : {0, 1}) {
    const std::string conceded = fmt::format(fmt::runtime(contrast_starts[start]), opinions[1 - verdict]),
                      meant = fmt::format(fmt::runtime(contrast_ends[end]), opinions[verdict]);
    const std::string middle = fmt::format(fmt::runtime(contrast_joins[join]), fmt::arg("n", nouns[noun]),
                                           fmt::arg("start", conceded), fmt::arg("end", meant));
    pair.reviews[verdict] = finished(openings[opening], middle, closing, verdict == 1);
  }
  pair.test_fragments = for_test(start, end);
  pair.test_words = for_test(chosen[0], chosen[1]);
  return pair;
}

}  // namespace

Reviews write_reviews(Index training, Index validation, Index test, Generator rng) {
  Reviews reviews;
  std::set<std::string> written;
  Index kind = 0;
  auto write = [&](std::vector<Review>& part, Index count, bool held_out) {
    while (std::ssize(part) < count) {
      const Pair pair = kind % 3 == 0   ? draw_simple(plain_frames, false, rng)
                        : kind % 3 == 1 ? draw_simple(negation_frames, true, rng)
                                        : draw_contrast(rng);
      const bool fits = held_out ? pair.test_fragments && pair.test_words : !pair.test_fragments && !pair.test_words;
      if (!fits || written.contains(pair.reviews[0].text) || written.contains(pair.reviews[1].text)) continue;
      for (const Review& review : pair.reviews) {
        written.insert(review.text);
        part.push_back(review);
      }
      ++kind;
    }
  };
  write(reviews.training, training, false);
  write(reviews.validation, validation, false);
  write(reviews.test, test, true);
  return reviews;
}

}  // namespace unroll::examples
