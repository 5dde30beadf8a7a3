#include <autograd/random.h>

#include <Random123/philox.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <utility>

namespace unroll {

namespace {

std::uint32_t low_half(std::uint64_t x) { return static_cast<std::uint32_t>(x); }
std::uint32_t high_half(std::uint64_t x) { return static_cast<std::uint32_t>(x >> 32); }
std::uint64_t join(std::uint32_t low, std::uint32_t high) { return low | static_cast<std::uint64_t>(high) << 32; }

constexpr std::uint64_t words_of_uniform = 2;
constexpr std::uint64_t words_of_normal = 4;

using Philox = r123::Philox4x32_R<10>;

Philox::key_type key_of(std::uint64_t seed) { return {{low_half(seed), high_half(seed)}}; }

Philox::ctr_type counter_of(std::uint64_t stream, std::uint64_t block) {
  return {{low_half(stream), high_half(stream), low_half(block), high_half(block)}};
}

/// Writes the words of `n` blocks from `first` on. A function of its own, without a branch: compilers
/// vectorise or interleave the blocks only then.
void write_blocks(std::uint64_t seed, std::uint64_t stream, std::uint64_t first, std::uint32_t* out, std::size_t n) {
  const Philox::key_type key = key_of(seed);
  for (std::size_t i = 0; i < n; ++i) {
    const auto words = Philox()(counter_of(stream, first + i), key);
    for (std::size_t k = 0; k < 4; ++k) out[4 * i + k] = words.v[k];
  }
}

/// Writes words `position` to `position + n` of a sequence.
void write_words(std::uint64_t seed, std::uint64_t stream, std::uint64_t position, std::uint32_t* out, std::size_t n) {
  // A sequence that starts or ends inside a block: the part of that block which belongs to it.
  auto write_part = [&](std::size_t skip, std::size_t count) {
    const auto block = detail::philox(seed, stream, position / 4);
    std::copy_n(block.data() + skip, count, out);
    position += count;
    out += count;
    n -= count;
  };
  const std::size_t skip = position % 4;
  if (skip != 0 && n > 0) write_part(skip, std::min(n, 4 - skip));
  const std::size_t blocks = n / 4;
  write_blocks(seed, stream, position / 4, out, blocks);
  position += 4 * blocks;
  out += 4 * blocks;
  n -= 4 * blocks;
  if (n > 0) write_part(0, n);
}

/// The words of a sequence a buffer at a time: `f(words, first, count)` gets those of the elements from
/// `first` on, each of which takes `words_each`.
template <class F>
void for_each_chunk(const Generator& from, Index elements, std::uint64_t words_each, F&& f) {
  constexpr Index words = 1024;  // 4 KiB: stays in the first-level cache
  std::array<std::uint32_t, static_cast<std::size_t>(words)> buffer;
  const auto each = static_cast<Index>(words_each);
  for (Index first = 0; first < elements; first += words / each) {
    const Index count = std::min(elements - first, words / each);
    write_words(from.seed(), from.stream(), from.position() + static_cast<std::uint64_t>(first) * words_each,
                buffer.data(), static_cast<std::size_t>(count * each));
    f(buffer.data(), first, count);
  }
}

double to_uniform(std::uint64_t bits) { return static_cast<double>(bits >> 11) * 0x1p-53; }
double uniform_of(const std::uint32_t* words) { return to_uniform(join(words[0], words[1])); }

double normal_of(const std::uint32_t* words) {
  // 1 - u is exact and in (0, 1], so that the logarithm is finite.
  const double radius = std::sqrt(-2.0 * std::log(1.0 - uniform_of(words)));
  return radius * std::cos(2.0 * std::numbers::pi * uniform_of(words + 2));
}

/// The map from [0, 1) to [low, high).
class Interval {
 public:
  Interval(double low, double high, std::string_view function) : low_(low), width_(high - low) {
    if (!(low <= high) || !std::isfinite(width_))
      fail("{}: the range [{}, {}); low must not be above high, and both must be finite", function, low, high);
    largest_ = std::nextafter(high, low);
  }
  // An explicit fma is one rounding on every machine; a product and a sum are one or two at the compiler's choice.
  double operator()(double u) const { return std::min(std::fma(width_, u, low_), largest_); }

