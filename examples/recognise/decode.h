#pragma once

// From a network's outputs to labels, and from labels to errors.

#include <examples/recognise/speech.h>

namespace unroll::examples::recognise {

/// What a network thinks of one utterance: the logarithm of the probability of every label, and of the blank, in every
/// frame.
struct Posteriors {
  std::vector<double> values;  ///< [T, classes]
  Index classes;

  Index length() const { return std::ssize(values) / classes; }
  double at(Index t, std::int32_t label) const { return values[static_cast<std::size_t>(t * classes + label)]; }
};

/// The labels of the likeliest path: of the likeliest class in each frame, without repetitions, and then without
/// blanks. Source: Graves et al. 2006, "Connectionist temporal classification", section 3.2.
Labels best_path(const Posteriors& p);

/// Many paths read as the same labels, and the likeliest path need not be one of the likeliest labels. This sums the
/// paths of the `width` likeliest beginnings, frame by frame, so the more the wider it is; the first is the likeliest.
/// Source: Graves 2012, "Supervised sequence labelling with recurrent neural networks", section 7.5.3, without a
/// dictionary, in the form of Hannun et al. 2014, "First-pass large vocabulary continuous speech recognition using
/// bi-directional recurrent DNNs", algorithm 1.
struct Transcription {
  Labels labels;
  double log_probability;
};
std::vector<Transcription> prefix_beam_search(const Posteriors& p, Index width);

/// Labels that were said beside those that were heard, with as few differences as can be (Levenshtein 1966): what was
/// said and not heard stands beside a blank, and so does what was heard and not said.
using Alignment = std::vector<std::pair<std::int32_t, std::int32_t>>;
Alignment align(const Labels& said, const Labels& heard);
/// The labels of it that differ.
Index errors(const Alignment& alignment);

}  // namespace unroll::examples::recognise
