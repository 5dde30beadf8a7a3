// Initialisers: what they draw from, blocks of columns, files, repeatability, bad input.

#include <autograd/safetensors.h>
#include <layers/initialize.h>
#include <tests/support.h>

#include <doctest/doctest.h>

#include <array>
#include <filesystem>
#include <functional>
#include <numbers>

using namespace unroll;
using namespace unroll::testing;
using initialize::Fan;
using initialize::Nonlinearity;
using initialize::Target;

namespace {

struct Moments {
  double mean = 0, variance = 0, fourth = 0, low = 0, high = 0;
  double count = 0;
};

Moments moments(const TensorView& tensor) {
  const std::vector<double> x = tensor.to_vector();
  Moments m;
  m.count = static_cast<double>(x.size());
  m.low = *std::ranges::min_element(x);
  m.high = *std::ranges::max_element(x);
  for (double v : x) m.mean += v / m.count;
  for (double v : x) m.variance += (v - m.mean) * (v - m.mean) / m.count;
  for (double v : x) m.fourth += std::pow(v - m.mean, 4) / m.count;
  return m;
}

/// Five standard errors each: the mean's is std / sqrt(n), the variance's variance * sqrt((kurtosis - 1) / n).
void check_distribution(const TensorView& tensor, double mean, double std, double kurtosis) {
  const Moments m = moments(tensor);
  CAPTURE(std);
  CHECK(std::abs(m.mean - mean) < 5 * std / std::sqrt(m.count));
  CHECK(std::abs(m.variance / (std * std) - 1) < 5 * std::sqrt((kurtosis - 1) / m.count));
  CHECK(std::abs(m.fourth / (m.variance * m.variance) - kurtosis) < 0.1);
}

void check_uniform(const TensorView& tensor, double low, double high) {
  check_distribution(tensor, (low + high) / 2, (high - low) / std::sqrt(12.0), 1.8);
  const Moments m = moments(tensor);
  const double rounding = tensor.dtype() == float32 ? 1e-7 * (high - low) : 0, edge = 50 * (high - low) / m.count;
  CHECK(m.low >= low - rounding);
  CHECK(m.low < low + edge);
  CHECK(m.high <= high + rounding);
  CHECK(m.high > high - edge);
}

void check_normal(const TensorView& tensor, double mean, double std) {
  check_distribution(tensor, mean, std, 3);
  const Moments m = moments(tensor);
  CHECK(m.high > mean + 3.5 * std);
  CHECK(m.low < mean - 3.5 * std);
}

Tensor columns_of(const Tensor& matrix, Index begin, Index end) {
  Tensor part({matrix.shape()[0], end - begin}, matrix.dtype());
  for (Index i = 0; i < matrix.shape()[0]; ++i)
    for (Index j = begin; j < end; ++j) part.set({i, j - begin}, matrix.at({i, j}));
  return part;
}

/// max |W^T W - size I|.
double orthogonality_error(const Tensor& W, double size) {
  double error = 0;
  for (Index i = 0; i < W.shape()[1]; ++i)
    for (Index j = 0; j < W.shape()[1]; ++j) {
      double product = 0;
      for (Index k = 0; k < W.shape()[0]; ++k) product += W.at({k, i}) * W.at({k, j});
      error = std::max(error, std::abs(product - (i == j ? size : 0)));
    }
  return error;
}

constexpr Index rows = 300, columns = 500;

}  // namespace

TEST_CASE("uniform, normal and constant, in both types and any rank") {
  for (DType dtype : {float32, float64}) {
    CAPTURE(name_of(dtype));
    Generator rng(1);
    Tensor x({10, 100, 100}, dtype);
    initialize::uniform(x, rng, -0.25, 0.5);
    check_uniform(x, -0.25, 0.5);
    initialize::normal(x, rng, 2, 0.1);
    check_normal(x, 2, 0.1);
    initialize::constant(x, -1.5);
    CHECK(same_bits(x, Tensor::full(x.shape(), -1.5, dtype)));
    Tensor scalar(Shape{}, dtype), none({0, 3}, dtype);
    initialize::constant(scalar, 4);
    CHECK(scalar.item() == 4);
    initialize::uniform(none, rng, 0, 1);
  }
}