 private:
  double low_;
  double width_;
  double largest_;
};

/// Fills a tensor with `f(words)` of each element's words.
template <class F>
void fill_from_words(const Generator& from, Tensor& tensor, std::uint64_t words_each, F&& f) {
  with_type(tensor.dtype(), [&]<class T>(T) {
    T* out = tensor.data<T>();
    for_each_chunk(from, tensor.size(), words_each, [&](const std::uint32_t* words, Index first, Index count) {
      for (Index i = 0; i < count; ++i) out[first + i] = static_cast<T>(f(words + i * static_cast<Index>(words_each)));
    });
  });
}

}  // namespace

namespace detail {

std::array<std::uint32_t, 4> philox(std::uint64_t seed, std::uint64_t stream, std::uint64_t block) {
  const auto words = Philox()(counter_of(stream, block), key_of(seed));
  return {words.v[0], words.v[1], words.v[2], words.v[3]};
}

}  // namespace detail

Generator Generator::split(std::uint64_t label) const {
  // Another key than the draws', so that a stream's number is none of the numbers its parent draws.
  const auto words = detail::philox(~seed_, stream_, label);
  return Generator(seed_, join(words[0], words[1]));
}

std::uint64_t Generator::bits() {
  std::array<std::uint32_t, words_of_uniform> words;
  write_words(seed_, stream_, position_, words.data(), words_of_uniform);
  position_ += words_of_uniform;
  return join(words[0], words[1]);
}

double Generator::uniform() { return to_uniform(bits()); }

double Generator::uniform(double low, double high) {
  const Interval interval(low, high, "uniform");
  return interval(uniform());
}

double Generator::normal() {
  std::array<std::uint32_t, words_of_normal> words;
  write_words(seed_, stream_, position_, words.data(), words_of_normal);
  position_ += words_of_normal;
  return normal_of(words.data());
}

Index Generator::below(Index n) {
  if (n <= 0) fail("below: n is {}; there must be at least one number to choose from", n);
  const auto range = static_cast<std::uint64_t>(n);
  const std::uint64_t rejected = (0 - range) % range;  // 2^64 mod n: what is left is a multiple of n
  std::uint64_t x = bits();
  while (x < rejected) x = bits();
  return static_cast<Index>(x % range);
}

void Generator::fill_uniform(Tensor& tensor, double low, double high) {
  const Interval interval(low, high, "fill_uniform");
  fill_from_words(*this, tensor, words_of_uniform,
                  [&](const std::uint32_t* words) { return interval(uniform_of(words)); });
  position_ += static_cast<std::uint64_t>(tensor.size()) * words_of_uniform;
}

void Generator::fill_normal(Tensor& tensor, double mean, double std) {
  if (!std::isfinite(mean) || !std::isfinite(std) || std < 0)
    fail("fill_normal: mean {} and standard deviation {}; both must be finite and the latter not negative", mean, std);
  fill_from_words(*this, tensor, words_of_normal,
                  [&](const std::uint32_t* words) { return std::fma(std, normal_of(words), mean); });
  position_ += static_cast<std::uint64_t>(tensor.size()) * words_of_normal;
}

void Generator::fill_bernoulli(void* data, DType dtype, Index n, double probability_of_one, double one_value) {
  if (n < 0) fail("fill_bernoulli: {} elements were asked for; the count must not be negative", n);
  if (!(probability_of_one >= 0.0 && probability_of_one <= 1.0))
    fail("fill_bernoulli: the probability is {}; it must be in [0, 1]", probability_of_one);
  if (!std::isfinite(one_value)) fail("fill_bernoulli: the value to write is {}; it must be finite", one_value);
  // A probability within 2^-33 of 1 has the threshold 2^32, which no 32-bit comparison can express.
  const auto threshold = static_cast<std::uint64_t>(std::llround(probability_of_one * 0x1p32));
  with_scalar(dtype, [&]<class T>(T) {
    T* out = static_cast<T*>(data);
    const T one = static_cast<T>(one_value);
    if (threshold > std::numeric_limits<std::uint32_t>::max()) {
      std::fill_n(out, n, one);
      return;
    }
    const auto limit = static_cast<std::uint32_t>(threshold);
    for_each_chunk(*this, n, 1, [&](const std::uint32_t* words, Index first, Index count) {
      // A product, because compilers make a branch of the choice, and it is one that no processor predicts.
      for (Index i = 0; i < count; ++i) out[first + i] = static_cast<T>(words[i] < limit) * one;
    });
  });
  position_ += static_cast<std::uint64_t>(n);
}

}  // namespace unroll
