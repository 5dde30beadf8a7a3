#pragma once

#include <autograd/shape.h>

#include <algorithm>
#include <memory>
#include <type_traits>

#if defined(__SANITIZE_THREAD__)
#define UNROLL_THREAD_SANITIZER 1
#elif defined(__has_feature)
#define UNROLL_THREAD_SANITIZER __has_feature(thread_sanitizer)
#else
#define UNROLL_THREAD_SANITIZER 0
#endif

namespace unroll::detail {

/// Elements of an element-wise pass that are worth handing to another thread: some 4 microseconds.
inline constexpr Index parallel_grain = 1 << 11;
/// The number of blocks, to the nearest, into which such a pass over so many elements may be cut.
inline Index grains(Index elements) { return std::max<Index>(1, (elements + parallel_grain / 2) / parallel_grain); }

/// The number of threads that work is shared among.
Index threads();

/// Threads that wait in a loop for the next of many short pieces of work. A step of a recurrent layer is a dozen
/// operations of some microseconds each: waking a task for every one of them would take longer than what it saves.
///
/// The threads are oneTBB's, lent for as long as work keeps coming: after a short idle time, or `dismiss`, they are
/// free for other tasks, and where none is free the caller does everything itself. One thread at a time may call.
class Team {
 public:
  Team();
  /// The calling thread alone: for what a block calls, where the team itself is busy.
  struct Alone {};
  explicit Team(Alone);
  ~Team();
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  /// Calls `f(block)` for every block; `f` must not throw. How the work is cut into blocks must follow from the
  /// problem's shape alone, unless no result depends on it: that makes results the same bits on any number of threads.
  /// Every thread gets the same blocks each time, so that what they read stays in its core's cache; only one that has
  /// none left takes over another's.
  template <class F>
  void for_each_block(Index blocks, F&& f) {
    if (blocks > 1 && size() > 1) {
      run(
          blocks, [](void* what, Index block) { (*static_cast<std::remove_reference_t<F>*>(what))(block); },
          const_cast<void*>(static_cast<const void*>(&f)));
      return;
    }
    for (Index block = 0; block < blocks; ++block) f(block);
  }
  /// The number of threads that work is shared among.
  Index size() const { return alone_ ? 1 : threads(); }
  /// Lets the threads go.
  void dismiss();

 private:
  using Call = void (*)(void* what, Index block);
  void run(Index blocks, Call call, void* what);

  struct State;
  std::unique_ptr<State> state_;
  bool alone_ = false;
};

/// Calls `call(what, block)` for every block, by oneTBB's own scheduling.
void run_blocks(Index blocks, void (*call)(void* what, Index block), void* what);

/// The same as Team's for a single long loop that comes without a tape. The wait is isolated, so that a waiting thread
/// takes no unrelated task.
template <class F>
void for_each_block(Index blocks, F&& f) {
  if (blocks > 1) {
    run_blocks(
        blocks, [](void* what, Index block) { (*static_cast<std::remove_reference_t<F>*>(what))(block); },
        const_cast<void*>(static_cast<const void*>(&f)));
    return;
  }
  for (Index block = 0; block < blocks; ++block) f(block);
}

}  // namespace unroll::detail
