#pragma once

#include <autograd/shape.h>

#include <oneapi/tbb/parallel_for.h>
#include <oneapi/tbb/task_arena.h>

#if defined(__SANITIZE_THREAD__)
#define UNROLL_THREAD_SANITIZER 1
#elif defined(__has_feature)
#define UNROLL_THREAD_SANITIZER __has_feature(thread_sanitizer)
#else
#define UNROLL_THREAD_SANITIZER 0
#endif

#if UNROLL_THREAD_SANITIZER
#include <future>
#endif

namespace unroll::detail {

/// Elements of an element-wise pass that are worth handing to another thread: some 4 microseconds, where handing them
/// over and waiting takes 2.
inline constexpr Index parallel_grain = 1 << 11;

/// The number of threads that for_each_block may use.
inline Index threads() { return UNROLL_THREAD_SANITIZER ? 2 : tbb::this_task_arena::max_concurrency(); }

/// Calls `f(block)` for every block, in parallel. How the work is cut into blocks must follow from the
/// problem's shape alone, never from the number of threads: that makes results the same bits on any.
/// The wait is isolated, so that a waiting thread takes no unrelated task.
template <class F>
void for_each_block(Index blocks, F&& f) {
  if (blocks <= 1) {
    if (blocks == 1) f(Index{0});
    return;
  }
#if UNROLL_THREAD_SANITIZER
  // oneTBB is not instrumented: two threads share the blocks instead, so that every race reported is ours.
  auto second_half = std::async(std::launch::async, [&] {
    for (Index block = blocks / 2; block < blocks; ++block) f(block);
  });
  for (Index block = 0; block < blocks / 2; ++block) f(block);
  second_half.get();
#else
  if (threads() == 1) {
    for (Index block = 0; block < blocks; ++block) f(block);
    return;
  }
  // The static partitioner gives a thread the same blocks every time: what they read stays in its core's cache.
  tbb::this_task_arena::isolate([&] {
    tbb::parallel_for(
        tbb::blocked_range<Index>(0, blocks, 1),
        [&](const tbb::blocked_range<Index>& range) {
          for (Index block = range.begin(); block < range.end(); ++block) f(block);
        },
        tbb::static_partitioner());
  });
#endif
}

}  // namespace unroll::detail
