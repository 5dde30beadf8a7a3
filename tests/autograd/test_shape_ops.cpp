// The rows of views, shape operations and indexing, and what holds for all of them. What is particular to each is in
// test_views.cpp, test_joins.cpp (all that makes new values) and test_indexing.cpp.

#include <autograd/autograd.h>
#include <tests/autograd/operations.h>

#include <doctest/doctest.h>

using namespace unroll;
using namespace unroll::testing;

namespace {

using Place = std::vector<Index>;  // an index for each axis
using Ids = std::vector<std::int32_t>;

Index& back(Place& at) { return at.back(); }

double element(const Tensor& x, const Place& at) {
  REQUIRE(static_cast<int>(at.size()) == x.shape().rank());
  Index offset = 0;
  for (std::size_t k = 0; k < at.size(); ++k) {
    REQUIRE(at[k] >= 0);
    REQUIRE(at[k] < x.shape()[static_cast<int>(k)]);
    offset = offset * x.shape()[static_cast<int>(k)] + at[k];
  }
  return x.to_vector()[static_cast<std::size_t>(offset)];
}

/// The tensor whose element at each place is f(place).
template <class F>
Tensor tensor_of(const Shape& shape, F&& f) {
  Tensor result(shape, float64);
  Place at(static_cast<std::size_t>(shape.rank()), 0);
  for (Index i = 0; i < shape.count(); ++i) {
    Index rest = i;
    for (int k = shape.rank() - 1; k >= 0; --k) {
      at[static_cast<std::size_t>(k)] = rest % shape[k];
      rest /= shape[k];
    }
    result.data<double>()[i] = f(at);
  }
  return result;
}

/// Indices that repeat themselves and leave some out: `count` of them below `size`.
Ids some_ids(Index count, Index size) {
  Ids ids(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < ids.size(); ++i)
    ids[i] = static_cast<std::int32_t>((i * i + i / 2 + 1) % static_cast<std::size_t>(size));
  return ids;
}

Ids ids_for(const Shape& shape, Index size) { return some_ids(shape.count(), size); }

/// The index at a place of Indices of this shape.
Index id_at(const Ids& ids, const Shape& shape, const Place& at) {
  Index offset = 0;
  for (int k = 0; k < shape.rank(); ++k) offset = offset * shape[k] + at[static_cast<std::size_t>(k)];
  return ids[static_cast<std::size_t>(offset)];
}

Place with(Place at, std::size_t k, Index value) {
  at[k] = value;
  return at;
}

using Tensors = std::vector<Tensor>;
using Cases = std::vector<std::vector<Shape>>;

/// A row of one operand whose result's element is an element of the operand: `from(place, operand's shape)` says which.
OperationRow rearrangement(std::string name, Cases cases, std::function<Var(const Var&)> call,
                           std::function<Shape(const Shape&)> shape, std::function<Place(Place, const Shape&)> from) {
  return {std::move(name), std::move(cases), [call](Tape&, const Vars& x) { return call(x[0]); },
          [shape, from](const Tensors& x) {
            return tensor_of(shape(x[0].shape()),
                             [&](const Place& at) { return element(x[0], from(at, x[0].shape())); });
          }};
}

/// The place of the `i`-th element in row-major order.
Place place_of(Index i, const Shape& shape) {
  Place at(static_cast<std::size_t>(shape.rank()));
  for (int k = shape.rank() - 1; k >= 0; --k) {
    at[static_cast<std::size_t>(k)] = i % shape[k];
    i /= shape[k];
  }
  return at;
}

void add_views(std::vector<OperationRow>& rows) {
  const Cases any{{{3, 4, 2}}, {{1, 5, 1}}, {{2, 1, 3}}, {{4, 0, 2}}};
  rows.push_back(rearrangement(
      "select", {{{3, 4}}, {{1, 1}}, {{2, 3, 1}}, {{3, 0}}}, [](const Var& x) { return select(x, 0, -1); },
      [](const Shape& s) { return s.without(0); },
      [](Place at, const Shape& s) {
        at.insert(at.begin(), s[0] - 1);
        return at;
      }));
  rows.push_back(rearrangement(
      "unbind", {{{4, 3}}, {{1, 2}}, {{2, 2, 3}}}, [](const Var& x) { return unbind(x, -1)[1]; },
      [](const Shape& s) { return s.without(s.rank() - 1); },
      [](Place at, const Shape&) {
        at.push_back(1);
        return at;
      }));
  rows.push_back(rearrangement(
      "slice", {{{2, 5}}, {{3, 2, 4}}, {{3, 2}}}, [](const Var& x) { return slice(x, -1, 1, x.size(-1)); },
      [](const Shape& s) { return s.with(s.rank() - 1, s.columns() - 1); },
      [](Place at, const Shape&) {
        ++back(at);
        return at;
      }));
  rows.push_back(rearrangement(
      "slice with a step", {{{5, 3}}, {{6}}, {{1, 4}}, {{8, 0}}},
      [](const Var& x) { return slice(x, 0, 0, x.size(0), 3); },
      [](const Shape& s) { return s.with(0, (s[0] + 2) / 3); },
      [](Place at, const Shape&) {
        at[0] *= 3;
        return at;
      }));
  rows.push_back(rearrangement(
      "part", {{{3, 4}}, {{2, 3, 2}}, {{0, 4}}}, [](const Var& x) { return part(x, -1, 2, 1); },
      [](const Shape& s) { return s.with(s.rank() - 1, s.columns() / 2); },
      [](Place at, const Shape& s) {
        back(at) += s.columns() / 2;
        return at;
      }));
  rows.push_back(rearrangement(
      "chunk", {{{3, 4}}, {{2, 6}}, {{1, 2}}},
      [](const Var& x) {
        auto halves = chunk<2>(x);
        return concat({halves[1], halves[0]}, -1);
      },
      [](const Shape& s) { return s; },
      [](Place at, const Shape& s) {
        back(at) = (back(at) + s.columns() / 2) % s.columns();
        return at;
      }));
  rows.push_back(rearrangement(
      "split", {{{4, 3}}, {{2, 2}}, {{6}}},
      [](const Var& x) {  // the last row comes first, then none, then the others
        std::vector<Var> parts = split(x, {x.size(0) - 1, 0, 1});
        return concat({parts[2], parts[1], parts[0]});
      },
      [](const Shape& s) { return s; },
      [](Place at, const Shape& s) {
        at[0] = (at[0] + s[0] - 1) % s[0];
        return at;
      }));
  rows.push_back(rearrangement(
      "transpose", any, [](const Var& x) { return transpose(x, 0, -1); },
      [](const Shape& s) { return s.with(0, s[2]).with(2, s[0]); },
      [](Place at, const Shape&) {
        std::swap(at[0], at[2]);
        return at;
      }));
  rows.push_back(rearrangement(
      "permute", any,
      [](const Var& x) {
        return permute(x, {2, 0, -2});
      },
      [](const Shape& s) {
        return Shape{s[2], s[0], s[1]};
      },
      [](Place at, const Shape&) {
        return Place{at[1], at[2], at[0]};
      }));
  rows.push_back(rearrangement(
      "flip", any,
      [](const Var& x) {
        return flip(x, {0, -1});
      },
      [](const Shape& s) { return s; },
      [](Place at, const Shape& s) {
        return Place{s[0] - 1 - at[0], at[1], s[2] - 1 - at[2]};
      }));
  rows.push_back(rearrangement(
      "squeeze", {{{1, 3, 1}}, {{1, 1, 1}}, {{1, 0, 1}}},
      [](const Var& x) {
        return squeeze(x, {0, -1});
      },
      [](const Shape& s) { return Shape{s[1]}; },
      [](Place at, const Shape&) {
        return Place{0, at[0], 0};
      }));
  rows.push_back(rearrangement(
      "unsqueeze", {{{2, 3}}, {{1, 4}}, {{0, 2}}}, [](const Var& x) { return unsqueeze(x, -2); },
      [](const Shape& s) {
        return Shape{s[0], 1, s[1]};
      },
      [](Place at, const Shape&) {
        return Place{at[0], at[2]};
      }));
  rows.push_back(rearrangement(
      "unflatten", {{{2, 6, 2}}, {{1, 3, 4}}, {{2, 3, 0}}},
      [](const Var& x) {
        return unflatten(x, 1, {-1, 3});
      },
      [](const Shape& s) {
        return Shape{s[0], s[1] / 3, 3, s[2]};
      },
      [](Place at, const Shape&) {
        return Place{at[0], at[1] * 3 + at[2], at[3]};
      }));
  rows.push_back(rearrangement(
      "flatten", any, [](const Var& x) { return flatten(x, 1); },
      [](const Shape& s) {
        return Shape{s[0], s[1] * s[2]};
      },
      [](Place at, const Shape& s) {
        return Place{at[0], at[1] / s[2], at[1] % s[2]};
      }));
  rows.push_back(rearrangement(
      "reshape", any,
      [](const Var& x) {
        return reshape(x, {x.size(2), x.size(0), x.size(1)});
      },
      [](const Shape& s) {
        return Shape{s[2], s[0], s[1]};
      },
      [](Place at, const Shape& s) { return place_of((at[0] * s[0] + at[1]) * s[1] + at[2], s); }));
  rows.push_back(rearrangement(
      "detach", {{{2, 3}}}, [](const Var& x) { return detach(x); }, [](const Shape& s) { return s; },
      [](Place at, const Shape&) { return at; }));
  rows.back().differentiable = false;
}

void add_joins(std::vector<OperationRow>& rows) {
  rows.push_back({"stack",
                  {{{2, 3}, {2, 3}}, {{1}, {1}}, {{}, {}}, {{0, 2}, {0, 2}}},
                  [](Tape&, const Vars& x) {
                    return stack({x[0], x[1], x[0]});
                  },
                  [](const Tensors& x) {
                    return tensor_of(x[0].shape().insert(0, 3), [&](Place at) {
                      Index part = at[0];
                      at.erase(at.begin());
                      return element(x[part == 1 ? 1 : 0], at);
                    });
                  }});
  rows.push_back({"stack along the last axis",
                  {{{2, 3}, {2, 3}}, {{1}, {1}}, {{2, 0}, {2, 0}}},
                  [](Tape&, const Vars& x) {
                    return stack({x[0], x[1]}, -1);
                  },
                  [](const Tensors& x) {
                    return tensor_of(x[0].shape().insert(x[0].shape().rank(), 2), [&](Place at) {
                      Index part = at.back();
                      at.pop_back();
                      return element(x[static_cast<std::size_t>(part)], at);
                    });
                  }});
  rows.push_back({"concat",
                  {{{2, 3, 2}, {2, 1, 2}}, {{1, 0, 4}, {1, 2, 4}}, {{3, 2}, {3, 2}}, {{0, 2}, {0, 1}}},
                  [](Tape&, const Vars& x) {
                    return concat({x[0], x[1], x[0]}, 1);
                  },
                  [](const Tensors& x) {
                    const Index a = x[0].shape()[1], b = x[1].shape()[1];
                    return tensor_of(x[0].shape().with(1, 2 * a + b), [&](Place at) {
                      if (at[1] >= a && at[1] < a + b) return element(x[1], with(at, 1, at[1] - a));
                      return element(x[0], with(at, 1, at[1] < a ? at[1] : at[1] - a - b));
                    });
                  }});
  rows.push_back(rearrangement(
      "broadcast_to", {{{3, 1, 2}}, {{1, 1, 1}}, {{4, 1, 0}}, {{1, 1, 40}}},
      [](const Var& x) {
        return broadcast_to(x, {2, x.size(0), 3, x.size(2)});
      },
      [](const Shape& s) {
        return Shape{2, s[0], 3, s[2]};
      },
      [](Place at, const Shape&) {
        return Place{at[1], 0, at[3]};
      }));
  rows.push_back(rearrangement(
      "broadcast_to of a scalar", {{{}}},
      [](const Var& x) {
        return broadcast_to(x, {2, 3});
      },
      [](const Shape&) {
        return Shape{2, 3};
      },
      [](const Place&, const Shape&) { return Place{}; }));
  rows.push_back(rearrangement(
      "repeat", {{{3, 2}}, {{1, 1}}, {{2, 0}}, {{1, 20}}},
      [](const Var& x) {
        return repeat(x, {2, 3, 2});
      },
      [](const Shape& s) {
        return Shape{2, 3 * s[0], 2 * s[1]};
      },
      [](Place at, const Shape& s) {
        return Place{at[1] % s[0], at[2] % s[1]};
      }));
  rows.push_back({"pad",
                  {{{3, 2, 4}}, {{1, 1, 1}}, {{2, 0, 3}}},
                  [](Tape&, const Vars& x) {
                    return pad(x[0], {{1, 0}, {0, 2}, {2, 1}}, -1.5);
                  },
                  [](const Tensors& x) {
                    const Shape& s = x[0].shape();
                    return tensor_of({s[0] + 1, s[1] + 2, s[2] + 3}, [&](Place at) {
                      bool inside = at[0] >= 1 && at[1] < s[1] && at[2] >= 2 && at[2] < s[2] + 2;
                      return inside ? element(x[0], {at[0] - 1, at[1], at[2] - 2}) : -1.5;
                    });
                  }});
}

void add_indexing(std::vector<OperationRow>& rows) {
  for (int axis : {0, 1, 2})
    rows.push_back(rearrangement(
        "index_select along axis " + std::to_string(axis), {{{3, 4, 2}}, {{1, 2, 1}}, {{2, 3, 20}}},
        [axis](const Var& x) { return index_select(x, axis - 3, some_ids(5, x.size(axis))); },
        [axis](const Shape& s) { return s.with(axis, 5); },
        [axis](const Place& at, const Shape& s) {
          const auto k = static_cast<std::size_t>(axis);
          return with(at, k, some_ids(5, s[axis])[static_cast<std::size_t>(at[k])]);
        }));
  auto gathered = [](const Shape& s, int axis) { return axis == 0 ? Shape{5, s[1], s[2]} : Shape{s[0], s[1], 4}; };
  for (int axis : {0, 2})
    rows.push_back(rearrangement(
        "gather along axis " + std::to_string(axis), {{{3, 4, 2}}, {{1, 2, 1}}, {{2, 0, 3}}},
        [=](const Var& x) {
          const Shape shape = gathered(x.shape(), axis);
          return gather(x, axis, {ids_for(shape, x.size(axis)), shape});
        },
        [=](const Shape& s) { return gathered(s, axis); },
        [=](const Place& at, const Shape& s) {
          const Shape shape = gathered(s, axis);
          return with(at, static_cast<std::size_t>(axis), id_at(ids_for(shape, s[axis]), shape, at));
        }));
  for (int axis : {0, 1})
    rows.push_back({"scatter_add along axis " + std::to_string(axis),
                    {{{3, 4}, {2, 3}}, {{1, 5}, {1, 1}}, {{2, 2}, {0, 2}}, {{2, 3}, {2, 3}}},
                    [axis](Tape&, const Vars& x) {
                      const Shape& shape = x[1].shape();
                      return scatter_add(x[0], axis, {ids_for(shape, x[0].size(axis)), shape}, x[1]);
                    },
                    [axis](const Tensors& x) {
                      const Shape& shape = x[1].shape();
                      const Ids ids = ids_for(shape, x[0].shape()[axis]);
                      return tensor_of(x[0].shape(), [&](const Place& at) {
                        double sum = element(x[0], at);
                        for (Index i = 0; i < shape.count(); ++i) {
                          const Place from = place_of(i, shape);
                          if (with(from, static_cast<std::size_t>(axis), id_at(ids, shape, from)) == at)
                            sum += element(x[1], from);
                        }
                        return sum;
                      });
                    }});
  const Shape looked_up{2, 3};
  const auto embedded = [=](const Tensors& x) {
    const Ids ids = ids_for(looked_up, x[0].shape()[0]);
    return tensor_of({2, 3, x[0].shape()[1]}, [&](const Place& at) {
      return element(x[0], {id_at(ids, looked_up, at), at[2]});
    });
  };
  rows.push_back({"embedding",
                  {{{4, 3}}, {{1, 1}}, {{5, 0}}, {{3, 40}}},
                  [=](Tape& tape, const Vars& x) {
                    return embedding(tape, x[0], {ids_for(looked_up, x[0].size(0)), looked_up});
                  },
                  embedded});
  rows.push_back({"embedding with a padding index",
                  {{{4, 3}}},
                  [=](Tape& tape, const Vars& x) {
                    return embedding(tape, x[0], {ids_for(looked_up, x[0].size(0)), looked_up}, -1);
                  },
                  embedded});
  rows.back().differentiable = false;  // on purpose not the value's derivative
  rows.push_back({"one_hot",
                  {{{3, 4}}, {{3, 1}}},
                  [](Tape& tape, const Vars& x) {
                    return Var(x[0] * one_hot(tape, some_ids(3, x[0].size(1)), x[0].size(1), x[0].dtype()));
                  },
                  [](const Tensors& x) {
                    const Ids ids = some_ids(3, x[0].shape()[1]);
                    return tensor_of(x[0].shape(), [&](const Place& at) {
                      return at[1] == ids[static_cast<std::size_t>(at[0])] ? element(x[0], at) : 0;
                    });
                  }});
  const Cases matrices{{{2, 3, 4}}, {{4, 4}}, {{5, 2}}, {{1, 1}}, {{0, 3}}, {{3, 0}}};
  for (Index diagonal : {0, 1, -2}) {
    for (bool lower : {true, false}) {
      auto reference = [=](const Tensors& x) {
        return tensor_of(x[0].shape(), [&](const Place& at) {
          const Index above = at.back() - at[at.size() - 2];
          return (lower ? above <= diagonal : above >= diagonal) ? element(x[0], at) : 0;
        });
      };
      const std::string from = " from diagonal " + std::to_string(diagonal);
      rows.push_back({(lower ? "tril" : "triu") + from, matrices,
                      [=](Tape&, const Vars& x) { return lower ? tril(x[0], diagonal) : triu(x[0], diagonal); },
                      reference});
      rows.push_back({(lower ? "tril_mask" : "triu_mask") + from, matrices,
                      [=](Tape& tape, const Vars& x) {
                        const Index n = x[0].size(-2), m = x[0].size(-1);
                        return Var(x[0] * (lower ? tril_mask(tape, n, m, diagonal, x[0].dtype())
                                                 : triu_mask(tape, n, m, diagonal, x[0].dtype())));
                      },
                      reference});
    }
  }
}

}  // namespace

