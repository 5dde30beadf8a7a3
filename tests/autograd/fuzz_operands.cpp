// How the operands and numbers of random instructions are chosen: see fuzz_operands.h.

#include <tests/autograd/fuzz_operands.h>

#include <algorithm>
#include <utility>

namespace unroll::testing::choose {

namespace {

bool take(Instruction& instruction, int value) {
  if (value < 0) return false;
  instruction.operands.push_back(value);
  return true;
}

/// An axis, counted from either end.
Index some_axis(Maker& maker, const Shape& shape) {
  return maker.below(shape.rank()) - (maker.chance(0.3) ? shape.rank() : 0);
}

/// Numbers: the axis, the sizes of the indices, and these: each below `size`.
void index_elements(Maker& maker, Instruction& i, const Shape& shape, Index size) {
  i.numbers.insert(i.numbers.end(), shape.begin(), shape.end());
  for (Index n = shape.count(); n > 0; --n) i.numbers.push_back(maker.below(size));
}

bool has_axes(const Shape& shape) { return shape.rank() >= 1; }
bool is_matrix(const Shape& shape) { return shape.rank() == 2; }

}  // namespace

bool not_empty(const Shape& shape) { return shape.count() > 0; }
bool is_small(const Shape& shape) { return shape.count() <= 5; }

Choose one(bool (*fits)(const Shape&)) {
  return [fits](Maker& maker, Instruction& i) { return take(i, maker.pick(fits)); };
}

bool any(Maker& maker, Instruction& i) { return take(i, maker.pick()); }

bool two_alike(Maker& maker, Instruction& i) {
  int a = maker.pick(not_empty);
  return take(i, a) && take(i, maker.pick([&](const Shape& s) { return s == maker.shape(a); }));
}

bool along_axis(Maker& maker, Instruction& i) {
  if (!take(i, maker.pick([](const Shape& s) { return s.rank() >= 1 && s.count() > 0; }))) return false;
  i.numbers.push_back(some_axis(maker, maker.shape(i.operands[0])));
  return true;
}

bool over_axes(Maker& maker, Instruction& i) {
  if (!take(i, maker.pick([](const Shape& s) { return s.rank() >= 1 && s.rank() <= 4 && s.count() > 0; })))
    return false;
  const Shape& shape = maker.shape(i.operands[0]);
  i.numbers.push_back(maker.below(2));
  for (int axis = 0; axis < shape.rank(); ++axis)
    if (maker.chance(0.5)) i.numbers.push_back(axis - (maker.chance(0.3) ? shape.rank() : 0));
  if (maker.chance(0.3)) std::reverse(i.numbers.begin() + 1, i.numbers.end());
  return i.numbers.size() > 1;
}

bool over_few(Maker& maker, Instruction& i) {
  if (!over_axes(maker, i)) return false;
  const Shape& shape = maker.shape(i.operands[0]);
  Index together = 1;
  for (std::size_t k = 1; k < i.numbers.size(); ++k)
    together *= shape[shape.axis(static_cast<int>(i.numbers[k]), "over_few")];
  return together <= 5;
}

bool at_index(Maker& maker, Instruction& i) {
  if (!along_axis(maker, i)) return false;
  const Shape& shape = maker.shape(i.operands[0]);
  Index size = shape[shape.axis(static_cast<int>(i.numbers[0]), "at_index")];
  i.numbers.push_back(maker.below(size) - (maker.chance(0.3) ? size : 0));
  return true;
}

bool some_axes(Maker& maker, Instruction& i) {
  if (!over_axes(maker, i)) return false;
  i.numbers.erase(i.numbers.begin());
  return true;
}

bool all_axes(Maker& maker, Instruction& i) {
  if (!take(i, maker.pick([](const Shape& s) { return s.rank() >= 1 && s.rank() <= 4; }))) return false;
  const Index rank = maker.shape(i.operands[0]).rank();
  for (Index axis = 0; axis < rank; ++axis) i.numbers.insert(i.numbers.begin() + maker.below(axis + 1), axis);
  return true;
}

bool new_axis(Maker& maker, Instruction& i) {
  if (!take(i, maker.pick([](const Shape& s) { return s.rank() <= 4; }))) return false;
  const Index rank = maker.shape(i.operands[0]).rank() + 1;
  i.numbers = {maker.below(rank) - (maker.chance(0.3) ? rank : 0)};
  return true;
}

bool between(Maker& maker, Instruction& i) {
  if (!take(i, maker.pick(has_axes))) return false;
  const Shape& shape = maker.shape(i.operands[0]);
  Index axis = some_axis(maker, shape), size = shape[shape.axis(static_cast<int>(axis), "between")];
  Index begin = maker.below(size + 1), end = begin + maker.below(size - begin + 1);
  if (maker.chance(0.3)) begin -= size == 0 || begin == size ? 0 : size;
  if (maker.chance(0.3) && end < size) end -= size;
  i.numbers = {axis, begin, end};
  return true;
}

bool between_by(Maker& maker, Instruction& i) {
  if (!between(maker, i)) return false;
  i.numbers.push_back(1 + maker.below(3));
  return true;
}

bool unequal_parts(Maker& maker, Instruction& i) {
  if (!take(i, maker.pick(has_axes))) return false;
  const Shape& shape = maker.shape(i.operands[0]);
  Index axis = some_axis(maker, shape), rest = shape[shape.axis(static_cast<int>(axis), "unequal_parts")];
  i.numbers = {axis, 0};
  for (Index parts = 1 + maker.below(3); parts > 1; --parts) {
    Index size = maker.below(rest + 1);
    i.numbers.push_back(size);
    rest -= size;
  }
  i.numbers.push_back(rest);
  i.numbers[1] = maker.below(std::ssize(i.numbers) - 2);
  return true;
}

bool parts(Maker& maker, Instruction& i) {
  if (!take(i, maker.pick(has_axes))) return false;
  const Shape shape = maker.shape(i.operands[0]);
  Index axis = some_axis(maker, shape), size = shape[shape.axis(static_cast<int>(axis), "parts")];
  Index divisors[] = {2, 3, 4, 5, size, 1}, count = divisors[maker.below(6)];
  if (count < 1 || count > 8 || size % count != 0) return false;
  std::vector<Index> order;
  for (Index part = 0; part < count; ++part)
    if (maker.chance(0.9)) order.push_back(part);
  if (order.empty()) return false;
  if (maker.chance(0.2)) std::swap(order.front(), order[static_cast<std::size_t>(maker.below(std::ssize(order)))]);
  if (maker.chance(0.1)) order.push_back(order.front());
  for (std::size_t k = 0; k + 1 < order.size(); ++k) maker.add("part", i.operands, {axis, count, order[k]});
  i.numbers = {axis, count, order.back()};
  return true;
}

bool other_shape(Maker& maker, Instruction& i) {
  if (!take(i, maker.pick([](const Shape& s) { return s.rank() <= 4; }))) return false;
  const Shape& shape = maker.shape(i.operands[0]);
  i.numbers.assign(shape.begin(), shape.end());
  if (shape.rank() == 0 || maker.chance(0.2)) {
    i.numbers.insert(i.numbers.begin() + maker.below(shape.rank() + 1), 1);
    return true;
  }
  auto at = i.numbers.begin() + maker.below(shape.rank());
  if (shape.rank() > 1 && maker.chance(0.5)) {  // two neighbours become one
    if (at + 1 == i.numbers.end()) --at;
    *at *= *(at + 1);
    i.numbers.erase(at + 1);
  } else {  // one becomes two
    Index divisor = 2 + maker.below(3);
    if (*at % divisor != 0) return false;
    *at /= divisor;
    i.numbers.insert(at, divisor);
  }
  return true;
}

bool apart(Maker& maker, Instruction& i) {
  if (!along_axis(maker, i)) return false;
  const Shape& shape = maker.shape(i.operands[0]);
  Index size = shape[shape.axis(static_cast<int>(i.numbers[0]), "apart")], divisor = 1 + maker.below(3);
  if (shape.rank() > 4 || size % divisor != 0) return false;
  i.numbers.insert(i.numbers.end(), {divisor, maker.chance(0.3) ? -1 : size / divisor});
  return true;
}

bool larger_shape(Maker& maker, Instruction& i) {
  if (!take(i, maker.pick([](const Shape& s) { return s.rank() <= 4; }))) return false;
  const Shape& shape = maker.shape(i.operands[0]);
  i.numbers.assign(shape.begin(), shape.end());
  for (Index& size : i.numbers)
    if (size == 1) size = maker.below(4);
  if (maker.chance(0.4)) i.numbers.insert(i.numbers.begin(), 1 + maker.below(3));
  return Shape(i.numbers).count() <= maker.most_elements();
}

bool times(Maker& maker, Instruction& i) {
  if (!take(i, maker.pick([](const Shape& s) { return s.rank() <= 4; }))) return false;
  const Shape& shape = maker.shape(i.operands[0]);
  Index count = shape.count();
  for (int k = 0; k < shape.rank(); ++k) i.numbers.push_back(maker.chance(0.1) ? 0 : 1 + maker.below(2));
  if (maker.chance(0.3)) i.numbers.insert(i.numbers.begin(), 2);
  for (Index times : i.numbers) count *= times;
  return !i.numbers.empty() && i.numbers.size() <= 5 && count <= maker.most_elements();
}

bool around(Maker& maker, Instruction& i) {
  if (!take(i, maker.pick([](const Shape& s) { return s.rank() >= 1 && s.rank() <= 4; }))) return false;
  const Shape& shape = maker.shape(i.operands[0]);
  Index count = 1;
  for (Index size : shape) {
    i.numbers.insert(i.numbers.end(), {maker.below(3), maker.below(3)});
    count *= size + i.numbers.back() + i.numbers[i.numbers.size() - 2];
  }
  return count <= maker.most_elements();
}

bool two_axes(Maker& maker, Instruction& i) {
  if (!take(i, maker.pick([](const Shape& s) { return s.rank() >= 2; }))) return false;
  const Shape& shape = maker.shape(i.operands[0]);
  i.numbers = {some_axis(maker, shape), some_axis(maker, shape)};
  return true;
}

bool some_alike(Maker& maker, Instruction& i) {
  int first = maker.pick([](const Shape& s) { return s.rank() < 4; });
  Index count = 1 + maker.below(4);
  bool taken = take(i, first);
  for (; taken && count > 1; --count)
    taken = take(i, maker.pick([&](const Shape& s) { return s == maker.shape(first); }));
  if (taken && maker.chance(0.5)) i.numbers = {maker.below(maker.shape(first).rank() + 1)};
  return taken && maker.shape(first).count() * 4 <= maker.most_elements();
}

bool alike_but_for_axis(Maker& maker, Instruction& i) {
  if (!take(i, maker.pick(has_axes))) return false;
  const Shape shape = maker.shape(i.operands[0]);
  int axis = static_cast<int>(maker.below(shape.rank()));
  Index size = shape[axis];
  for (Index count = maker.below(4); count > 0; --count) {
    auto fits = [&](const Shape& s) { return s.rank() == shape.rank() && s.with(axis, 0) == shape.with(axis, 0); };
    if (!take(i, maker.pick(fits))) return false;
    size += maker.shape(i.operands.back())[axis];
  }
  i.numbers = {maker.chance(0.3) ? axis - shape.rank() : axis};
  return shape.with(axis, size).count() <= maker.most_elements();
}

bool with_targets(Maker& maker, Instruction& i) {
  if (!take(i, maker.pick([](const Shape& s) { return s.rank() >= 1 && s.count() > 0 && s.rows() <= 130; })))
    return false;
  const Shape& shape = maker.shape(i.operands[0]);
  for (Index row = 0; row < shape.rows(); ++row) i.numbers.push_back(maker.below(shape.columns()));
  return true;
}

bool with_rows(Maker& maker, Instruction& i) {
  if (!take(i, maker.pick([](const Shape& s) { return is_matrix(s) && s[0] > 0; }))) return false;
  const Shape& shape = maker.shape(i.operands[0]);
  for (Index n = maker.below(6); n > 0; --n) i.numbers.push_back(maker.below(shape[0]));
  return true;
}

bool slices(Maker& maker, Instruction& i) {
  if (!along_axis(maker, i)) return false;
  const Shape& shape = maker.shape(i.operands[0]);
  int axis = shape.axis(static_cast<int>(i.numbers[0]), "slices");
  for (Index n = maker.below(6); n > 0; --n) i.numbers.push_back(maker.below(shape[axis]));
  return shape.with(axis, std::ssize(i.numbers)).count() <= maker.most_elements();
}

bool elements(Maker& maker, Instruction& i) {
  if (!along_axis(maker, i)) return false;
  const Shape shape = maker.shape(i.operands[0]);
  int axis = shape.axis(static_cast<int>(i.numbers[0]), "elements");
  Shape chosen = shape.with(axis, maker.below(4));
  for (int k = 0; k < shape.rank(); ++k)
    if (k != axis && maker.chance(0.3)) chosen = chosen.with(k, maker.below(shape[k] + 1));
  if (chosen.count() > 100) return false;
  index_elements(maker, i, chosen, shape[axis]);
  return true;
}

bool to_elements(Maker& maker, Instruction& i) {
  if (!along_axis(maker, i)) return false;
  const Shape shape = maker.shape(i.operands[0]);
  int axis = shape.axis(static_cast<int>(i.numbers[0]), "to_elements");
  auto fits = [&](const Shape& s) {
    return s.rank() == shape.rank() && s.with(axis, 0) == shape.with(axis, 0) && s.count() <= 100;
  };
  if (!take(i, maker.pick(fits))) return false;
  index_elements(maker, i, maker.shape(i.operands[1]), shape[axis]);
  return true;
}

bool diagonal(Maker& maker, Instruction& i) {
  i.numbers = {maker.below(5) - 2};
  return take(i, maker.pick([](const Shape& s) { return s.rank() >= 2; }));
}

bool with_mask(Maker& maker, Instruction& i) {
  if (!along_axis(maker, i) || maker.shape(i.operands[0]).count() > 100) return false;
  for (Index n = maker.shape(i.operands[0]).count(); n > 0; --n) i.numbers.push_back(maker.chance(0.7) ? 1 : 0);
  return true;
}

bool with_signs(Maker& maker, Instruction& i) {
  if (!take(i, maker.pick(not_empty)) || maker.shape(i.operands[0]).count() > 100) return false;
  for (Index n = maker.shape(i.operands[0]).count(); n > 0; --n) i.numbers.push_back(maker.chance(0.5) ? 1 : -1);
  return true;
}

bool with_labels(Maker& maker, Instruction& i) {
  int x = maker.pick([](const Shape& s) { return s.rank() == 3 && s[0] >= 1 && s[1] >= 1 && s[2] >= 2 && s[1] <= 40; });
  if (!take(i, x)) return false;
  for (Index n = maker.shape(x)[1]; n > 0; --n) i.numbers.push_back(1 + maker.below(maker.shape(x)[2] - 1));
  return true;
}

Choose with_rows_of(int count) {
  return [count](Maker& maker, Instruction& i) {
    if (!take(i, maker.pick([](const Shape& s) { return s.rank() >= 1 && s.columns() >= 2; }))) return false;
    const Shape row{maker.shape(i.operands[0]).columns()};
    for (int k = 0; k < count; ++k) {
      int found = maker.chance(0.5) ? maker.pick([&](const Shape& s) { return s == row; }) : -1;
      i.operands.push_back(found >= 0 ? found : maker.leaf(row));
    }
    return true;
  };
}

bool with_variance(Maker& maker, Instruction& i) {
  return two_alike(maker, i) &&
         take(i, maker.pick([&](const Shape& s) { return s == maker.shape(i.operands[0]) || s.rank() == 0; }));
}

bool vectors(Maker& maker, Instruction& i) {
  auto is_vector = [](const Shape& s) { return s.rank() == 1 && s[0] <= 65; };
  return take(i, maker.pick(is_vector)) && take(i, maker.pick(is_vector));
}

bool factors(Maker& maker, Instruction& i) {
  auto fits = [&](const Shape& s) { return s.rank() >= 1 && s.rank() <= 4 && s.count() <= 400; };
  return take(i, maker.pick(fits)) && take(i, maker.pick([&](const Shape& s) {
           const Shape& a = maker.shape(i.operands[0]);
           return fits(s) && s[std::max(0, s.rank() - 2)] == a.columns();
         }));
}

bool recurrence(Maker& maker, Instruction& i) {
  int x = maker.pick([](const Shape& s) { return s.rank() >= 2 && s[0] >= 1 && s[0] <= 6 && s.columns() <= 65; });
  if (x < 0) return false;
  const Shape shape = maker.shape(x).without(0);
  int weight = maker.leaf({shape.columns(), shape.columns()}), bias = maker.leaf({shape.columns()});
  int state = maker.chance(0.5) ? maker.leaf(shape) : maker.add("select", {x}, {0, 0});
  bool reversed = maker.chance(0.3), biased = maker.chance(0.5);
  for (Index t = 0, steps = maker.shape(x)[0]; t < steps; ++t) {
    int now = maker.add("select", {x}, {0, reversed ? steps - 1 - t : t});
    int sum = biased ? maker.add("e + matmul(a, b) + matmul(c, d) + f", {state, weight, now, weight, bias, now})
                     : maker.add("c + matmul(a, b)", {state, weight, now});
    if (sum < 0) return false;
    state = maker.chance(0.5) ? maker.add("tanh(a)", {sum}) : maker.add("sigmoid(a) * tanh(b)", {sum, state});
    i.operands.push_back(state);
  }
  i.operation = &fuzz_operation("stack");
  return true;
}

}  // namespace unroll::testing::choose
