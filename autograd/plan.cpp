#include <autograd/plan.h>

#include <autograd/parallel.h>

#include <algorithm>

namespace unroll::detail {

namespace {

/// The stride of an operand along an axis of the result: 0 where it is repeated.
Index stride_along(const Layout& operand, const Shape& result, int axis) {
  int own = axis - (result.rank() - operand.shape.rank());
  return own < 0 || operand.shape[own] == 1 ? 0 : operand.stride(own);
}

/// Strides of a walk along one axis that goes through memory without a gap.
constexpr auto zeros_and_ones = [] {
  std::array<Index, 64> values{};
  std::fill(values.begin() + 32, values.end(), 1);
  return values;
}();

}  // namespace

Walk::Walk(Arena& arena, const Shape& result, std::span<const Layout* const> operands) : count(result.count()) {
  flat = operands.size() <= 32 && std::ranges::all_of(operands, [&](const Layout* operand) {
           return operand->shape.count() == count && operand->contiguous();
         });
  if (flat) {
    rank = 2;
    rows = 1;
    unit_columns = true;
    size[0] = count;
    size[1] = 1;
    strides[0] = zeros_and_ones.data() + 32;
    strides[1] = zeros_and_ones.data();
    return;
  }
  for (int axis = result.rank() - 1; axis >= 0; --axis) {
    if (result[axis] == 1) continue;
    auto last = static_cast<std::size_t>(rank) - 1;
    bool merges = rank > 0;
    for (std::size_t k = 0; k < operands.size() && merges; ++k)
      merges = stride_along(*operands[k], result, axis) == strides[last][k] * size[last];
    if (merges) {
      size[last] *= result[axis];
      continue;
    }
    auto next = static_cast<std::size_t>(rank++);
    size[next] = result[axis];
    auto* along = arena.array<Index>(operands.size());
    for (std::size_t k = 0; k < operands.size(); ++k) along[k] = stride_along(*operands[k], result, axis);
    strides[next] = along;
  }
  for (; rank < 2; ++rank) {
    size[static_cast<std::size_t>(rank)] = 1;
    auto* along = arena.array<Index>(operands.size());
    std::fill_n(along, operands.size(), 0);
    strides[static_cast<std::size_t>(rank)] = along;
  }
  rows = count == 0 ? 0 : count / size[0];
  unit_columns = std::all_of(strides[0], strides[0] + operands.size(), [](Index stride) { return stride == 1; });
}

const NodeLayout* Plans::layout(const Layout& layout) {
  std::size_t hash = static_cast<std::size_t>(layout.stride(0));  // what tells most views from what they see
  for (Index size : layout.shape) hash = mix(hash, static_cast<std::size_t>(size));
  return &layouts_.find(
      hash, [&](const NodeLayout& other) { return other.shape == layout.shape && other.strides == layout.strides; },
      [&] { return new (arena_.allocate(sizeof(NodeLayout), alignof(NodeLayout))) NodeLayout(layout); });
}

const Plan& Plans::find_plan(std::span<const NodeLayout* const> operands, Source where) {
  std::size_t hash = operands.size();
  for (const NodeLayout* operand : operands) hash = mix(hash, reinterpret_cast<std::uintptr_t>(operand));
  return plans_.find(
      hash, [&](const Plan& plan) { return plan.is_of(operands); },
      [&] {
        Shape shape = operands[0]->shape;
        for (const NodeLayout* operand : operands)
          shape = broadcast(shape, operand->shape, "element-wise expression", where);
        auto* kept = arena_.array<const NodeLayout*>(operands.size());
        std::ranges::copy(operands, kept);
        auto* layouts = arena_.array<const Layout*>(operands.size());
        std::ranges::copy(operands, layouts);
        Walk walk(arena_, shape, {layouts, operands.size()});
        auto* plan = new (arena_.allocate(sizeof(Plan), alignof(Plan)))
            Plan{.operands = {kept, operands.size()}, .result = layout(shape), .walk = walk};
        for (std::size_t k = 0; k < operands.size(); ++k) plan->repeats |= walk.repeats(k, 0);
        plan->whole = walk.count > 0 && walk.rank == 2 && grains(walk.count) == 1;
        plan->straight = plan->whole && walk.rows == 1 && walk.unit_columns && walk.count % most_lanes == 0;
        return plan;
      });
}

void Plans::tidy() {
  constexpr std::size_t many = 4096;
  if (layouts_.size() + plans_.size() + derived_.size() < many) return;
  layouts_.clear();
  plans_.clear();
  recent_plans_.fill(nullptr);
  recent_layouts_.fill(nullptr);
  derived_.clear();
  arena_.clear();
}

}  // namespace unroll::detail
