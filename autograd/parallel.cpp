#include <autograd/parallel.h>

#include <oneapi/tbb/global_control.h>
#include <oneapi/tbb/parallel_for.h>
#include <oneapi/tbb/task_arena.h>
#include <oneapi/tbb/task_group.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

namespace unroll::detail {

Index threads() {
  if (UNROLL_THREAD_SANITIZER) return 2;
  // An arena has as many slots as there are processors, also when a global_control allows fewer threads.
  const auto allowed = tbb::global_control::active_value(tbb::global_control::max_allowed_parallelism);
  return std::min<Index>(tbb::this_task_arena::max_concurrency(), static_cast<Index>(allowed));
}

void run_blocks(Index blocks, void (*call)(void* what, Index block), void* what) {
  if (UNROLL_THREAD_SANITIZER || threads() == 1) {  // oneTBB is not instrumented
    for (Index block = 0; block < blocks; ++block) call(what, block);
    return;
  }
  tbb::this_task_arena::isolate([&] {
    tbb::parallel_for(
        Index{0}, blocks, [=](Index block) { call(what, block); }, tbb::static_partitioner());
  });
}

namespace {

constexpr auto patience = std::chrono::microseconds(100);

void pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#else
  std::this_thread::yield();
#endif
}

}  // namespace

/// Work comes in rounds. In each its blocks are divided into as many shares as there are threads; every block is
/// claimed once, by the thread that its share is meant for or by one that has nothing left to do, and the round ends
/// when all are done. A share holds the number of its round, so that a thread that comes late for a round can claim
/// nothing of the next, and reads what the round is about only after it has claimed something.
struct Team::State {
  struct alignas(64) Share {
    static constexpr int bits = 24;
    std::atomic<std::uint64_t> left{0};  ///< the round, and in the lower bits the number of blocks not yet claimed
    std::atomic<bool> has_helper{false};

    void fill(std::uint64_t round, Index blocks) {
      left.store(round << bits | static_cast<std::uint64_t>(blocks), std::memory_order_release);
    }
    /// How many blocks were left, this one included; 0: none is.
    Index claim(std::uint64_t round) {
      std::uint64_t seen = left.load(std::memory_order_acquire);
      while (seen >> bits == round && seen << (64 - bits) != 0)
        if (left.compare_exchange_weak(seen, seen - 1, std::memory_order_acq_rel))
          return static_cast<Index>(seen & ((std::uint64_t{1} << bits) - 1));
      return 0;
    }
  };

  explicit State(Index threads) : shares(static_cast<std::size_t>(threads)) {}

  std::vector<Share> shares;
  alignas(64) std::atomic<std::uint64_t> round{0};
  Index blocks = 0;
  Call call = nullptr;
  void* what = nullptr;
  alignas(64) std::atomic<Index> done{0};  ///< blocks of the round
  std::atomic<bool> dismissed{false};
#if UNROLL_THREAD_SANITIZER
  std::vector<std::thread> tasks;  // oneTBB is not instrumented
#else
  tbb::task_group tasks;
#endif

  /// Does what is left of a round, beginning with the share meant for this thread.
  void work(std::uint64_t current, std::size_t own) {
    const std::size_t n = shares.size();
    for (std::size_t i = 0; i < n; ++i) {
      const std::size_t share = (own + i) % n;
      Index claimed = 0;
      for (Index left = 0; (left = shares[share].claim(current)) > 0; ++claimed) call(what, end_of(share) - left);
      if (claimed > 0) done.fetch_add(claimed, std::memory_order_release);
    }
  }
  /// The first block that is not of this share any more.
  Index end_of(std::size_t share) const {
    return blocks * static_cast<Index>(share + 1) / static_cast<Index>(shares.size());
  }

  void help(std::size_t own) {
    std::uint64_t seen = 0;
    auto since = std::chrono::steady_clock::now();
    for (int spins = 0; !dismissed.load(std::memory_order_relaxed); ++spins) {
      const std::uint64_t current = round.load(std::memory_order_acquire);
      if (current != seen) {
        work(current, own);
        seen = current;
        spins = 0;
        since = {};
      } else if (spins % 64 == 63) {
        const auto now = std::chrono::steady_clock::now();
        if (since == std::chrono::steady_clock::time_point{}) since = now;
        if (now - since > patience) break;
      }
      pause();
    }
    shares[own].has_helper.store(false, std::memory_order_release);
  }

  void call_helpers() {
    dismissed.store(false, std::memory_order_relaxed);
    for (std::size_t own = 1; own < shares.size(); ++own) {
      if (shares[own].has_helper.load(std::memory_order_acquire)) continue;
      shares[own].has_helper.store(true, std::memory_order_relaxed);
#if UNROLL_THREAD_SANITIZER
      tasks.emplace_back([this, own] { help(own); });
#else
      tasks.run([this, own] { help(own); });
#endif
    }
  }

  ~State() {
    dismissed = true;
#if UNROLL_THREAD_SANITIZER
    for (std::thread& task : tasks) task.join();
#else
    tasks.wait();
#endif
  }
};

Team::Team() = default;
Team::Team(Alone) : alone_(true) {}
Team::~Team() = default;

void Team::run(Index blocks, Call call, void* what) {
  if (blocks >= Index{1} << State::Share::bits) return run_blocks(blocks, call, what);
  const auto n = static_cast<std::size_t>(threads());
  if (state_ == nullptr || state_->shares.size() != n) state_ = std::make_unique<State>(static_cast<Index>(n));
  State& state = *state_;
  state.call_helpers();
  state.blocks = blocks;
  state.call = call;
  state.what = what;
  state.done.store(0, std::memory_order_relaxed);
  const std::uint64_t current = state.round.load(std::memory_order_relaxed) + 1;
  for (std::size_t share = 0; share < n; ++share)
    state.shares[share].fill(current, state.end_of(share) - (share == 0 ? 0 : state.end_of(share - 1)));
  state.round.store(current, std::memory_order_release);
  state.work(current, 0);
  // On a busy machine the thread waited for may itself be waiting for a processor: this one's.
  for (int spins = 0; state.done.load(std::memory_order_acquire) != blocks; ++spins)
    spins < 1000 ? pause() : std::this_thread::yield();
}

void Team::dismiss() {
  if (state_ != nullptr) state_->dismissed.store(true, std::memory_order_relaxed);
}

}  // namespace unroll::detail
