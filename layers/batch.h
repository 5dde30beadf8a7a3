#pragma once

#include <autograd/var.h>

#include <span>

namespace unroll::detail {

/// A batch of N sequences as a loop over time sees it.
///
/// With lengths, the sequences are sorted, longest first, so that those still running at step t are the first
/// `running(t)`; and they are packed: the rows of step 0, then those of step 1, and so on, S = sum of the lengths in
/// all, without any padding. Memory is the tape's: a Batch is copied freely and lives as long as what is recorded.
class Batch {
 public:
  /// N sequences of T steps each: nothing to sort or to pack.
  Batch(Index steps, Index sequences) : all_steps_(steps), steps_(steps), sequences_(sequences) {}
  /// Throws Error unless there is a length in [0, T] for each of the N sequences.
  Batch(Graph& graph, Index steps, std::span<const Index> lengths, Source where);

  bool packed() const { return offsets_ != nullptr; }
  /// The steps of the longest sequence.
  Index steps() const { return steps_; }
  Index sequences() const { return sequences_; }
  Index running(Index t) const { return packed() ? offsets_[t + 1] - offsets_[t] : sequences_; }
  /// The packed rows before those of step t.
  Index offset(Index t) const { return offsets_[t]; }

  /// T, and what is at row k of step `step` of the loop, which in the other direction begins at a sequence's own end.
  Index all_steps() const { return all_steps_; }
  Index time_of(Index step, Index k, bool reverse) const;
  Index sequence_of(Index step, Index k) const { return packed() ? sequence_[offsets_[step] + k] : k; }

  // Without lengths `mirror` reverses the time and the others return what they are given.
  Var pack(const Var& x, Source where) const;      ///< [T, N, D] -> [1, S, D]
  Var unpack(const Var& y, Source where) const;    ///< [1, S, D] -> [T, N, D], zeros past the end of each sequence
  Var mirror(const Var& x, Source where) const;    ///< each sequence from its own end to its start
  Var sort(const Var& state, Source where) const;  ///< [N, H]: the longest sequence first
  Var unsort(const Var& state, Source where) const;
  Var repeat(const Var& mask, Source where) const;  ///< [N, D] -> [1, S, D]: for every step of each sequence

 private:
  using Rows = const std::int32_t*;

  Index all_steps_, steps_, sequences_;
  Index rows_ = 0;                  ///< S
  const Index* offsets_ = nullptr;  ///< of each step's first row
  Rows order_ = nullptr;            ///< [N] the sequence at each place of the sorted batch
  Rows place_ = nullptr;            ///< [N] the inverse
  Rows source_ = nullptr;           ///< [S] the row of the padded batch, t N + n
  Rows target_ = nullptr;           ///< [T N] the packed row, -1 where there is padding
  Rows mirrored_ = nullptr;         ///< [S] the packed row as far from the end as this is from the start
  Rows sequence_ = nullptr;         ///< [S] the sequence n
};

}  // namespace unroll::detail