namespace unroll::testing {

std::vector<OperationRow> shape_rows() {
  std::vector<OperationRow> rows;
  add_views(rows);
  add_joins(rows);
  add_indexing(rows);
  return rows;
}

}  // namespace unroll::testing

namespace {

Tensors operands_of(const OperationRow& row, const std::vector<Shape>& shapes) {
  Tensors operands;
  for (const Shape& shape : shapes) operands.push_back(random_tensor(shape, 11 + operands.size(), row.low, row.high));
  return operands;
}

/// How a leaf is looked at so that an operand of a given shape does not lie in one piece: the leaf's shape, and the
/// view.
struct Disguise {
  const char* name;
  std::function<Shape(const Shape&)> shape;
  std::function<Var(const Var&)> view;
};

const std::vector<Disguise>& disguises() {
  static const std::vector<Disguise> all{
      {"transposed", [](const Shape& s) { return s.rank() < 2 ? s : s.with(0, s.columns()).with(s.rank() - 1, s[0]); },
       [](const Var& x) { return x.rank() < 2 ? x : transpose(x, 0, -1); }},
      {"sliced columns", [](const Shape& s) { return s.insert(s.rank(), 3); },
       [](const Var& x) { return select(x, -1, 1); }},
      {"wide rows", [](const Shape& s) { return s.rank() == 0 ? s : s.with(s.rank() - 1, s.columns() + 3); },
       [](const Var& x) { return x.rank() == 0 ? x : slice(x, -1, 2, x.size(-1) - 1); }},
      {"every second row", [](const Shape& s) { return s.rank() == 0 ? s : s.with(0, 2 * s[0]); },
       [](const Var& x) { return x.rank() == 0 ? x : slice(x, 0, 0, x.size(0), 2); }},
      {"flipped", [](const Shape& s) { return s; }, [](const Var& x) { return x.rank() == 0 ? x : flip(x, {0}); }},
  };
  return all;
}

}  // namespace

