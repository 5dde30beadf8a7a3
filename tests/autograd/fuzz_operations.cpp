// The instructions of random programs, a line each: how its operands and numbers are chosen, and how it is recorded.
// tests/pytorch/compare.py has a line of the same name for each.

#include <autograd/autograd.h>
#include <tests/autograd/fuzz.h>

#include <algorithm>
#include <unordered_map>
#include <utility>

namespace unroll::testing {

namespace {

using Choose = std::function<bool(Maker&, Instruction&)>;

// --- How operands are chosen --------------------------------------------------------------------------------------

bool take(Instruction& instruction, int value) {
  if (value < 0) return false;
  instruction.operands.push_back(value);
  return true;
}

bool not_empty(const Shape& shape) { return shape.count() > 0; }
bool has_axes(const Shape& shape) { return shape.rank() >= 1; }
bool is_matrix(const Shape& shape) { return shape.rank() == 2; }

/// One operand that fits.
Choose one(bool (*fits)(const Shape&)) {
  return [fits](Maker& maker, Instruction& i) { return take(i, maker.pick(fits)); };
}

bool any(Maker& maker, Instruction& i) { return take(i, maker.pick()); }

/// Two operands of one shape.
bool two_alike(Maker& maker, Instruction& i) {
  int a = maker.pick(not_empty);
  return take(i, a) && take(i, maker.pick([&](const Shape& s) { return s == maker.shape(a); }));
}

/// An axis, counted from either end.
Index some_axis(Maker& maker, const Shape& shape) {
  return maker.below(shape.rank()) - (maker.chance(0.3) ? shape.rank() : 0);
}

/// Numbers: the axis.
bool along_axis(Maker& maker, Instruction& i) {
  if (!take(i, maker.pick([](const Shape& s) { return s.rank() >= 1 && s.count() > 0; }))) return false;
  i.numbers.push_back(some_axis(maker, maker.shape(i.operands[0])));
  return true;
}

/// Numbers: 1 when the axes are kept, then the axes.
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

/// Numbers: the axis and an index along it.
bool at_index(Maker& maker, Instruction& i) {
  if (!along_axis(maker, i)) return false;
  const Shape& shape = maker.shape(i.operands[0]);
  Index size = shape[shape.axis(static_cast<int>(i.numbers[0]), "at_index")];
  i.numbers.push_back(maker.below(size) - (maker.chance(0.3) ? size : 0));
  return true;
}

/// Numbers: the axis, first and last, one of them perhaps counted from the end.
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

/// All the parts along an axis, in order or (rarely) not. Numbers: the axis, their number, and the one that it is.
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

/// Numbers: the sizes.
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

/// Numbers: two axes.
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
  return taken && maker.shape(first).count() * 4 <= maker.most_elements();
}

/// Values that differ along one axis only, which is the number.
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

/// Numbers: a class for each row.
bool with_targets(Maker& maker, Instruction& i) {
  if (!take(i, maker.pick([](const Shape& s) { return s.rank() >= 1 && s.count() > 0 && s.rows() <= 130; })))
    return false;
  const Shape& shape = maker.shape(i.operands[0]);
  for (Index row = 0; row < shape.rows(); ++row) i.numbers.push_back(maker.below(shape.columns()));
  return true;
}

/// Numbers: rows of the table.
bool with_rows(Maker& maker, Instruction& i) {
  if (!take(i, maker.pick([](const Shape& s) { return is_matrix(s) && s[0] > 0; }))) return false;
  const Shape& shape = maker.shape(i.operands[0]);
  for (Index n = maker.below(6); n > 0; --n) i.numbers.push_back(maker.below(shape[0]));
  return true;
}

/// h <- tanh(x[t] + h U + b) for all t: the same weight at every step, and a stack of the states at the end.
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

bool a_leaf(Maker& maker, Instruction& i) { return take(i, maker.leaf({maker.size()})); }

// --- How they are recorded ----------------------------------------------------------------------------------------

/// f(x, axes, keep) of functions that take their axes as a list.
template <class F>
auto with_axes(F f) {
  return [f](const Recording& r) {
    std::array<int, 4> a{};
    std::size_t count = r.numbers().size() - 1;
    for (std::size_t k = 0; k < count; ++k) a[k] = static_cast<int>(r.numbers()[k + 1]);
    bool keep = r.numbers()[0] != 0;
    if (count == 1) return f(r.x[0], std::initializer_list<int>{a[0]}, keep);
    if (count == 2) return f(r.x[0], std::initializer_list<int>{a[0], a[1]}, keep);
    if (count == 3) return f(r.x[0], std::initializer_list<int>{a[0], a[1], a[2]}, keep);
    return f(r.x[0], std::initializer_list<int>{a[0], a[1], a[2], a[3]}, keep);
  };
}

using Axes = std::initializer_list<int>;

int axis(const Recording& r, std::size_t k = 0) { return static_cast<int>(r.numbers()[k]); }

std::vector<std::int32_t> whole_numbers(const Recording& r) { return {r.numbers().begin(), r.numbers().end()}; }

Parameter& leaf(const Recording& r) { return *r.inputs.leaves[r.number]; }

using R = const Recording&;

std::vector<FuzzOperation> make_operations() {
  std::vector<FuzzOperation> operations{
      {"variable", 0, a_leaf, [](R r) { return r.tape.variable(leaf(r).value()); }},
      {"constant", 0, a_leaf, [](R r) { return r.tape.constant(leaf(r).value()); }},
      {"parameter", 0, a_leaf, [](R r) { return r.tape.use(leaf(r)); }},
      {"frozen", 0, a_leaf, [](R r) { return r.tape.use(leaf(r)); }},

      {"sum", 1, any, [](R r) { return sum(r.x[0]); }},
      {"mean", 1, one(not_empty), [](R r) { return mean(r.x[0]); }},
      {"sum over", 2, over_axes, with_axes([](const Var& x, Axes a, bool keep) { return sum(x, a, keep); })},
      {"mean over", 2, over_axes, with_axes([](const Var& x, Axes a, bool keep) { return mean(x, a, keep); })},
      {"log_softmax", 1, along_axis, [](R r) { return log_softmax(r.x[0]); }},
      {"cross_entropy", 1, with_targets, [](R r) { return cross_entropy(r.x[0], whole_numbers(r)); }},
      {"mse", 1, two_alike, [](R r) { return mse(r.x[0], r.x[1]); }},

      {"select", 3, at_index, [](R r) { return select(r.x[0], axis(r), r.numbers()[1]); }},
      {"slice", 3, between, [](R r) { return slice(r.x[0], axis(r), r.numbers()[1], r.numbers()[2]); }},
      {"part", 5, parts, [](R r) { return part(r.x[0], axis(r), r.numbers()[1], r.numbers()[2]); }},
      {"reshape", 3, other_shape, [](R r) { return reshape(r.x[0], Shape(r.numbers())); }},
      {"transpose", 3, two_axes, [](R r) { return transpose(r.x[0], axis(r), axis(r, 1)); }},
      {"detach", 0.5, any, [](R r) { return detach(r.x[0]); }, true},
      {"stack", 2, some_alike, [](R r) { return stack(r.x); }},
      {"concat", 2, alike_but_for_axis, [](R r) { return concat(r.x, axis(r)); }},

      {"embedding", 1, with_rows, [](R r) { return embedding(r.tape, r.x[0], whole_numbers(r)); }},
      {"recurrence", 1, recurrence, nullptr},
  };
  double weight = 0;
  for (const FuzzOperation& operation : operations) weight += operation.weight;
  // Every other instruction is a statement.
  std::vector<FuzzOperation> statements = fuzz_statements();
  double of_statements = 0;
  for (const FuzzOperation& statement : statements) of_statements += statement.weight;
  for (FuzzOperation& statement : statements) {
    statement.weight *= weight / of_statements;
    operations.push_back(std::move(statement));
  }
  return operations;
}

}  // namespace

const std::vector<FuzzOperation>& fuzz_operations() {
  static const std::vector<FuzzOperation> operations = make_operations();
  return operations;
}

const FuzzOperation& fuzz_operation(const std::string& name) {
  static const auto by_name = [] {
    std::unordered_map<std::string, const FuzzOperation*> map;
    for (const FuzzOperation& operation : fuzz_operations()) map[operation.name] = &operation;
    return map;
  }();
  return *by_name.at(name);
}

}  // namespace unroll::testing
