#pragma once

// Sentences of unequal lengths side by side, and the model that takes no notice of their order.

#include <autograd/activations.h>
#include <autograd/indices.h>
#include <autograd/random.h>
#include <autograd/reduce.h>
#include <autograd/tape.h>
#include <examples/common/words.h>
#include <layers/linear.h>

#include <algorithm>

namespace unroll::examples {

/// A sentence as numbers, and its class.
struct Sentence {
  std::vector<std::int32_t> words;
  std::int32_t label = 0;
};

/// Sentences side by side, shorter ones filled up to the longest.
struct SentenceBatch {
  std::vector<std::int32_t> words;  ///< [T, N]
  std::vector<Index> lengths;       ///< [N]
  std::vector<std::int32_t> labels;
  Index steps = 0;

  explicit SentenceBatch(std::span<const Sentence> sentences) {
    for (const Sentence& s : sentences) {
      lengths.push_back(static_cast<Index>(s.words.size()));
      labels.push_back(s.label);
      steps = std::max(steps, lengths.back());
    }
    words.resize(static_cast<std::size_t>(steps) * sentences.size(), WordVocabulary::unknown);
    for (std::size_t n = 0; n < sentences.size(); ++n)
      for (std::size_t t = 0; t < sentences[n].words.size(); ++t)
        words[t * sentences.size() + n] = sentences[n].words[t];
  }
  Index count() const { return static_cast<Index>(lengths.size()); }
  Indices numbers() const { return Indices(words, {steps, count()}); }
};

/// Draws `count` of the sentences. One word in fifty becomes <unk>, so that the model learns what to make of a word
/// that it does not know (Iyyer et al. 2015, "Deep unordered composition rivals syntactic methods", word dropout).
inline SentenceBatch draw_batch(std::span<const Sentence> sentences, Index count, Generator rng) {
  std::vector<Sentence> drawn;
  for (Index n = 0; n < count; ++n) {
    drawn.push_back(sentences[static_cast<std::size_t>(rng.below(std::ssize(sentences)))]);
    for (std::int32_t& word : drawn.back().words)
      if (rng.below(50) == 0) word = WordVocabulary::unknown;
  }
  return SentenceBatch(drawn);
}

/// h = tanh(W mean_t(x_t) + b): a mean of the words' vectors, then a layer of units, which can tell that two words are
/// both there, but not which came first. x [T, N, D] -> [N, H]. Source: Iyyer et al. 2015.
class BagOfWords : public Module {
 public:
  struct Options {};
  BagOfWords(Index inputs, Index hidden, Generator& rng, Options) : linear_(inputs, hidden, rng), outputs_(hidden) {
    add("linear", linear_);
  }
  Var operator()(Tape& tape, const Var& x, std::span<const Index> lengths) const {
    Tensor share({x.size(0), x.size(1), 1});  // of the mean: 1 / length, and 0 where a sentence has ended
    for (Index n = 0; n < x.size(1); ++n)
      for (Index t = 0, length = lengths[static_cast<std::size_t>(n)]; t < length; ++t)
        share.set({t, n, 0}, 1.0 / static_cast<double>(length));
    return tanh(linear_(sum(x * tape.constant(share), {0})));
  }
  Index outputs() const { return outputs_; }

 private:
  Linear linear_;
  Index outputs_;
};

}  // namespace unroll::examples
