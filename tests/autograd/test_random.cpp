#include <autograd/random.h>

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <set>
#include <vector>

using namespace unroll;

namespace {

struct Moments {
  double mean = 0, variance = 0, skew = 0, kurtosis = 0;
};

Moments moments(const std::vector<double>& x) {
  Moments m;
  const auto n = static_cast<double>(x.size());
  for (double v : x) m.mean += v / n;
  for (double v : x) {
    const double d = v - m.mean;
    m.variance += d * d / n;
    m.skew += d * d * d / n;
    m.kurtosis += d * d * d * d / n;
  }
  m.skew /= std::pow(m.variance, 1.5);
  m.kurtosis /= m.variance * m.variance;
  return m;
}

double correlation(const std::vector<double>& a, const std::vector<double>& b) {
  const Moments ma = moments(a), mb = moments(b);
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += (a[i] - ma.mean) * (b[i] - mb.mean);
  return sum / static_cast<double>(a.size()) / std::sqrt(ma.variance * mb.variance);
}

std::vector<double> uniforms(Generator g, Index n) {
  Tensor t({n}, float64);
  g.fill_uniform(t);
  return t.to_vector();
}

template <class T>
std::vector<T> bernoulli(Generator g, Index n, double probability, double one = 1.0) {
  std::vector<T> out(static_cast<std::size_t>(n), T{-7});
  g.fill_bernoulli(out.data(), dtype_of<T>, n, probability, one);
  return out;
}

constexpr Index many = 200'000;
// Five standard errors of a mean over `many` draws of unit variance.
const double tolerance = 5 / std::sqrt(static_cast<double>(many));

}  // namespace

