#pragma once

#include <autograd/tensor.h>

#include <array>
#include <bit>
#include <cstddef>
#include <memory>
#include <new>
#include <vector>

namespace unroll::detail {

/// Memory handed out by moving a pointer and taken back all at once. Blocks are kept, so a program that
/// asks for the same sizes again makes no heap allocation.
class Arena {
 public:
  struct Mark {
    std::size_t block = 0;
    std::size_t used = 0;
  };

  /// `bytes` of memory at a multiple of `alignment` (a power of two, at most 64). Not initialised.
  void* allocate(std::size_t bytes, std::size_t alignment = 64) {
    std::size_t start = (used_ + alignment - 1) & ~(alignment - 1);
    if (start + bytes > capacity_) return allocate_in_next_block(bytes);
    used_ = start + bytes;
    return memory_ + start;
  }
  template <class T>
  T* array(std::size_t count) {
    return static_cast<T*>(allocate(count * sizeof(T), alignof(T)));
  }

  Mark mark() const { return {block_, used_}; }
  /// Takes back everything handed out since the mark.
  void rewind_to(Mark mark);
  void clear() { rewind_to({}); }

  /// Bytes handed out and still in use, and bytes held.
  std::size_t used() const;
  std::size_t capacity() const;

 private:
  struct Free {
    void operator()(std::byte* memory) const noexcept;
  };
  struct Block {
    std::unique_ptr<std::byte, Free> memory;
    std::size_t size = 0;
  };
  void* allocate_in_next_block(std::size_t bytes);
  void enter(std::size_t block, std::size_t used);

  std::vector<Block> blocks_;
  std::size_t block_ = 0;
  std::byte* memory_ = nowhere;
  std::size_t used_ = 0;
  std::size_t capacity_ = 0;
};

/// Buffers that come and go during a sweep. A buffer given back is the next one handed out for its size,
/// so the gradients of a long loop live in a few buffers that stay in the cache.
class BufferPool {
 public:
  std::byte* allocate(std::size_t bytes) {
    const std::size_t c = size_class(bytes);
    Link* link = free_[c];
    if (link == nullptr) return static_cast<std::byte*>(arena_.allocate(class_bytes(c)));
    free_[c] = link->next;
    return reinterpret_cast<std::byte*>(link);
  }
  void release(std::byte* buffer, std::size_t bytes) {
    const std::size_t c = size_class(bytes);
    free_[c] = new (buffer) Link{free_[c]};
  }
  void clear();
  std::size_t used() const { return arena_.used(); }
  std::size_t capacity() const { return arena_.capacity(); }

 private:
  struct Link {
    Link* next;
  };
  /// Four classes to every doubling above 64 bytes: at most a quarter of a buffer is unused.
  static std::size_t size_class(std::size_t bytes) {
    if (bytes <= 64) return 0;
    const auto exponent = static_cast<std::size_t>(std::bit_width(bytes - 1)) - 1;  // 2^exponent < bytes
    const std::size_t quarter = ((bytes - 1) >> (exponent - 2)) & 3;
    return (exponent - 6) * 4 + quarter + 1;
  }
  static std::size_t class_bytes(std::size_t size_class);

  Arena arena_;
  std::array<Link*, 256> free_{};
};

}  // namespace unroll::detail