TEST_CASE("every row: values in both types, on inference tapes, and of operands that do not lie in one piece") {
  for (const OperationRow& row : shape_rows()) {
    for (const auto& shapes : row.cases) {
      CAPTURE(row.name);
      CAPTURE(shapes.empty() ? Shape{} : shapes[0]);
      const Tensors operands = operands_of(row, shapes);
      for (DType type : {float64, float32}) {
        Tensors rounded;
        for (const Tensor& operand : operands) rounded.push_back(operand.to(type));
        const Tensor expected = row.reference(operands).to(type);
        Tape tape = type == float32 ? Tape::inference() : Tape();
        Vars x;
        for (const Tensor& operand : rounded) x.push_back(tape.constant(operand));
        CHECK(relative_error(row.call(tape, x).value(), expected) < (type == float32 ? 1e-6 : 1e-14));
        for (const Disguise& disguise : disguises()) {
          CAPTURE(disguise.name);
          Vars disguised;
          Tensors seen;
          for (const Tensor& operand : rounded) {
            disguised.push_back(
                disguise.view(tape.variable(random_tensor(disguise.shape(operand.shape()), 5, -2, 2, type))));
            seen.push_back(Tensor(disguised.back().value()).to(float64));
            REQUIRE(seen.back().shape() == operand.shape());
          }
          CHECK(relative_error(row.call(tape, disguised).value(), row.reference(seen).to(type)) < 1e-6);
        }
      }
    }
  }
}

