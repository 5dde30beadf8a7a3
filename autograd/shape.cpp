#include <autograd/shape.h>

#include <fmt/ranges.h>

#include <algorithm>

namespace unroll {

Shape::Shape(std::span<const Index> sizes) {
  if (sizes.size() > static_cast<std::size_t>(max_rank))
    fail("Shape: {} axes were given; a tensor has at most {}", sizes.size(), max_rank);
  bool empty = false;
  for (Index size : sizes) {
    if (size < 0) fail("Shape: the sizes [{}] hold a negative one", fmt::join(sizes, ", "));
    empty |= size == 0;
    sizes_[static_cast<std::size_t>(rank_++)] = size;
    if (size != 0 && __builtin_mul_overflow(count_, size, &count_))
      fail("Shape: [{}] has more elements than fit in 64 bits", fmt::join(sizes, ", "));
  }
  if (empty) count_ = 0;
}

Index Shape::rows() const {
  Index rows = 1;
  for (int i = 0; i + 1 < rank_; ++i) rows *= (*this)[i];
  return rows;
}

int Shape::axis(int axis, std::string_view function, Source where) const {
  int result = axis < 0 ? axis + rank_ : axis;
  if (result < 0 || result >= rank_)
    fail_at(where, "{}: axis {} of a tensor of shape {}; its axes are {} to {}", function, axis, *this, -rank_,
            rank_ - 1);
  return result;
}

Shape Shape::with(int axis, Index size) const {
  auto sizes = sizes_;
  sizes[static_cast<std::size_t>(axis)] = size;
  return Shape(std::span<const Index>(sizes.data(), static_cast<std::size_t>(rank_)));
}

Shape Shape::without(int axis) const {
  std::array<Index, max_rank> sizes{};
  std::copy_n(begin(), axis, sizes.begin());
  std::copy(begin() + axis + 1, end(), sizes.begin() + axis);
  return Shape(std::span<const Index>(sizes.data(), static_cast<std::size_t>(rank_ - 1)));
}

Shape Shape::insert(int axis, Index size) const {
  std::array<Index, max_rank + 1> sizes{};
  std::copy_n(begin(), axis, sizes.begin());
  sizes[static_cast<std::size_t>(axis)] = size;
  std::copy(begin() + axis, end(), sizes.begin() + axis + 1);
  return Shape(std::span<const Index>(sizes.data(), static_cast<std::size_t>(rank_ + 1)));
}

std::string to_string(const Shape& shape) { return fmt::format("[{}]", fmt::join(shape.sizes(), ", ")); }

Layout::Layout(const Shape& s) : shape(s) {
  Index stride = 1;
  for (int i = s.rank() - 1; i >= 0; --i) {
    strides[static_cast<std::size_t>(i)] = stride;
    stride *= std::max<Index>(s[i], 1);
  }
}

bool Layout::contiguous() const {
  if (shape.count() == 0) return true;
  Index expected = 1;
  for (int i = shape.rank() - 1; i >= 0; --i) {
    if (shape[i] != 1 && stride(i) != expected) return false;
    expected *= shape[i];
  }
  return true;
}

bool Layout::rowwise() const {
  int last = shape.rank() - 1;
  if (last < 0 || shape.count() == 0) return true;
  if (shape[last] > 1 && stride(last) != 1) return false;
  Index expected = -1;  // known once the innermost row axis longer than 1 is met
  for (int i = last - 1; i >= 0; --i) {
    if (shape[i] == 1) continue;
    if (expected >= 0 && stride(i) != expected) return false;
    if (expected < 0 && stride(i) < shape[last]) return false;
    expected = stride(i) * shape[i];
  }
  return true;
}

Index Layout::row_stride() const {
  for (int i = shape.rank() - 2; i >= 0; --i)
    if (shape[i] != 1) return stride(i);
  return shape.columns();
}

Shape broadcast(const Shape& a, const Shape& b, std::string_view function, Source where) {
  if (a == b) return a;
  int rank = std::max(a.rank(), b.rank());
  std::array<Index, max_rank> sizes{};
  for (int i = 1; i <= rank; ++i) {
    Index m = i <= a.rank() ? a[a.rank() - i] : 1;
    Index n = i <= b.rank() ? b[b.rank() - i] : 1;
    if (m != n && m != 1 && n != 1)
      fail_at(where, "{}: shapes {} and {} do not broadcast; sizes must agree from the last axis, or be 1", function, a,
              b);
    sizes[static_cast<std::size_t>(rank - i)] = m == 1 ? n : m;
  }
  return Shape(std::span<const Index>(sizes.data(), static_cast<std::size_t>(rank)));
}

}  // namespace unroll
