#include <examples/common/sampling.h>

#include <doctest/doctest.h>

#include <array>
#include <cmath>

using namespace unroll;
using namespace unroll::examples;

TEST_CASE("classes are drawn as often as softmax says") {
  const Tensor logits({3}, {std::log(1.0), std::log(6.0), std::log(3.0)});
  auto share = [&](double temperature, Index top_k) {
    Generator rng(1);
    std::array<double, 3> count{};
    for (int i = 0; i < 20000; ++i)
      count[static_cast<std::size_t>(draw(logits, temperature, top_k, rng))] += 1 / 20000.0;
    return count;
  };
  CHECK(share(1, 0)[0] == doctest::Approx(0.1).epsilon(0.1));
  CHECK(share(1, 0)[1] == doctest::Approx(0.6).epsilon(0.02));
  CHECK(share(0.5, 0)[1] == doctest::Approx(36.0 / 46).epsilon(0.02));
  CHECK(share(1, 2)[0] == 0);
  CHECK(share(1, 2)[1] == doctest::Approx(2.0 / 3).epsilon(0.02));
  CHECK(share(1, 1)[1] == doctest::Approx(1));
  CHECK(share(0, 0)[1] == doctest::Approx(1));
  CHECK(share(1, 99)[0] == doctest::Approx(0.1).epsilon(0.1));
}

TEST_CASE("tiny temperatures and huge logits stay finite") {
  Generator rng(1);
  CHECK(draw(Tensor({3}, {1e30, -1e30, 3e38}), 1e-9, 0, rng) == 2);
}
