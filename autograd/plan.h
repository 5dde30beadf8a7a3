#pragma once

// What follows from layouts alone is worked out once and kept from step to step: a tape that sees the same shapes
// again finds everything by the layouts' addresses.

#include <autograd/arena.h>
#include <autograd/shape.h>

#include <span>
#include <vector>

namespace unroll::detail {

/// A layout as nodes refer to it. Equal layouts of one tape have one address.
class NodeLayout : public Layout {
 public:
  explicit NodeLayout(const Layout& layout)
      : Layout(layout),
        row_stride_(layout.row_stride()),
        rows_(layout.shape.rows()),
        contiguous_(layout.contiguous()),
        rowwise_(layout.rowwise()) {}

  bool contiguous() const { return contiguous_; }
  bool rowwise() const { return rowwise_; }
  Index row_stride() const { return row_stride_; }
  Index rows() const { return rows_; }

 private:
  Index row_stride_, rows_;
  bool contiguous_, rowwise_;
};

/// How a statement is walked: the axes of its result, merged where every operand's memory allows it.
/// Axis 0 is the columns, axis 1 the rows; `strides` holds, for each axis, one stride for each operand.
struct Walk {
  std::array<Index, max_rank> size;
  std::array<const Index*, max_rank> strides;
  int rank = 0;
  Index count = 0, rows = 0;  ///< elements; and these by the columns
  bool flat = false;          ///< every operand's elements lie in memory as the result's do
  bool unit_columns = false;  ///< every operand's columns are neighbours

  /// The operands are given twice where each has a second layout: its gradient's.
  Walk(Arena& arena, const Shape& result, std::span<const Layout* const> operands);
  Walk() = default;
  /// True when several elements of the result share one of operand k, in axes from `first_axis` on.
  bool repeats(std::size_t k, std::size_t first_axis) const {
    for (auto axis = first_axis; axis < static_cast<std::size_t>(rank); ++axis)
      if (strides[axis][k] == 0 && size[axis] > 1) return true;
    return false;
  }
};

/// Lanes of the longest packet; the others have a half of it, or a quarter, and so on.
inline constexpr Index most_lanes = 16;

/// A statement over operands of these layouts.
struct Plan {
  std::span<const NodeLayout* const> operands;
  const NodeLayout* result;
  Walk walk;
  bool whole = false;     ///< small, and one rectangle
  bool straight = false;  ///< and one row of whole packets, whatever the type: one call of the kernel does it
  bool repeats = false;   ///< an operand is broadcast

  bool is_of(std::span<const NodeLayout* const> layouts) const {
    if (layouts.size() != operands.size()) return false;
    for (std::size_t k = 0; k < layouts.size(); ++k)
      if (layouts[k] != operands[k]) return false;
    return true;
  }
};

/// A layout that follows from another, and a distance in memory that goes with it.
struct Derived {
  const NodeLayout* layout;
  Index distance = 0;
};

/// Things found again by their hash and what they were made from.
template <class T>
class Table {
 public:
  template <class Equal, class Make>
  const T& find(std::size_t hash, Equal&& equal, Make&& make) {
    if (2 * (count_ + 1) > slots_.size()) grow();
    std::size_t mask = slots_.size() - 1, i = hash & mask;
    for (; slots_[i].item != nullptr; i = (i + 1) & mask)
      if (slots_[i].hash == hash && equal(*slots_[i].item)) return *slots_[i].item;
    slots_[i] = {hash, make()};
    ++count_;
    return *slots_[i].item;
  }
  std::size_t size() const { return count_; }
  void clear() {
    slots_.clear();
    count_ = 0;
  }

 private:
  struct Slot {
    std::size_t hash = 0;
    const T* item = nullptr;
  };
  void grow() {
    std::vector<Slot> old(slots_.empty() ? 64 : 2 * slots_.size());
    old.swap(slots_);
    for (const Slot& slot : old) {
      if (slot.item == nullptr) continue;
      std::size_t i = slot.hash & (slots_.size() - 1);
      while (slots_[i].item != nullptr) i = (i + 1) & (slots_.size() - 1);
      slots_[i] = slot;
    }
  }
  std::vector<Slot> slots_;
  std::size_t count_ = 0;
};

class Plans {
 public:
  const NodeLayout* layout(const Layout& layout);
  /// The row-major one.
  const NodeLayout* layout(const Shape& shape) {
    const auto sizes = static_cast<std::size_t>(shape.count() * (max_rank + 1) + shape.rank());
    const NodeLayout*& recent = recent_layouts_[sizes * 0x9E3779B97F4A7C15u >> 58];
    if (recent == nullptr || recent->shape != shape) recent = layout(Layout(shape));
    return recent;
  }
  /// Throws Error when the layouts do not broadcast.
  const Plan& plan(std::span<const NodeLayout* const> operands, Source where) {
    const Plan*& recent = recent_plans_[operands.size() % recent_plans_.size()];
    if (recent == nullptr || !recent->is_of(operands)) recent = &find_plan(operands, where);
    return *recent;
  }
  /// What `make` gives for this layout and these two numbers; `make` may throw.
  template <class Make>
  Derived derived(const NodeLayout* from, std::uintptr_t a, std::uintptr_t b, Make&& make) {
    std::size_t hash = mix(mix(mix(0, reinterpret_cast<std::uintptr_t>(from)), a), b);
    return derived_
        .find(
            hash, [&](const Entry& e) { return e.from == from && e.a == a && e.b == b; },
            [&] {
              return new (arena_.allocate(sizeof(Entry), alignof(Entry))) Entry{from, a, b, make()};
            })
        .to;
  }
  /// Called when no node is left: forgets everything if that is much, as with shapes that never come again.
  void tidy();
  std::size_t bytes_held() const { return arena_.capacity(); }

 private:
  struct Entry {
    const NodeLayout* from;
    std::uintptr_t a, b;
    Derived to;
  };
  static std::size_t mix(std::size_t hash, std::size_t value) {
    hash = (hash ^ value) * 0x9E3779B97F4A7C15u;
    return hash ^ hash >> 29;
  }

  const Plan& find_plan(std::span<const NodeLayout* const> operands, Source where);

  Arena arena_;
  /// What was asked for last, by the number of operands, and by those of elements and axes: a loop asks for the same
  /// few again and again.
  std::array<const Plan*, 8> recent_plans_{};
  std::array<const NodeLayout*, 64> recent_layouts_{};
  Table<NodeLayout> layouts_;
  Table<Plan> plans_;
  Table<Entry> derived_;
};

}  // namespace unroll::detail
