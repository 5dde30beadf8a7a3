#include <examples/common/windows.h>

#include <doctest/doctest.h>

#include <numeric>

using namespace unroll;
using namespace unroll::examples;

namespace {

std::vector<std::int32_t> count_to(std::int32_t n) {
  std::vector<std::int32_t> tokens(static_cast<std::size_t>(n));
  std::iota(tokens.begin(), tokens.end(), 0);
  return tokens;
}

std::vector<std::int32_t> list(const Indices& indices) { return {indices.values().begin(), indices.values().end()}; }

}  // namespace

TEST_CASE("the windows of the document's example") {
  const auto tokens = count_to(9);
  Windows windows(tokens, 2, 2);
  REQUIRE(windows.count() == 2);
  auto [inputs, targets] = windows[0];
  CHECK(inputs.shape() == Shape{2, 2});
  CHECK(list(inputs) == std::vector<std::int32_t>{0, 4, 1, 5});
  CHECK(list(targets) == std::vector<std::int32_t>{1, 5, 2, 6});
  auto second = windows[1];
  CHECK(list(second.inputs) == std::vector<std::int32_t>{2, 6, 3, 7});
  CHECK(list(second.targets) == std::vector<std::int32_t>{3, 7, 4, 8});
}

TEST_CASE("every target is its input's successor, and every stream goes on from window to window") {
  const auto tokens = count_to(1000);
  for (auto rest : {Windows::Rest::drop, Windows::Rest::keep}) {
    Windows windows(tokens, 7, 13, rest);
    std::vector<std::int32_t> next(7, -1);
    Index seen = 0;
    for (Index k = 0; k < windows.count(); ++k) {
      auto [inputs, targets] = windows[k];
      for (Index i = 0; i < inputs.size(); ++i) {
        CHECK(targets[i] == inputs[i] + 1);
        auto& expected = next[static_cast<std::size_t>(i % 7)];
        if (expected >= 0) CHECK(inputs[i] == expected);
        expected = targets[i];
        ++seen;
      }
    }
    CHECK(seen == windows.tokens());
    if (rest == Windows::Rest::keep) CHECK(seen == 999 / 7 * 7);
  }
}

TEST_CASE("a batch or window that does not fit is refused") {
  const auto tokens = count_to(64);
  CHECK_THROWS_WITH_AS(Windows(tokens, 8, 8), doctest::Contains("at least 65 are needed"), Error);
  CHECK_THROWS_AS(Windows(tokens, 64, 8, Windows::Rest::keep), Error);
  CHECK_THROWS_AS(Windows(tokens, 0, 8), Error);
  CHECK_THROWS_AS(Windows({}, 1, 1), Error);
  CHECK(Windows(tokens, 8, 7).count() == 1);
  CHECK(Windows(tokens, 63, 8, Windows::Rest::keep).count() == 1);
}
