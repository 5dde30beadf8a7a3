// Dropout: how much, what differs, what repeats.

#include <autograd/autograd.h>
#include <layers/layers.h>
#include <tests/support.h>

#include <doctest/doctest.h>
#include <oneapi/tbb/global_control.h>

#include <set>

using namespace unroll;
using namespace unroll::testing;

namespace {

Tensor dropped(Dropout& dropout, const Tensor& x) {
  Tape tape;
  return Tensor(dropout(tape.constant(x)).value());
}

}  // namespace

TEST_CASE("Dropout keeps the mean: p of the elements are 0, the others are divided by 1 - p") {
  for (double p : {0.1, 0.5, 0.9}) {
    Generator rng(1);
    Dropout dropout(p, rng);
    CHECK(dropout.p() == p);
    const Index n = 200'000;
    const Tensor y = dropped(dropout, Tensor::full({n}, 2, float64));
    Index zeros = 0, wrong = 0;
    double total = 0;
    for (double v : y.to_vector()) {
      if (v == 0)
        ++zeros;
      else if (std::abs(v - 2 / (1 - p)) > 1e-14)
        ++wrong;
      total += v;
    }
    CHECK(wrong == 0);
    // Five standard errors.
    const double error = 5 * std::sqrt(p * (1 - p) / static_cast<double>(n));
    CHECK(std::abs(static_cast<double>(zeros) / static_cast<double>(n) - p) < error);
    CHECK(std::abs(total / static_cast<double>(n) - 2) < 2 * error / (1 - p));
  }
}

TEST_CASE("Dropout: masks differ over time, over the batch and between calls") {
  Generator rng(1);
  Dropout dropout(0.5, rng), other(0.5, rng);
  const Tensor ones = Tensor::full({4, 4, 64}, 1);
  const Tensor a = dropped(dropout, ones), b = dropped(dropout, ones), c = dropped(other, ones);
  CHECK_FALSE(same_bits(a, b));
  CHECK_FALSE(same_bits(a, c));
  CHECK_FALSE(same_bits(b, c));
  std::set<std::vector<double>> rows;
  const std::vector<double> all = a.to_vector();
  for (auto row = all.begin(); row != all.end(); row += 64) rows.emplace(row, row + 64);
  CHECK(rows.size() == 16);
}

TEST_CASE("Dropout drops nothing in evaluation and with p = 0, and draws nothing then") {
  Generator rng(1);
  Dropout dropout(0.5, rng), never(0, rng);
  const Tensor x = random_tensor({3, 50}, 1, -1, 1, float32);
  const Generator before = *dropout.generators()[0].second;
  dropout.eval();
  CHECK(same_bits(dropped(dropout, x), x));
  CHECK(same_bits(dropped(never, x), x));
  CHECK(*dropout.generators()[0].second == before);
  dropout.train();
  CHECK_FALSE(same_bits(dropped(dropout, x), x));
  CHECK_FALSE(*dropout.generators()[0].second == before);
}

TEST_CASE("Dropout: the gradient is the mask") {
  Generator rng(1);
  Dropout dropout(0.25, rng);
  Tape tape;
  Var x = tape.variable(Tensor::full({20, 30}, 1, float64));
  Var y = dropout(x);
  const Tensor dy = random_tensor({20, 30}, 2);
  tape.backward(y, dy);
  std::vector<double> expected = y.value().to_vector();
  for (std::size_t i = 0; i < expected.size(); ++i) expected[i] *= dy.data<double>()[i];
  CHECK(relative_error(x.grad(), Tensor({20, 30}, expected, float64)) < 1e-15);
}

TEST_CASE("Dropout takes any batch size after any other") {
  Generator rng(1);
  Dropout dropout(0.5, rng);
  for (Index batch : {4, 7, 1, 0, 4}) CHECK(dropped(dropout, Tensor({3, batch, 5})).shape() == Shape{3, batch, 5});
}

TEST_CASE("Dropout depends on the seed and on the stream's position alone") {
  const Tensor ones = Tensor::full({64, 1000}, 1);
  Generator a(1), b(1), c(2);
  Dropout first(0.5, a), second(0.5, b), third(0.5, c);
  const Tensor y = dropped(first, ones);
  CHECK(same_bits(dropped(second, ones), y));
  CHECK_FALSE(same_bits(dropped(third, ones), y));

  // A saved stream goes on where it was.
  const Generator saved = *first.generators()[0].second;
  const Tensor next = dropped(first, ones);
  *third.generators()[0].second = saved;
  CHECK(same_bits(dropped(third, ones), next));

  // Nor on the number of threads.
  for (std::size_t threads : {1, 2, 4}) {
    tbb::global_control limit(tbb::global_control::max_allowed_parallelism, threads);
    Generator d(1);
    Dropout fourth(0.5, d);
    CHECK(same_bits(dropped(fourth, ones), y));
  }
}

TEST_CASE("Dropout of an empty Var is one clear line") {
  Generator rng(1);
  Dropout dropout(0.5, rng);
  CHECK_ERROR_HERE(dropout(Var()), "empty Var");
}

TEST_CASE("Dropout refuses what is not a probability below 1") {
  Generator rng(1);
  for (double p : {-0.1, 1.0, 1.5, std::nan("")}) CHECK_ERROR(Dropout(p, rng), "Dropout", "[0, 1)");
}
