#pragma once

#include <autograd/error.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>

namespace unroll {

using Index = std::int64_t;

/// The element types. A tensor's type is chosen at run time, so that a model is written once, without
/// templates, and its gradients can be checked in double precision. `dual` is not for tensors: it is what the tapes of
/// `jvp` and `hvp` compute with (see dual.h).
enum class DType : std::uint8_t { float32, float64, dual };
inline constexpr DType float32 = DType::float32;
inline constexpr DType float64 = DType::float64;

constexpr std::size_t size_of(DType type) { return std::size_t{4} << static_cast<int>(type); }
constexpr const char* name_of(DType type) { return type == float32 ? "float32" : type == float64 ? "float64" : "dual"; }

template <class T>
inline constexpr DType dtype_of = sizeof(T) == 4 ? float32 : float64;

/// Calls `f(T{})` with T = float or double: where a tensor's run-time type becomes a C++ type.
template <class F>
decltype(auto) with_type(DType type, F&& f) {
  return type == float32 ? f(float{}) : f(double{});
}

/// The largest rank of a tensor.
inline constexpr int max_rank = 6;

/// The sizes of a tensor's axes, outermost first. Rank 0 is a scalar; an axis may have size 0.
/// Throws Error on a negative size, a rank above `max_rank`, or a count of elements that overflows.
class Shape {
 public:
  constexpr Shape() = default;
  Shape(std::initializer_list<Index> sizes) : Shape(std::span<const Index>(sizes.begin(), sizes.size())) {}
  explicit Shape(std::span<const Index> sizes);

  int rank() const { return rank_; }
  /// The number of elements: the product of the sizes (1 for a scalar).
  Index count() const { return count_; }
  /// The size of an axis, 0 <= axis < rank(). Unchecked: see `axis` for the user's axes.
  Index operator[](int axis) const { return sizes_[static_cast<std::size_t>(axis)]; }
  /// The size of the last axis (1 for a scalar), and the number of such rows.
  Index columns() const { return rank_ == 0 ? 1 : (*this)[rank_ - 1]; }
  Index rows() const;
  /// An axis counted from either end made non-negative. Throws Error when out of range.
  int axis(int axis, std::string_view function, Source where = Source::here()) const;

  Shape with(int axis, Index size) const;    ///< this shape with one size replaced
  Shape without(int axis) const;             ///< this shape with one axis removed
  Shape insert(int axis, Index size) const;  ///< this shape with an axis put in before `axis`

  std::span<const Index> sizes() const { return {sizes_.data(), static_cast<std::size_t>(rank_)}; }
  const Index* begin() const { return sizes_.data(); }
  const Index* end() const { return sizes_.data() + rank_; }

  friend bool operator==(const Shape& a, const Shape& b) {
    if (a.rank_ != b.rank_) return false;
    for (int i = 0; i < a.rank_; ++i)
      if (a[i] != b[i]) return false;
    return true;
  }

 private:
  std::array<Index, max_rank> sizes_{};
  int rank_ = 0;
  Index count_ = 1;
};

/// "[32, 64]", as in error messages and printed tensors.
std::string to_string(const Shape& shape);

/// A shape and, for each axis, the distance in elements between neighbours along it.
struct Layout {
  Shape shape;
  std::array<Index, max_rank> strides{};

  Layout() = default;
  /// Row-major: the last axis is contiguous.
  Layout(const Shape& shape);  // NOLINT(google-explicit-constructor)

  Index stride(int axis) const { return strides[static_cast<std::size_t>(axis)]; }
  /// True when the elements lie in memory one after another in row-major order.
  bool contiguous() const;
  /// True when the tensor is `shape.rows()` rows of contiguous elements a fixed distance apart: what a
  /// matrix product or a row-wise kernel can read. The distance is `row_stride()`.
  bool rowwise() const;
  Index row_stride() const;
};

/// The shape of an element-wise operation between `a` and `b`: axes are matched from the last, and a
/// missing axis or one of size 1 is repeated. Throws Error when two sizes differ and neither is 1.
Shape broadcast(const Shape& a, const Shape& b, std::string_view function, Source where = Source::here());

}  // namespace unroll

namespace unroll::detail {

/// What a formatter does with text. (fmt::format_to would compile fmt's whole engine into every file.)
template <class Out>
Out put(Out out, std::string_view text) {
  return std::copy(text.begin(), text.end(), out);
}

}  // namespace unroll::detail

template <>
struct fmt::formatter<unroll::Shape> {
  constexpr auto parse(format_parse_context& context) { return context.begin(); }
  auto format(const unroll::Shape& shape, format_context& context) const {
    return unroll::detail::put(context.out(), unroll::to_string(shape));
  }
};

template <>
struct fmt::formatter<unroll::DType> {
  constexpr auto parse(format_parse_context& context) { return context.begin(); }
  auto format(unroll::DType type, format_context& context) const {
    return unroll::detail::put(context.out(), unroll::name_of(type));
  }
};
