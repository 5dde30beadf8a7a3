#pragma once

#include <examples/common/words.h>
#include <layers/layers.h>

#include <filesystem>
#include <string>
#include <vector>

namespace unroll::examples {

/// Shows what an LSTM does as it reads a sentence, word by word: the means of its gates, how far each word moves the
/// cell state (the root of the mean of its squared changes), the units that it moves most, and what the model would say
/// if the sentence ended there. Draws explain.svg in `folder`. The layer must have just read it, made with
/// {.watch = true}; `logits` [T, 1, classes] is what the model makes of its output at every word. Returns the
/// prediction after the last one, and its probability.
std::pair<std::string, double> explain(const std::vector<std::string>& words, const LSTM& lstm, const Var& logits,
                                       const std::vector<std::string>& labels, const std::filesystem::path& folder);

}  // namespace unroll::examples
