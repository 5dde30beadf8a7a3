#pragma once

#include <autograd/shape.h>

#include <cstdint>
#include <vector>

namespace unroll {

/// Whole numbers with a shape: token ids, classes. A view: the caller's memory must outlive the call it is
/// passed to, no longer (what a backward needs is copied).
class Indices {
 public:
  Indices(std::span<const std::int32_t> values)  // NOLINT(google-explicit-constructor)
      : Indices(values, Shape{static_cast<Index>(values.size())}) {}
  Indices(const std::vector<std::int32_t>& values) : Indices(std::span(values)) {}  // NOLINT
  /// Throws Error when the count is not the shape's.
  Indices(std::span<const std::int32_t> values, const Shape& shape) : values_(values), shape_(shape) {
    if (static_cast<Index>(values.size()) != shape.count())
      fail("Indices: {} values for shape {}, which has {}", values.size(), shape, shape.count());
  }

  const Shape& shape() const { return shape_; }
  Index size() const { return shape_.count(); }
  std::int32_t operator[](Index i) const { return values_[static_cast<std::size_t>(i)]; }
  std::span<const std::int32_t> values() const { return values_; }

 private:
  std::span<const std::int32_t> values_;
  Shape shape_;
};

}  // namespace unroll
