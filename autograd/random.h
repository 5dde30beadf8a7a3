#pragma once

#include <autograd/tensor.h>

#include <array>
#include <cstdint>

namespace unroll {

/// Random numbers that depend on (seed, stream, position) only, never on threads or platform.
///
/// A generator is a window on an endless sequence of 32-bit words, fixed by its seed and stream:
///
///     word(p) = Philox4x32-10(counter = {stream, p / 4}, key = seed)[p mod 4]
///
/// A draw reads the words at the generator's position and moves it past them; nothing else changes, so
/// a generator is saved as three integers, and part of a sequence is drawn on another thread by a
/// generator that starts there: `Generator(g.seed(), g.stream(), g.position() + first)`.
/// A sequence has 2^64 words and then repeats; there are 2^64 streams for each seed.
///
/// Words and uniform numbers are the same bits everywhere. Normal numbers go through the C library's
/// `log` and `cos`, whose last bit may differ between platforms.
///
/// Source: Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011,
/// section 3.3, as implemented by Random123.
class Generator {
 public:
  explicit Generator(std::uint64_t seed, std::uint64_t stream = 0, std::uint64_t position = 0)
      : seed_(seed), stream_(stream), position_(position) {}

  std::uint64_t seed() const { return seed_; }
  std::uint64_t stream() const { return stream_; }
  /// The number of words drawn so far, if drawing began at 0.
  std::uint64_t position() const { return position_; }
  friend bool operator==(const Generator&, const Generator&) = default;

  /// A generator at position 0 of a stream of its own, fixed by this one's seed and stream and by `label`,
  /// whatever this one has drawn. Splits nest: `g.split(1).split(2)` is neither `g.split(2)` nor
  /// `g.split(2).split(1)`. (The new stream's number is a hash of 64 bits, by Philox.)
  Generator split(std::uint64_t label) const;

  /// 64 random bits: two words, the first in the low half.
  std::uint64_t bits();
  /// u = (bits >> 11) / 2^53: uniform in [0, 1), in steps of 2^-53. Two words.
  double uniform();
  /// low + (high - low) u, rounded once: uniform in [low, high), or `low` when both are equal. Two words.
  /// Throws Error unless low <= high and their distance is finite.
  double uniform(double low, double high);
  /// z = sqrt(-2 log(1 - u)) cos(2 pi v): standard normal, from two uniform numbers u and v; |z| < 8.6.
  /// Always four words, so the sine that would give a second number is not used.
  /// Source: Box and Muller, "A note on the generation of random normal deviates", 1958, equation 1.
  double normal();
  /// Uniform in 0, 1, ..., n - 1, without bias: bits mod n, drawing again while bits < 2^64 mod n. Two
  /// words, and two more for each rejection (of probability below n / 2^64). Throws Error unless n > 0.
  Index below(Index n);

  /// Fills with the numbers that calling `uniform(low, high)` once for each element, in row-major order,
  /// would give. A float32 tensor gets them rounded, so that `high` itself may appear. Throws Error like it.
  void fill_uniform(Tensor& tensor, double low = 0.0, double high = 1.0);
  /// Fills with mean + std * normal(), rounded once: the z of each element, in row-major order, is what
  /// calling `normal()` would give. Throws Error unless mean and std are finite and std >= 0.
  void fill_normal(Tensor& tensor, double mean = 0.0, double std = 1.0);
  /// Writes `n` elements of the given type (on a tape it may be `dual`: with tangents of 0): `one_value` with the
  /// given probability, in [0, 1], and 0 otherwise. Element i is decided by the word at position + i alone: it is a one
  /// when word < probability * 2^32 (rounded: the probability is met to 2^-33). Costs 1 to 3 ns an element in an
  /// optimised build. Throws Error when n < 0, the probability is not in [0, 1] or `one_value` is not finite.
  void fill_bernoulli(void* data, DType dtype, Index n, double probability_of_one, double one_value = 1.0);

 private:
  std::uint64_t seed_;
  std::uint64_t stream_;
  std::uint64_t position_;
};

namespace detail {
/// Philox4x32-10 of the counter {stream, block} under the key `seed`, each low half first.
std::array<std::uint32_t, 4> philox(std::uint64_t seed, std::uint64_t stream, std::uint64_t block);
}  // namespace detail

}  // namespace unroll