TEST_CASE("truncated_normal: nothing beyond the cut, and the variance that is left") {
  Generator rng(1);
  Tensor x({rows, columns}, float64);
  for (double cut : {1.0, 2.0, 3.0}) {
    initialize::truncated_normal(x, rng, 0.5, 0.1, cut);
    const double density = std::exp(-cut * cut / 2) / std::sqrt(2 * std::numbers::pi);
    const double left = std::erf(cut / std::sqrt(2.0)), variance = 1 - 2 * cut * density / left;
    const Moments m = moments(x);
    CHECK(m.low >= 0.5 - 0.1 * cut);
    CHECK(m.high <= 0.5 + 0.1 * cut);
    CHECK(m.high > 0.5 + 0.099 * cut);
    CHECK(std::abs(m.mean - 0.5) < 5 * 0.1 / std::sqrt(m.count));
    CHECK(m.variance == doctest::Approx(0.01 * variance).epsilon(5 * std::sqrt(2 / m.count)));
  }
}

TEST_CASE("initialisers by fan: bounds and standard deviations are the papers'") {
  Generator rng(1);
  Tensor W({rows, columns}, float64);  // y = x W: fan-in 300, fan-out 500
  initialize::xavier_uniform(W, rng);
  check_uniform(W, -std::sqrt(6.0 / 800), std::sqrt(6.0 / 800));
  initialize::xavier_normal(W, rng, {.gain = 5.0 / 3});
  check_normal(W, 0, 5.0 / 3 * std::sqrt(2.0 / 800));
  initialize::kaiming_uniform(W, rng);
  check_uniform(W, -std::sqrt(6.0 / 300), std::sqrt(6.0 / 300));
  initialize::kaiming_normal(W, rng, {.fan = Fan::out});
  check_normal(W, 0, std::sqrt(2.0 / 500));
  initialize::kaiming_normal(W, rng, {.nonlinearity = Nonlinearity::leaky_relu, .slope = 0.5});
  check_normal(W, 0, std::sqrt(2.0 / 1.25 / 300));
  initialize::lecun_uniform(W, rng);
  check_uniform(W, -std::sqrt(3.0 / 300), std::sqrt(3.0 / 300));
  initialize::lecun_normal(W, rng, {.gain = 2});
  check_normal(W, 0, 2 / std::sqrt(300.0));
}

TEST_CASE("blocks have fans of their own, and differ") {
  Generator rng(1);
  Parameter W({rows, 4 * rows}, float64);
  initialize::xavier_uniform(W, rng, {.blocks = 4});
  for (Index k = 0; k < 4; ++k)
    check_uniform(columns_of(W.value(), k * rows, (k + 1) * rows), -std::sqrt(6.0 / 600), std::sqrt(6.0 / 600));
  initialize::kaiming_normal(W, rng, {.fan = Fan::out, .blocks = 4});
  check_normal(W.value(), 0, std::sqrt(2.0 / 300));
  CHECK_FALSE(same_bits(columns_of(W.value(), 0, rows), columns_of(W.value(), rows, 2 * rows)));
}

TEST_CASE("gains are PyTorch's") {
  CHECK(initialize::gain(Nonlinearity::linear) == 1);
  CHECK(initialize::gain(Nonlinearity::sigmoid) == 1);
  CHECK(initialize::gain(Nonlinearity::tanh) == 5.0 / 3);
  CHECK(initialize::gain(Nonlinearity::relu) == std::sqrt(2.0));
  CHECK(initialize::gain(Nonlinearity::leaky_relu) == doctest::Approx(1.4141428569978354).epsilon(1e-15));
  CHECK(initialize::gain(Nonlinearity::leaky_relu, 1) == 1);
  CHECK(initialize::gain(Nonlinearity::selu) == 0.75);
}

TEST_CASE("orthogonal: W^T W = gain^2 I, or W W^T where there are more columns than rows") {
  Generator rng(1);
  for (const Shape& shape : {Shape{6, 6}, Shape{9, 4}, Shape{4, 9}, Shape{64, 64}, Shape{1, 1}, Shape{1, 5}}) {
    const bool tall = shape[0] >= shape[1];
    CAPTURE(to_string(shape));
    Tensor W(shape, float64);
    initialize::orthogonal(W, rng, {.gain = 1.5});
    CHECK(orthogonality_error(tall ? W : W.transposed(), 2.25) < 1e-13);
    Tensor single(shape);
    initialize::orthogonal(single, rng);
    CHECK(orthogonality_error(tall ? single : single.transposed(), 1) < 1e-6);
  }
  Parameter gates({8, 32}, float64);
  initialize::orthogonal(gates, rng, {.blocks = 4});
  for (Index k = 0; k < 4; ++k) CHECK(orthogonality_error(columns_of(gates.value(), 8 * k, 8 * (k + 1)), 1) < 1e-14);
  CHECK_FALSE(same_bits(columns_of(gates.value(), 0, 8), columns_of(gates.value(), 8, 16)));
  Tensor none({0, 4});
  initialize::orthogonal(none, rng);
}