// The three "philox4x32 10" lines of Random123's tests/kat_vectors.
TEST_CASE("random: the published known answers of Philox4x32-10") {
  using Words = std::array<std::uint32_t, 4>;
  CHECK(detail::philox(0, 0, 0) == Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  const std::uint64_t ones = ~std::uint64_t{0};
  CHECK(detail::philox(ones, ones, ones) == Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  // Digits of pi: counter 243f6a88 85a308d3 13198a2e 03707344, key a4093822 299f31d0.
  const std::uint64_t seed = 0x299f31d0a4093822, stream = 0x85a308d3243f6a88, block = 0x0370734413198a2e;
  CHECK(detail::philox(seed, stream, block) == Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});

  // The same words, through a generator: word p is word p mod 4 of block p / 4.
  Generator g(seed, stream, 4 * block);
  CHECK(g.bits() == 0x94fdccebd16cfe09);
  CHECK(g.bits() == 0x24126ea15001e420);
  Generator odd(seed, stream, 4 * block + 1);
  CHECK(odd.bits() == 0x5001e42094fdcceb);
  CHECK(Generator(0).uniform() == static_cast<double>(0xe169c58d6627e8d5 >> 11) * 0x1p-53);
}

TEST_CASE("random: a draw depends on seed, stream and position only") {
  Generator g(7, 3);
  std::vector<std::uint64_t> sequence;
  for (int i = 0; i < 50; ++i) sequence.push_back(g.bits());
  CHECK(g.position() == 100);

  // A generator that is saved as three integers and restored goes on where the first one stopped.
  for (std::uint64_t i = 0; i < 50; ++i) {
    Generator restored(7, 3, 2 * i);
    CHECK(restored.bits() == sequence[static_cast<std::size_t>(i)]);
    CHECK(restored == Generator(7, 3, 2 * i + 2));
  }
  CHECK(Generator(8, 3).bits() != sequence[0]);
  CHECK(Generator(7, 4).bits() != sequence[0]);
  CHECK(Generator(7, 3) != Generator(7, 4));
  CHECK(Generator(7, 3) != Generator(8, 3));
  CHECK(Generator(7, 3) != Generator(7, 3, 1));
  // The high halves of all three count.
  const std::uint64_t high = std::uint64_t{1} << 40;
  CHECK(Generator(7 + high, 3).bits() != sequence[0]);
  CHECK(Generator(7, 3 + high).bits() != sequence[0]);
  CHECK(Generator(7, 3, high).bits() != sequence[0]);
}

TEST_CASE("random: every draw takes a fixed number of words") {
  Generator g(1);
  g.uniform();
  CHECK(g.position() == 2);
  g.uniform(-1, 1);
  CHECK(g.position() == 4);
  g.normal();
  CHECK(g.position() == 8);
  Tensor t({3, 5});
  g.fill_uniform(t);
  CHECK(g.position() == 38);
  g.fill_normal(t);
  CHECK(g.position() == 98);
  std::vector<float> mask(9);
  g.fill_bernoulli(mask.data(), float32, 9, 0.5);
  CHECK(g.position() == 107);
  g.fill_bernoulli(mask.data(), float32, 9, 1.0);  // also where nothing has to be drawn
  CHECK(g.position() == 116);
  g.below(10);
  CHECK(g.position() == 118);
}

TEST_CASE("random: a bulk fill is the single draws, at every alignment to a block and across chunks") {
  for (std::uint64_t position = 0; position < 8; ++position) {
    for (Index n : {0, 1, 2, 3, 5, 255, 256, 257, 511, 512, 513, 1500}) {
      CAPTURE(position);
      CAPTURE(n);
      Generator one(11, 2, position), bulk(11, 2, position);
      Tensor uniform({n}, float64), normal({n}, float64);
      bulk.fill_uniform(uniform, -3, 5);
      bulk.fill_normal(normal);
      bool same = true;
      for (double u : uniform.to_vector()) same &= u == one.uniform(-3, 5);
      for (double z : normal.to_vector()) same &= z == one.normal();
      CHECK(same);
      CHECK(one == bulk);
    }
  }
}

TEST_CASE("random: a Bernoulli element depends on its index alone") {
  const Index n = 5000;
  const Generator g(5, 9, 3);
  const std::vector<float> whole = bernoulli<float>(g, n, 0.3, 1.25);
  for (Index first : {1, 2, 3, 4, 5, 1023, 1024, 1027, 4999}) {
    const Generator there(g.seed(), g.stream(), g.position() + static_cast<std::uint64_t>(first));
    const std::vector<float> part = bernoulli<float>(there, n - first, 0.3, 1.25);
    CHECK(std::equal(part.begin(), part.end(), whole.begin() + first));
  }
  const std::vector<double> wide = bernoulli<double>(g, n, 0.3, 1.25);
  CHECK(std::equal(wide.begin(), wide.end(), whole.begin()));
  // The rule in the document, word by word.
  bool same = true;
  for (std::uint64_t i = 0; i < static_cast<std::uint64_t>(n); ++i) {
    const std::uint64_t at = g.position() + i;
    const std::uint32_t word = detail::philox(g.seed(), g.stream(), at / 4)[at % 4];
    same &= whole[i] == (word < 0.3 * 0x1p32 ? 1.25f : 0.0f);
  }
  CHECK(same);
}

TEST_CASE("random: Bernoulli probabilities, with their ends") {
  for (double p : {0.0, 0.001, 0.1, 0.5, 0.9, 1.0}) {
    CAPTURE(p);
    const std::vector<double> x = bernoulli<double>(Generator(4), many, p, 2.0);
    const auto ones = std::ranges::count(x, 2.0), zeros = std::ranges::count(x, 0.0);
    CHECK(ones + zeros == many);
    CHECK(std::abs(static_cast<double>(ones) / many - p) <= tolerance * std::sqrt(p * (1 - p)));
  }
  CHECK(bernoulli<float>(Generator(1), 0, 0.5).empty());
}

TEST_CASE("random: a float32 fill is the rounded float64 fill") {
  Tensor narrow({40, 50}), wide({40, 50}, float64);
  Generator(3).fill_uniform(narrow, -0.1, 0.1);
  Generator(3).fill_uniform(wide, -0.1, 0.1);
  CHECK(narrow.to_vector() == wide.to(float32).to_vector());
  Generator(3).fill_normal(narrow, 0.5, 2);
  Generator(3).fill_normal(wide, 0.5, 2);
  CHECK(narrow.to_vector() == wide.to(float32).to_vector());
  CHECK(narrow.to_vector() != wide.to_vector());
}

TEST_CASE("random: uniform numbers") {
  const std::vector<double> u = uniforms(Generator(1), many);
  CHECK(std::ranges::all_of(u, [](double x) { return x >= 0 && x < 1; }));
  const Moments m = moments(u);
  CHECK(std::abs(m.mean - 0.5) < tolerance * std::sqrt(1 / 12.0));
  CHECK(std::abs(m.variance - 1 / 12.0) < tolerance * std::sqrt(1 / 180.0));
  // Neighbours do not depend on each other.
  CHECK(std::abs(correlation({u.begin(), u.end() - 1}, {u.begin() + 1, u.end()})) < tolerance);
  // All 53 bits are used.
  CHECK(std::ranges::any_of(u, [](double x) { return std::fmod(x * 0x1p53, 2.0) == 1.0; }));

  // Rounding must not reach the upper end, however close or far it is.
  Generator g(2);
  const double high = std::nextafter(1.0, 2.0);
  for (int i = 0; i < 1000; ++i) {
    CHECK(g.uniform(1.0, high) == 1.0);
    CHECK(g.uniform(4, 4) == 4);
    const double x = g.uniform(-1e300, 1e300);
    CHECK((x >= -1e300 && x < 1e300));
  }
}

TEST_CASE("random: normal numbers") {
  Tensor t({many}, float64);
  Generator(1).fill_normal(t);
  const std::vector<double> z = t.to_vector();
  const Moments m = moments(z);
  CHECK(std::abs(m.mean) < tolerance);
  CHECK(std::abs(m.variance - 1) < tolerance * std::sqrt(2.0));
  CHECK(std::abs(m.skew) < tolerance * std::sqrt(6.0));
  CHECK(std::abs(m.kurtosis - 3) < tolerance * std::sqrt(24.0));
  CHECK(std::ranges::all_of(z, [](double x) { return std::abs(x) < 8.6; }));
  CHECK(std::abs(correlation({z.begin(), z.end() - 1}, {z.begin() + 1, z.end()})) < tolerance);
  const auto within = [&](double d) {
    return static_cast<double>(std::ranges::count_if(z, [d](double x) { return std::abs(x) < d; })) / many;
  };
  CHECK(within(1) == doctest::Approx(0.682689).epsilon(0.01));
  CHECK(within(2) == doctest::Approx(0.954500).epsilon(0.005));
  CHECK(within(3) == doctest::Approx(0.997300).epsilon(0.001));

  // The formula in the document.
  Generator uniform(1);
  for (std::size_t i = 0; i < 100; ++i) {
    const double u = uniform.uniform(), v = uniform.uniform();
    CHECK(z[i] == doctest::Approx(std::sqrt(-2 * std::log(1 - u)) * std::cos(8 * std::atan(1.0) * v)).epsilon(1e-12));
  }

  Generator(1).fill_normal(t, 10, 3);
  CHECK(t.at({17}) == std::fma(3.0, z[17], 10.0));
  Generator(1).fill_normal(t, 10, 0);
  CHECK(t.at({17}) == 10);
}

TEST_CASE("random: integers below n are uniform and in range") {
  Generator g(6);
  for (Index n : {Index{1}, Index{2}, Index{7}, Index{10}}) {
    CAPTURE(n);
    std::vector<double> counts(static_cast<std::size_t>(n));
    const int draws = 20'000;
    for (int i = 0; i < draws; ++i) {
      const Index x = g.below(n);
      REQUIRE(x >= 0);
      REQUIRE(x < n);
      ++counts[static_cast<std::size_t>(x)];
    }
    const double expected = draws / static_cast<double>(n);
    for (double c : counts) CHECK(std::abs(c - expected) <= 5 * std::sqrt(expected));
  }
  // n = 3/8 of 2^64: a plain remainder would give the low two thirds 3/2 of the share of the rest; a quarter of the
  // draws must be rejected.
  const Index n = Index{3} << 61;
  Index low = 0, previous = static_cast<Index>(g.position());
  for (int i = 0; i < 10'000; ++i) low += g.below(n) < n / 3 ? 1 : 0;
  CHECK(std::abs(static_cast<double>(low) / 10'000 - 1 / 3.0) < 0.025);
  const double words_each = static_cast<double>(static_cast<Index>(g.position()) - previous) / 10'000;
  CHECK(words_each == doctest::Approx(2 * 4 / 3.0).epsilon(0.03));
}

TEST_CASE("random: streams and splits are independent") {
  const Generator g(42);
  CHECK(g.split(1) == g.split(1));
  CHECK(g.split(1).position() == 0);
  CHECK(g.split(1).seed() == 42);
  // What was drawn before does not matter.
  Generator drawn = g;
  drawn.normal();
  CHECK(drawn.split(1) == g.split(1));

  // No two generators of a tree of splits are the same.
  std::set<std::uint64_t> streams = {g.stream()};
  std::size_t count = 1;
  for (std::uint64_t i = 0; i < 20; ++i) {
    streams.insert(g.split(i).stream());
    ++count;
    for (std::uint64_t j = 0; j < 20; ++j) {
      streams.insert(g.split(i).split(j).stream());
      ++count;
    }
  }
  CHECK(streams.size() == count);

  const std::vector<double> parent = uniforms(g, many);
  for (const Generator& other : {g.split(0), g.split(1), Generator(42, 1), Generator(43), g.split(0).split(0)}) {
    const std::vector<double> u = uniforms(other, many);
    CHECK(std::abs(correlation(parent, u)) < tolerance);
    CHECK(std::abs(moments(u).mean - 0.5) < tolerance);
  }
}

TEST_CASE("random: arguments out of range are refused and nothing is drawn") {
  Generator g(1);
  Tensor t({2});
  const double nan = std::nan("");
  CHECK_THROWS_AS(g.below(0), Error);
  CHECK_THROWS_AS(g.below(-3), Error);
  CHECK_THROWS_AS(g.uniform(1, 0), Error);
  CHECK_THROWS_AS(g.uniform(nan, 0), Error);
  CHECK_THROWS_AS(g.uniform(-1e308, 1e308), Error);
  CHECK_THROWS_AS(g.fill_uniform(t, 0, INFINITY), Error);
  CHECK_THROWS_AS(g.fill_normal(t, 0, -1), Error);
  CHECK_THROWS_AS(g.fill_normal(t, nan, 1), Error);
  CHECK_THROWS_AS(g.fill_bernoulli(t.raw(), float32, 2, 1.5), Error);
  CHECK_THROWS_AS(g.fill_bernoulli(t.raw(), float32, 2, -0.1), Error);
  CHECK_THROWS_AS(g.fill_bernoulli(t.raw(), float32, 2, nan), Error);
  CHECK_THROWS_AS(g.fill_bernoulli(t.raw(), float32, -1, 0.5), Error);
  CHECK_THROWS_AS(g.fill_bernoulli(t.raw(), float32, 2, 0.5, INFINITY), Error);
  CHECK(g == Generator(1));
  CHECK_THROWS_WITH(g.fill_uniform(t, 2, 1),
                    "fill_uniform: the range [2, 1); low must not be above high, and both must be finite");
}
