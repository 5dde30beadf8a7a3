// The team of threads behind a tape's operations.

#include <autograd/parallel.h>

#include <doctest/doctest.h>

#include <oneapi/tbb/global_control.h>
#include <oneapi/tbb/parallel_for.h>

#include <algorithm>
#include <chrono>
#include <numeric>
#include <thread>
#include <vector>

using namespace unroll;
using namespace unroll::detail;

namespace {

/// True when every block was called exactly once in each of some rounds.
bool complete(Team& team, Index blocks, int rounds) {
  std::vector<int> calls(static_cast<std::size_t>(blocks));
  for (int round = 0; round < rounds; ++round)
    team.for_each_block(blocks, [&](Index block) { ++calls[static_cast<std::size_t>(block)]; });
  return std::ranges::all_of(calls, [&](int n) { return n == rounds; });
}

}  // namespace

TEST_CASE("a team does every block once, round after round, whoever comes late") {
  for (std::size_t limit : {1, 2, 5}) {
    oneapi::tbb::global_control control(oneapi::tbb::global_control::max_allowed_parallelism, limit);
    CAPTURE(limit);
    Team team;
    for (Index blocks : {0, 1, 2, 3, 7, 64}) {
      CAPTURE(blocks);
      CHECK(complete(team, blocks, 2000));
    }
  }
}

TEST_CASE("a team is there again after it was dismissed or has gone by itself") {
  Team team;
  for (int i = 0; i < 20; ++i) {
    CHECK(complete(team, 8, 10));
    team.dismiss();
    CHECK(complete(team, 8, 10));
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  for (int i = 0; i < 200; ++i) {
    Team short_lived;
    CHECK(complete(short_lived, 2, 1));
  }
}

TEST_CASE("many teams at once share what threads there are") {
  std::vector<char> ok(8);
  auto work = [&](std::size_t i) {
    Team team;
    ok[i] = complete(team, 5, 500);
  };
  std::vector<std::thread> users;
  for (std::size_t i = 0; i < 4; ++i) users.emplace_back(work, i);
  for (std::thread& user : users) user.join();
  CHECK(std::accumulate(ok.begin(), ok.end(), 0) == 4);
#if !UNROLL_THREAD_SANITIZER  // oneTBB is not instrumented
  // Inside tasks, which may be all that oneTBB has threads for.
  oneapi::tbb::parallel_for(std::size_t{4}, ok.size(), work);
  CHECK(std::accumulate(ok.begin(), ok.end(), 0) == 8);
#endif
}

TEST_CASE("what one thread writes in a round, every thread reads in the next") {
  Team team;
  std::vector<long> numbers(16, 1);
  for (int round = 0; round < 1000; ++round) {
    std::vector<long> before = numbers;
    team.for_each_block(16, [&](Index block) {
      auto i = static_cast<std::size_t>(block);
      numbers[i] = (before[i] + before[15 - i]) % 1000003;
    });
    for (std::size_t i = 0; i < 16; ++i) REQUIRE(numbers[i] == (before[i] + before[15 - i]) % 1000003);
  }
}
