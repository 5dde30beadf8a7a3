#pragma once

#include <autograd/indices.h>

#include <vector>

namespace unroll::examples {

/// A sequence of tokens cut for truncated back-propagation through time: into `streams` contiguous parts of
/// equal length, read side by side, `length` tokens at a time. Window k + 1 goes on in every stream where
/// window k ended, so a recurrent state can be carried over. The target of every token is its successor.
///
///     tokens  t0 t1 t2 t3 t4 t5 t6 t7 t8      2 streams, length 2
///     window 0: inputs [[t0, t4], [t1, t5]]  targets [[t1, t5], [t2, t6]]
///     window 1: inputs [[t2, t6], [t3, t7]]  targets [[t3, t7], [t4, t8]]
///
/// Tokens that do not fill all streams are left out at the end.
class Windows {
 public:
  /// What becomes of a last window that is shorter than the others.
  enum class Rest { drop, keep };
  struct Window {
    Indices inputs, targets;  ///< [T, N]
  };

  /// The tokens stay where they are. Throws Error unless they fill one window.
  Windows(std::span<const std::int32_t> tokens, Index streams, Index length, Rest rest = Rest::drop)
      : tokens_(tokens), streams_(streams), length_(length) {
    if (streams < 1 || length < 1) fail("Windows: {} streams of length {}; both must be at least 1", streams, length);
    each_ = std::max<Index>(static_cast<Index>(tokens.size()) - 1, 0) / streams;
    const Index least = streams * (rest == Rest::keep ? 1 : length) + 1;
    if (rest == Rest::keep) length_ = std::min(length_, each_);
    if (length_ < 1 || each_ < length_)
      fail(
          "{} tokens are too few for {} streams of {}; at least {} are needed: choose a longer text or a "
          "smaller --batch or --window",
          tokens.size(), streams, length, least);
    count_ = rest == Rest::keep ? (each_ + length_ - 1) / length_ : each_ / length_;
    inputs_.resize(static_cast<std::size_t>(streams_ * length_));
    targets_.resize(inputs_.size());
  }

  Index count() const { return count_; }
  Index streams() const { return streams_; }
  /// Tokens with a target in all windows together.
  Index tokens() const { return std::min(each_, count_ * length_) * streams_; }

  /// Valid until the next call, which uses the same memory.
  Window operator[](Index k) {
    const Index begin = k * length_, steps = std::min(length_, each_ - begin);
    for (Index t = 0; t < steps; ++t)
      for (Index n = 0; n < streams_; ++n) {
        const auto from = static_cast<std::size_t>(n * each_ + begin + t),
                   to = static_cast<std::size_t>(t * streams_ + n);
        inputs_[to] = tokens_[from];
        targets_[to] = tokens_[from + 1];
      }
    const Shape shape{steps, streams_};
    const auto used = static_cast<std::size_t>(shape.count());
    return {Indices(std::span<const std::int32_t>(inputs_).first(used), shape),
            Indices(std::span<const std::int32_t>(targets_).first(used), shape)};
  }

 private:
  std::span<const std::int32_t> tokens_;
  Index streams_, length_, each_ = 0, count_ = 0;
  std::vector<std::int32_t> inputs_, targets_;
};

}  // namespace unroll::examples
