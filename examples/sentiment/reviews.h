#pragma once

// Reviews from a file, or from a grammar.

#include <autograd/random.h>

#include <array>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace unroll::examples {

/// A text and the name of its class.
struct Review {
  std::string text, label;
};

/// What a sentence asks of its reader. A sentence that has a contrast may have negations too.
enum class Kind { plain, negation, contrast };
inline constexpr std::array<std::string_view, 3> kind_names{"plain", "negation", "contrast"};
/// By words that say so in English: "not", "never", "isn't"; "but", "although".
Kind kind_of(const std::vector<std::string>& words);

/// Reviews for three purposes; no two parts have a sentence in common.
struct Reviews {
  std::vector<Review> training,  ///< to learn from
      validation,                ///< to choose the best weights by
      test;                      ///< to judge by
};

/// Reviews written by a grammar, as many of each kind. Those with two opinions come in pairs of the same words in
/// another order and of opposite labels, so that a bag of words can but guess:
///
///     the film was not at all boring and quite enjoyable                   positive
///     the film was not at all enjoyable and quite boring                   negative
///     the plot started off great but by the end it became boring           negative
///     the plot started off boring but by the end it became great           positive
///
/// A sentence is put together from fragments ("the plot started off ...", "by the end it became ...") and words to fill
/// them. A quarter of all pairs of fragments, and of all pairs of words (of two opinions the adjectives; of one the
/// noun and the adjective), are for the test only: each of its sentences has both a pair of fragments and a pair of
/// words that no such sentence of the other parts has, while each of them alone occurs in training.
Reviews write_reviews(Index training, Index validation, Index test, Generator rng);

/// Reads lines "label, tab, text" in UTF-8. A tenth of all different sentences, chosen by what they say, are for
/// validation, and a tenth for the test. Throws Error, with the number of the line, when one is not that, when there
/// are fewer than two labels, or when one of them does not occur in training.
Reviews read_reviews(const std::filesystem::path& path);

/// Writes training.tsv, validation.tsv and test.tsv, in lines such as these. Throws Error.
void save(const Reviews& reviews, const std::filesystem::path& folder);

}  // namespace unroll::examples