TEST_CASE("every row: derivatives, of operands that do not lie in one piece too") {
  for (const OperationRow& row : shape_rows()) {
    if (!row.differentiable) continue;
    for (const auto& shapes : row.cases) {
      CAPTURE(row.name);
      CAPTURE(shapes.empty() ? Shape{} : shapes[0]);
      auto squared = [&](Tape& tape, const Vars& x) { return Var(square(row.call(tape, x))); };
      CHECK(gradient_error(squared, operands_of(row, shapes)) < 1e-7);
      for (const Disguise& disguise : disguises()) {
        CAPTURE(disguise.name);
        Tensors leaves;
        for (const Shape& shape : shapes) leaves.push_back(random_tensor(disguise.shape(shape), 21 + leaves.size()));
        auto f = [&](Tape& tape, const Vars& x) {
          Vars operands;
          for (const Var& leaf : x) operands.push_back(disguise.view(leaf));
          return squared(tape, operands);
        };
        CHECK(gradient_error(f, leaves) < 1e-7);
        auto inner = [&](Tape& tape, const Vars& x) {  // of values that are not leaves
          Vars operands;
          for (const Var& leaf : x) operands.push_back(disguise.view(Var(leaf * 2)));
          return squared(tape, operands);
        };
        CHECK(gradient_error(inner, leaves) < 1e-7);
      }
    }
  }
}

