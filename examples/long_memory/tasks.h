#pragma once

#include <autograd/indices.h>
#include <autograd/random.h>

#include <functional>
#include <string>
#include <vector>

namespace unroll::examples {

/// Sequences to read, of numbers or of tokens, and what to answer at the last of the steps, or at the last few.
struct Episodes {
  Index sequences = 0, answers = 1;        ///< N; the steps, at the end, that are answered
  Tensor numbers = {};                     ///< [T, N, D]
  std::vector<std::int32_t> tokens = {};   ///< [T, N]; empty where there are numbers
  Tensor sums = {};                        ///< [1, N, 1]: the answers where there are numbers
  std::vector<std::int32_t> classes = {};  ///< [answers, N]: the answers where there are tokens
};

/// A task that cannot be done without remembering something for `gap` steps.
struct Task {
  std::string name;
  Index tokens = 0, numbers = 0;  ///< how many different tokens there are, or D
  Index outputs = 1;              ///< classes to choose among, or 1
  std::int32_t trivial = -1;      ///< an answer that does not count as a success, as it is known without a memory
  Index shortest = 1;             ///< gap
  std::function<Episodes(Index gap, Index sequences, Generator& rng)> draw;
  std::function<double(Index gap)> loss_without_memory;
  double success_without_memory = 0;
};

/// An answer to a sum succeeds when it is as close as this.
inline constexpr double close_enough = 0.1;

/// The adding problem: `gap` pairs of a number in [0, 1] and a mark, two of which are 1, one in each half. The answer
/// is the sum of the two numbers that are marked; always answering 1 gives a mean square error of 1/6. Source:
/// Hochreiter and Schmidhuber 1997, experiment 4, in the form of Le, Jaitly and Hinton 2015, section 4.1.
Task adding_task();

/// Copy memory: ten symbols out of eight, gap - 1 blanks, a request, and ten blanks, at which to give the symbols back
/// in order; before, blanks are to be answered. Who remembers nothing guesses: ln 8 for each of the ten, so
/// 10 ln 8 / (gap + 20) for each of all steps. Source: Arjovsky, Shah and Bengio 2016, "Unitary evolution recurrent
/// neural networks", section 4.1.
Task copy_task();

/// Sentences: "i grew up in india .", `gap` words of something else, "i speak" - and which of twenty languages comes
/// next? Every fifth phrase or so in between speaks of another country.
Task sentence_task();

/// One of them in words, with its answer.
std::string sentence_example(Index gap, Generator& rng);

}  // namespace unroll::examples
