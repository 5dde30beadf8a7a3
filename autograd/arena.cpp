#include <autograd/arena.h>

#include <algorithm>
#include <cstdlib>
#include <new>

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace unroll::detail {

namespace {
constexpr std::size_t smallest_block = std::size_t{1} << 20;
constexpr std::size_t huge_page = std::size_t{1} << 21;
constexpr std::size_t largest_growth = std::size_t{1} << 28;
}  // namespace

void Arena::Free::operator()(std::byte* memory) const noexcept { std::free(memory); }

void Arena::enter(std::size_t block, std::size_t used) {
  block_ = block;
  used_ = used;
  memory_ = blocks_[block].memory.get();
  capacity_ = blocks_[block].size;
}

void* Arena::allocate_in_next_block(std::size_t bytes) {
  std::size_t next = blocks_.empty() ? 0 : block_ + 1;
  while (next < blocks_.size() && blocks_[next].size < bytes) ++next;
  if (next >= blocks_.size()) {
    std::size_t growth = std::clamp(capacity(), smallest_block, largest_growth);
    std::size_t alignment = std::max(bytes, growth) < huge_page ? 64 : huge_page;
    std::size_t size = (std::max(bytes, growth) + alignment - 1) / alignment * alignment;
    if (size < bytes) throw std::bad_alloc();
    Block block{std::unique_ptr<std::byte, Free>(static_cast<std::byte*>(std::aligned_alloc(alignment, size))), size};
#ifdef __linux__
    // Rows of a large matrix lie a page apart or more: with pages of 4 KiB each would need its own address translation.
    if (block.memory && alignment == huge_page) madvise(block.memory.get(), size, MADV_HUGEPAGE);
#endif
    if (!block.memory) throw std::bad_alloc();
    next = blocks_.size();
    blocks_.push_back(std::move(block));
  }
  enter(next, bytes);
  return memory_;
}

void Arena::rewind_to(Mark mark) {
  if (!blocks_.empty()) enter(mark.block, mark.used);
}

std::size_t Arena::used() const {
  std::size_t bytes = used_;
  for (std::size_t i = 0; i < block_; ++i) bytes += blocks_[i].size;
  return bytes;
}

std::size_t Arena::capacity() const {
  std::size_t bytes = 0;
  for (const Block& block : blocks_) bytes += block.size;
  return bytes;
}

std::size_t BufferPool::class_bytes(std::size_t size_class) {
  if (size_class == 0) return 64;
  std::size_t exponent = (size_class - 1) / 4 + 6, quarter = (size_class - 1) % 4;
  return (std::size_t{1} << exponent) + ((quarter + 1) << (exponent - 2));
}

void BufferPool::clear() {
  if (arena_.used() == 0) return;
  arena_.clear();
  free_.fill(nullptr);
}

}  // namespace unroll::detail
