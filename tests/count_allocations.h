#pragma once

// Counts heap allocations, by replacing malloc in the whole program: to be included in one of its files.

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define UNROLL_COUNTS_ALLOCATIONS 0  // the sanitizers replace malloc themselves
#elif defined(__has_feature)
#define UNROLL_COUNTS_ALLOCATIONS !(__has_feature(address_sanitizer) || __has_feature(thread_sanitizer))
#else
#define UNROLL_COUNTS_ALLOCATIONS 1
#endif

#include <atomic>
#include <cerrno>
#include <cstdlib>

#if UNROLL_COUNTS_ALLOCATIONS && defined(__GLIBC__)

namespace unroll::testing {

std::atomic<bool> counting{false};
std::atomic<long> allocations{0};

/// The number of allocations while f runs, on all threads.
template <class F>
long allocations_of(F&& f) {
  allocations = 0;
  counting = true;
  f();
  counting = false;
  return allocations;
}

inline void count_allocation() {
  if (counting) ++allocations;
}

}  // namespace unroll::testing

// operator new calls malloc, so it is counted by it.
extern "C" {
void* __libc_malloc(std::size_t);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
void* __libc_memalign(std::size_t, std::size_t);

void* malloc(std::size_t size) {
  unroll::testing::count_allocation();
  return __libc_malloc(size);
}
void* calloc(std::size_t n, std::size_t size) {
  unroll::testing::count_allocation();
  return __libc_calloc(n, size);
}
void* realloc(void* old, std::size_t size) {
  unroll::testing::count_allocation();
  return __libc_realloc(old, size);
}
void* memalign(std::size_t alignment, std::size_t size) {
  unroll::testing::count_allocation();
  return __libc_memalign(alignment, size);
}
void* aligned_alloc(std::size_t alignment, std::size_t size) {
  unroll::testing::count_allocation();
  return __libc_memalign(alignment, size);
}
int posix_memalign(void** memory, std::size_t alignment, std::size_t size) {
  unroll::testing::count_allocation();
  *memory = __libc_memalign(alignment, size);
  return *memory == nullptr ? ENOMEM : 0;
}
}

#endif