TEST_CASE("every row: products with the Jacobian and the Hessian") {
  for (const OperationRow& row : shape_rows()) {
    for (const auto& shapes : row.cases) {
      CAPTURE(row.name);
      CAPTURE(shapes.empty() ? Shape{} : shapes[0]);
      const Tensors x = operands_of(row, shapes);
      Tensors along;
      for (const Tensor& operand : x) along.push_back(random_tensor(operand.shape(), 31 + along.size()));
      auto f = [&](Tape& tape, const Vars& in) { return row.call(tape, in); };
      const Jvp forward = jvp(f, x, along);
      CHECK(relative_error(forward.value, row.reference(x)) < 1e-14);
      if (!row.differentiable) continue;
      // Every row is linear or affine: f(x + v) - f(x) is the derivative along v.
      Tensors moved = x;
      for (std::size_t k = 0; k < x.size(); ++k)
        for (Index i = 0; i < x[k].size(); ++i) moved[k].data<double>()[i] += along[k].data<double>()[i];
      Tensor difference = row.reference(moved);
      const Tensor at = row.reference(x);
      for (Index i = 0; i < at.size(); ++i) difference.data<double>()[i] -= at.data<double>()[i];
      CHECK(relative_error(forward.tangent, difference) < 1e-13);
      // H v of L = sum f^2 is 2 J^T J v.
      auto loss = [&](Tape& tape, const Vars& in) { return sum(Var(square(row.call(tape, in)))); };
      const std::vector<Tensor> second = hvp(loss, x, along);
      Tensor seed = difference;
      for (Index i = 0; i < seed.size(); ++i) seed.data<double>()[i] *= 2;
      const std::vector<Tensor> expected = vjp(f, x, seed).gradients;
      for (std::size_t k = 0; k < x.size(); ++k) CHECK(relative_error(second[k], expected[k]) < 1e-12);
    }
  }
}