TEST_CASE("orthogonal matrices are drawn from the Haar measure: every direction and sign alike") {
  // Of a Haar matrix of size n, each element has mean 0 and mean square 1 / n, and the trace mean 0 and variance 1.
  // Without the signs, Householder's R has a diagonal below 0, and the trace's mean is far from 0.
  Generator rng(1);
  constexpr Index n = 4, draws = 4000;
  std::array<double, n * n> sum{}, squares{};
  double trace_sum = 0, trace_squares = 0;
  for (Index i = 0; i < draws; ++i) {
    Tensor W({n, n}, float64);
    initialize::orthogonal(W, rng);
    double trace = 0;
    for (Index k = 0; k < n * n; ++k) {
      const double w = W.data<double>()[k];
      sum[static_cast<std::size_t>(k)] += w / draws;
      squares[static_cast<std::size_t>(k)] += w * w / draws;
      if (k % (n + 1) == 0) trace += w;
    }
    trace_sum += trace / draws;
    trace_squares += trace * trace / draws;
  }
  for (double mean : sum) CHECK(std::abs(mean) < 5 * 0.5 / std::sqrt(draws));
  for (double square : squares) CHECK(std::abs(square - 0.25) < 5 * 0.25 / std::sqrt(draws));
  CHECK(std::abs(trace_sum) < 5 / std::sqrt(draws));
  CHECK(std::abs(trace_squares - 1) < 5 * std::sqrt(2.0 / draws));
}

TEST_CASE("identity: the gain on the diagonal of each block") {
  Tensor W = Tensor::full({3, 6}, 7), wide = Tensor::full({2, 3}, 7), tall = Tensor::full({3, 2}, 7);
  initialize::identity(W, {.gain = 0.5, .blocks = 2});
  CHECK(same_bits(W, Tensor({3, 6}, {.5, 0, 0, .5, 0, 0, 0, .5, 0, 0, .5, 0, 0, 0, .5, 0, 0, .5})));
  initialize::identity(wide);
  CHECK(same_bits(wide, Tensor({2, 3}, {1, 0, 0, 0, 1, 0})));
  initialize::identity(tall);
  CHECK(same_bits(tall, Tensor({3, 2}, {1, 0, 0, 1, 0, 0})));
}

TEST_CASE("a block is filled alone, in a matrix and in a bias") {
  Tensor b({8}), W({2, 6}), part({2, 4}), x({2, 2, 4});
  initialize::constant(initialize::block(b, 1, 4), 1);
  CHECK(same_bits(b, Tensor({8}, {0, 0, 1, 1, 0, 0, 0, 0})));
  initialize::constant(initialize::block(W, 2, 3), 2);
  CHECK(same_bits(W, Tensor({2, 6}, {0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 2, 2})));
  initialize::constant(initialize::Target(W).columns(1, 4).columns(1, 2), 3);  // counted from the part's own first
  CHECK(same_bits(W, Tensor({2, 6}, {0, 0, 3, 0, 2, 2, 0, 0, 3, 0, 2, 2})));
  initialize::constant(initialize::block(x, 0, 4), 1);
  CHECK(same_bits(x, Tensor({2, 2, 4}, {1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0})));
}

TEST_CASE("the same seed gives the same bits; both types the same numbers; another seed others") {
  using Fill = std::function<void(const initialize::Target&, Generator&)>;
  const std::vector<Fill> all = {
      [](const initialize::Target& t, Generator& g) { initialize::uniform(t, g, -1, 2); },
      [](const initialize::Target& t, Generator& g) { initialize::normal(t, g); },
      [](const initialize::Target& t, Generator& g) { initialize::truncated_normal(t, g); },
      [](const initialize::Target& t, Generator& g) { initialize::xavier_uniform(t, g); },
      [](const initialize::Target& t, Generator& g) { initialize::xavier_normal(t, g, {.blocks = 2}); },
      [](const initialize::Target& t, Generator& g) { initialize::kaiming_uniform(t, g); },
      [](const initialize::Target& t, Generator& g) { initialize::kaiming_normal(t, g); },
      [](const initialize::Target& t, Generator& g) { initialize::lecun_uniform(t, g); },
      [](const initialize::Target& t, Generator& g) { initialize::lecun_normal(t, g); },
      [](const initialize::Target& t, Generator& g) { initialize::orthogonal(t, g, {.blocks = 2}); },
  };
  for (std::size_t i = 0; i < all.size(); ++i) {
    CAPTURE(i);
    Generator a(1), b(1), c(2), d(1);
    Tensor first({6, 8}), second({6, 8}), third({6, 8}), wide({6, 8}, float64);
    all[i](first, a);
    all[i](second, b);
    all[i](third, c);
    all[i](wide, d);
    CHECK(same_bits(first, second));
    CHECK_FALSE(same_bits(first, third));
    CHECK(same_bits(first, wide.to(float32)));
    CHECK(a == d);
    all[i](second, b);  // the generator has moved on
    CHECK_FALSE(same_bits(first, second));
  }
}

