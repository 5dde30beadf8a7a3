#pragma once

// The hypotheses of a beam search: all of it but the decoder's steps, which are in decode.h.

#include <autograd/indices.h>
#include <autograd/var.h>

#include <limits>
#include <optional>
#include <vector>

namespace unroll {

/// A sequence of tokens that a decoder wrote.
struct Hypothesis {
  std::vector<std::int32_t> tokens;  ///< without the start and the end
  double log_probability = 0;        ///< of these tokens, and of the end if there is one, given the input; in nats
  double score = 0;                  ///< what it is ranked by: see BeamOptions; without a penalty log_probability
  bool finished = false;             ///< the decoder wrote the end; else it was cut off
};

/// Of beam_search.
struct BeamOptions {
  std::int32_t start = 0;
  std::optional<std::int32_t> end = {};
  Index max_length = 0;
  Index width = 4;  ///< how many hypotheses of a sequence are carried from step to step
  Index best = 1;   ///< how many are returned, at most `width`
  /// a >= 0: hypotheses of L tokens, the end included, are ranked by log P / ((5 + L) / 6)^a (Wu et al. 2016, equation
  /// 14, with a of 0.6 to 0.7 there). With 0, long ones have to make up for every token.
  double length_penalty = 0;
};

namespace detail {

/// The hypotheses of a beam search: all of it but the steps.
class Beams {
 public:
  /// W hypotheses for each of N sequences; the state's Vars, of N, become those of N W.
  Beams(const char* name, std::vector<Var>& state, const BeamOptions& options, Source where);

  bool done() const { return running_ == 0; }
  Indices tokens() const { return tokens_; }
  /// Goes on with the best hypotheses and forgets what the step has recorded; `state` becomes theirs.
  void advance(const Var& logits, std::vector<Var>& state);
  /// Of each sequence the best hypotheses, in order.
  std::vector<std::vector<Hypothesis>> best() const;

 private:
  static constexpr double impossible = -std::numeric_limits<double>::infinity();

  struct Beam {  // a hypothesis that goes on; an impossible one only fills the batch
    double log_probability = impossible;
    Index last = -1;  // of words_
  };
  struct Candidate {
    double log_probability;
    Index row;
    std::int32_t token;
    /// The more probable, then the one found first: ties are broken in the same way everywhere.
    bool operator<(const Candidate& other) const {
      if (log_probability != other.log_probability) return log_probability > other.log_probability;
      return row != other.row ? row < other.row : token < other.token;
    }
  };
  struct Word {
    std::int32_t token;
    Index before;  // of words_, or -1
  };
  struct Ended {
    double log_probability, score;
    Index last;
    bool finished;
  };

  void check_state(const std::vector<Var>& state, Index rows) const;
  void check_logits(const Var& logits);
  void find_candidates(Index sequence);
  template <class T>
  void add_candidates(Index row);
  void choose(Index sequence);
  void put_aside(std::vector<Ended>& ended, const Candidate& candidate, bool finished);
  void carry(std::vector<Var>& state);
  double score(double log_probability, Index length) const;
  Index add_word(const Candidate& candidate);

  const char* name_;
  BeamOptions options_;
  Source where_;
  Graph& graph_;
  Graph::Mark mark_;
  Index sequences_, running_, length_ = 0;
  std::vector<Word> words_;                // all that was written, each pointing to the one before
  std::vector<Beam> beams_;                // [N W]
  std::vector<std::int32_t> tokens_;       // [N W] what they read next
  std::vector<std::int32_t> rows_;         // [N W] whose state they go on from
  std::vector<std::vector<Ended>> ended_;  // [N] at most `best` of each, in order
  std::vector<bool> stopped_;              // [N]
  std::vector<Candidate> candidates_;      // of one sequence
  Tensor logits_;                          // [N W, V]
  std::vector<Tensor> held_;               // the state's values, while the tape is rewound
};

}  // namespace detail
}  // namespace unroll