TEST_CASE("filling a parameter counts as a change, which tapes with a copy of it see") {
  Parameter W({3, 2});
  const initialize::Target target(W);
  const std::uint64_t before = W.version();
  initialize::constant(target, 2);
  CHECK(W.version() > before);
}

TEST_CASE("from_file: an entry, converted, transposed where the file is PyTorch's") {
  const std::filesystem::path path = std::filesystem::temp_directory_path() / "unroll_test_initialize.safetensors";
  const Tensor vectors = random_tensor({4, 3}, 1);
  write_safetensors(path, TensorFile{{{"vectors", vectors}, {"square", random_tensor({2, 2}, 2)}}, {}});
  Parameter W("embedding.weight", Tensor({4, 3}));
  initialize::from_file(W, path, "vectors");
  CHECK(same_bits(W.value(), vectors.to(float32)));
  Tensor transposed({3, 4}, float64);
  initialize::from_file(transposed, path, "vectors", {.transposed = true});
  CHECK(same_bits(transposed, vectors.transposed()));

  CHECK_ERROR(initialize::from_file(W, path, "vector"), "no \"vector\" for embedding.weight", "square", "vectors");
  CHECK_ERROR(initialize::from_file(W, path, "square"), "\"square\"", "[2, 2]", "embedding.weight is [4, 3]");
  CHECK_ERROR(initialize::from_file(W, path, "vectors", {.transposed = true}), "[4, 3], to be transposed");
  CHECK_ERROR(initialize::from_file(W, path.string() + ".missing", "vectors"), "unroll_test_initialize");
  CHECK(same_bits(W.value(), vectors.to(float32)));
  std::filesystem::remove(path);
}

TEST_CASE("initialisers: bad input is one clear line with the parameter's name, and changes nothing") {
  Generator rng(1);
  Parameter W("head.weight", Tensor::full({4, 6}, 7)), b("head.bias", Tensor({6}));
  const Generator before = rng;
  CHECK_ERROR(initialize::uniform(W, rng, 1, -1), "initialize::uniform", "head.weight", "1 and -1");
  CHECK_ERROR(initialize::uniform(W, rng, 0, std::numeric_limits<double>::infinity()), "head.weight", "finite");
  CHECK_ERROR(initialize::normal(W, rng, 0, -1), "initialize::normal", "head.weight", "std -1");
  CHECK_ERROR(initialize::truncated_normal(W, rng, 0, 1, 0), "initialize::truncated_normal", "at least 0.1");
  CHECK_ERROR(initialize::truncated_normal(W, rng, 0, std::nan(""), 2), "initialize::truncated_normal", "std nan");
  CHECK_ERROR(initialize::constant(W, std::nan("")), "initialize::constant", "nan");
  CHECK_ERROR(initialize::xavier_uniform(b, rng), "initialize::xavier_uniform", "head.bias is [6]", "matrix");
  CHECK_ERROR(initialize::kaiming_normal(b, rng), "initialize::kaiming_normal", "matrix");
  CHECK_ERROR(initialize::lecun_normal(W, rng, {.gain = 0}), "initialize::lecun_normal", "gain for head.weight is 0");
  CHECK_ERROR(initialize::orthogonal(b, rng), "initialize::orthogonal", "matrix");
  CHECK_ERROR(initialize::orthogonal(W, rng, {.blocks = 4}), "head.weight is [4, 6]", "4 equal blocks");
  CHECK_ERROR(initialize::orthogonal(W, rng, {.blocks = 0}), "0 equal blocks");
  CHECK_ERROR(initialize::identity(W, {.gain = -1}), "initialize::identity", "-1");
  CHECK_ERROR(initialize::block(W, 2, 2), "head.weight has no block 2", "0 to 1");
  CHECK_ERROR(initialize::block(W, -1, 2), "no block -1");
  CHECK_ERROR(initialize::Target(W).columns(3, 7), "head.weight is [4, 6]", "columns 3 to 6");
  CHECK_ERROR(initialize::Target(W).assign(Tensor({4, 5})), "[4, 5]", "[4, 6]");
  CHECK(same_bits(W.value(), Tensor::full({4, 6}, 7)));
  CHECK(rng == before);
}
