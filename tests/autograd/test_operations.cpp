// The checks that every row of the table of operations goes through (operations.h), and that no operation is without
// one.

#include <autograd/autograd.h>
#include <tests/autograd/operations.h>

#include <doctest/doctest.h>
#include <oneapi/tbb/global_control.h>
#include <oneapi/tbb/task_arena.h>

#include <limits>
#include <utility>

using namespace unroll;
using namespace unroll::testing;

namespace {

using Tensors = std::vector<Tensor>;
using Check = std::function<void(const OperationRow&, const Tensors&)>;

const std::vector<OperationRow>& all_rows() {
  static const std::vector<OperationRow> rows = [] {
    std::vector<OperationRow> all;
    for (const auto& family : {reduction_rows(), loss_rows(), shape_rows(), linear_algebra_rows()})
      all.insert(all.end(), family.begin(), family.end());
    return all;
  }();
  return rows;
}

/// Calls f(row, operands) for every row and each of its cases.
void for_each_case(const Check& f) {
  for (const OperationRow& row : all_rows()) {
    for (const std::vector<Shape>& shapes : row.cases) {
      std::string text = row.name;
      Tensors operands;
      for (const Shape& shape : shapes) {
        text += fmt::format(" {}", shape);
        operands.push_back(random_tensor(shape, operands.size() + 1, row.low, row.high));
      }
      INFO(text);
      f(row, std::as_const(operands));
    }
  }
}

void for_each_differentiable_case(const Check& f) {
  for_each_case([&](const OperationRow& row, const Tensors& operands) {
    if (row.differentiable) f(row, operands);
  });
}

Tensors converted(const Tensors& tensors, DType dtype) {
  Tensors result;
  for (const Tensor& tensor : tensors) result.push_back(tensor.to(dtype));
  return result;
}

/// As relative_error; results that are all but 0 are compared with 0.01 instead, for the operands are not so small.
double value_error(const Tensor& value, const Tensor& expected) {
  double largest = 0;
  for (const Tensor* tensor : {&value, &expected})
    for (double v : tensor->to_vector()) largest = std::max(largest, std::abs(v));
  return relative_error(value.to(float64), expected) * std::min(1.0, largest / 0.01);
}

/// What flows back into the result: different for every element.
Tensor seed_of(const Var& y) { return random_tensor(y.shape(), 4711, 0.5, 1.5, y.dtype()); }

/// The gradient of a leaf; zeros where none has arrived.
Tensor gradient_of(const Var& leaf) {
  try {
    return Tensor(leaf.grad());
  } catch (const Error&) {
    return Tensor(leaf.shape(), leaf.dtype());
  }
}

struct Run {
  Tensor value;
  Tensors gradients;
};

bool same_run(const Run& a, const Run& b) {
  bool same = same_bits(a.value, b.value) && a.gradients.size() == b.gradients.size();
  for (std::size_t k = 0; same && k < a.gradients.size(); ++k) same = same_bits(a.gradients[k], b.gradients[k]);
  return same;
}

/// Value and gradients of a row on `tape`, each operand a variable of its own.
Run run(const OperationRow& row, const Tensors& operands, Tape& tape) {
  Vars x;
  for (const Tensor& operand : operands) x.push_back(tape.variable(operand));
  Var y = row.call(tape, x);
  Run result{Tensor(y.value()), {}};
  if (!row.differentiable) return result;
  tape.backward(y, seed_of(y));
  for (const Var& leaf : x) result.gradients.push_back(gradient_of(leaf));
  return result;
}

Run run(const OperationRow& row, const Tensors& operands) {
  Tape tape;
  return run(row, operands, tape);
}

/// A tensor that is to be seen as an operand: how it is stored, and the view of that.
struct Stored {
  std::string name;
  Tensor storage;
  std::function<Var(const Var&)> view;
};

/// Puts the elements of `tensor` where `view` sees them, in a storage that is NaN everywhere else: whoever reads (or
/// writes a gradient) outside of the view shows.
Stored stored(std::string name, const Tensor& tensor, const Shape& shape, std::function<Var(const Var&)> view) {
  Tensor storage = Tensor::full(shape, std::numeric_limits<double>::quiet_NaN(), tensor.dtype());
  // Element i of the storage is i: the view tells which ones it sees.
  Tensor numbers(shape, float64);
  for (Index i = 0; i < numbers.size(); ++i) numbers.data<double>()[i] = static_cast<double>(i);
  Tape tape = Tape::inference();
  std::vector<double> seen = view(tape.constant(numbers)).value().to_vector(), values = tensor.to_vector();
  REQUIRE(seen.size() == values.size());
  with_type(tensor.dtype(), [&]<class T>(T) {
    for (std::size_t i = 0; i < seen.size(); ++i)
      storage.data<T>()[static_cast<std::size_t>(seen[i])] = static_cast<T>(values[i]);
  });
  return {std::move(name), std::move(storage), std::move(view)};
}

/// The tensor as views of every kind.
std::vector<Stored> views_of(const Tensor& tensor) {
  std::vector<Stored> views;
  const Shape shape = tensor.shape();
  const int rank = shape.rank();
  for (int a = 0; a < rank; ++a)
    for (int b = a + 1; b < rank; ++b)
      views.push_back(stored(fmt::format("axes {} and {} exchanged", a, b), tensor,
                             shape.with(a, shape[b]).with(b, shape[a]),
                             [a, b](const Var& x) { return transpose(x, a, b); }));
  for (int axis = 0; axis < rank; ++axis)
    views.push_back(stored(fmt::format("cut out of axis {}", axis), tensor, shape.with(axis, shape[axis] + 3),
                           [axis](const Var& x) { return slice(x, axis, 1, -2); }));
  if (rank < max_rank) {
    views.push_back(stored("every third element", tensor, shape.insert(rank, 3),
                           [rank](const Var& x) { return select(x, rank, 1); }));
    views.push_back(stored("one of a batch", tensor, shape.insert(0, 3), [](const Var& x) { return x[1]; }));
  }
  return views;
}

/// The same as `run` with some operands stored in another way.
Run run_stored(const OperationRow& row, const std::vector<Stored>& operands) {
  Tape tape;
  Vars leaves, x;
  for (const Stored& operand : operands) {
    leaves.push_back(tape.variable(operand.storage));
    x.push_back(operand.view(leaves.back()));
  }
  Var y = row.call(tape, x);
  Run result{Tensor(y.value()), {}};
  if (!row.differentiable) return result;
  tape.backward(y, seed_of(y));
  for (std::size_t k = 0; k < operands.size(); ++k) {
    Tensor whole = gradient_of(leaves[k]), part(operands[k].view(tape.constant(whole)).value());
    auto arrived = [](const Tensor& g) {
      std::vector<double> values = g.to_vector();
      return std::ranges::count_if(values, [](double v) { return v != 0; });
    };
    CHECK_MESSAGE(arrived(whole) == arrived(part), "a gradient outside of the view");
    result.gradients.push_back(part);
  }
  return result;
}

void check_close(const Run& have, const Run& want, double tolerance) {
  CHECK(relative_error(have.value, want.value) < tolerance);
  for (std::size_t k = 0; k < want.gradients.size(); ++k) {
    CAPTURE(k);
    CHECK(relative_error(have.gradients[k], want.gradients[k]) < tolerance);
  }
}

void on_threads(int threads, const std::function<void()>& f) {
  tbb::global_control limit(tbb::global_control::max_allowed_parallelism, static_cast<std::size_t>(threads));
  tbb::task_arena arena(threads);
  arena.execute(f);
}

}  // namespace

TEST_CASE("values are what the definition says, in both types") {
  for_each_case([](const OperationRow& row, const Tensors& operands) {
    for (DType dtype : {float64, float32}) {
      CAPTURE(std::string(name_of(dtype)));
      Tensors rounded = converted(operands, dtype);
      Tensor value = run(row, rounded).value, expected = row.reference(converted(rounded, float64));
      CHECK(value.dtype() == dtype);
      REQUIRE(to_string(value.shape()) == to_string(expected.shape()));
      CHECK(value_error(value, expected) < (dtype == float32 ? row.float32_tolerance : 1e-12));
    }
  });
}

TEST_CASE("gradients agree with central differences, and in float32 with those in float64") {
  for_each_differentiable_case([](const OperationRow& row, const Tensors& operands) {
    CHECK(gradient_error(row.call, operands) < 1e-6);
    Tensors rounded = converted(operands, float32);
    Run single = run(row, rounded), full = run(row, converted(rounded, float64));
    for (std::size_t k = 0; k < operands.size(); ++k)
      CHECK(value_error(single.gradients[k].to(float64), full.gradients[k]) < 10 * row.float32_tolerance);
  });
}

TEST_CASE("an operand may be a view of any kind: it sees the same values and hands on the same gradient") {
  for_each_case([](const OperationRow& row, const Tensors& operands) {
    const Run plain = run(row, operands);
    std::vector<Stored> as_it_is;
    for (const Tensor& operand : operands) as_it_is.push_back({"as it is", operand, [](const Var& x) { return x; }});
    std::vector<Stored> last_views = as_it_is;
    for (std::size_t k = 0; k < operands.size(); ++k) {
      CAPTURE(k);
      for (const Stored& view : views_of(operands[k])) {
        CAPTURE(view.name);
        std::vector<Stored> with_view = as_it_is;
        with_view[k] = last_views[k] = view;
        check_close(run_stored(row, with_view), plain, 1e-12);
        with_view[k].storage = with_view[k].storage.to(float32);
        for (Stored& other : with_view) other.storage = other.storage.to(float32);
        check_close(run_stored(row, with_view), run(row, converted(operands, float32)), 10 * row.float32_tolerance);
      }
    }
    check_close(run_stored(row, last_views), plain, 1e-12);
  });
}

TEST_CASE("one value as two operands receives both contributions") {
  for_each_differentiable_case([](const OperationRow& row, const Tensors& operands) {
    for (std::size_t a = 0; a < operands.size(); ++a) {
      for (std::size_t b = a + 1; b < operands.size(); ++b) {
        if (operands[a].shape() != operands[b].shape()) continue;
        CAPTURE(a);
        CAPTURE(b);
        auto shared = [&](Tape& tape, Vars x) {
          x[b] = x[a];
          // The unused input must have a gradient too.
          return Var(row.call(tape, x) + sum(Var(x[a] * 0.5)));
        };
        Tensors kept = operands;
        kept.erase(kept.begin() + static_cast<std::ptrdiff_t>(b));
        auto without_b = [&](Tape& tape, const Vars& given) {
          Vars x = given;
          x.insert(x.begin() + static_cast<std::ptrdiff_t>(b), given[a]);
          return shared(tape, x);
        };
        CHECK(gradient_error(without_b, kept) < 1e-6);
      }
    }
  });
}

TEST_CASE("operands that are used elsewhere too, before and after, receive everything") {
  for_each_differentiable_case([](const OperationRow& row, const Tensors& operands) {
    auto used_thrice = [&](Tape& tape, const Vars& x) {
      Vars before, after;
      for (const Var& operand : x) before.push_back(sum(Var(operand * operand)));
      Var y = row.call(tape, x);
      for (const Var& operand : x) after.push_back(sum(Var(operand * 0.5)));
      for (std::size_t k = 0; k < x.size(); ++k) y = y + before[k] * after[k];
      return y;
    };
    CHECK(gradient_error(used_thrice, operands) < 1e-6);
    // No leaves: gradients that are dropped during the sweep, some of them handed on as they are.
    auto of_no_leaf = [&](Tape& tape, const Vars& x) {
      Vars inner;
      for (const Var& operand : x) inner.push_back(operand * 1);
      Var y = row.call(tape, inner);
      return Var(y * y + y);
    };
    CHECK(gradient_error(of_no_leaf, operands) < 1e-6);
  });
}

TEST_CASE("an operand that needs no gradient, or is a parameter, changes no bit of the others' gradients") {
  for_each_differentiable_case([](const OperationRow& row, const Tensors& operands) {
    const Run all = run(row, operands);
    for (std::size_t k = 0; k < operands.size(); ++k) {
      CAPTURE(k);
      for (bool constant : {true, false}) {
        CAPTURE(constant);
        Parameter parameter("parameter", operands[k]);
        Tape tape;
        Vars x;
        for (const Tensor& operand : operands) x.push_back(tape.variable(operand));
        x[k] = constant ? tape.constant(operands[k]) : tape.use(parameter);
        Var y = row.call(tape, x);
        CHECK(same_bits(y.value(), all.value));
        if (constant && operands.size() == 1) {
          CHECK_FALSE(y.needs_grad());
          continue;
        }
        tape.backward(y, seed_of(y));
        for (std::size_t j = 0; j < operands.size(); ++j)
          if (j != k) CHECK(same_bits(gradient_of(x[j]), all.gradients[j]));
        if (!constant) CHECK(same_bits(parameter.grad(), all.gradients[k]));
      }
    }
  });
}

TEST_CASE("a tape for inference, one that has been cleared and any number of threads give the same bits") {
  Tape used;
  for_each_case([&](const OperationRow& row, const Tensors& operands) {
    const Run first = run(row, operands);
    Tape inference = Tape::inference();
    Vars x;
    for (const Tensor& operand : operands) x.push_back(inference.variable(operand));
    CHECK(same_bits(row.call(inference, x).value(), first.value));
    used.clear();
    CHECK(same_run(run(row, operands, used), first));
    for (int threads : {1, 2}) on_threads(threads, [&] { CHECK(same_run(run(row, operands), first)); });
  });
}

TEST_CASE("operands of two types are refused in one line, and nothing is left on the tape") {
  for_each_case([](const OperationRow& row, const Tensors& operands) {
    for (std::size_t k = 0; k < operands.size() && operands.size() > 1; ++k) {
      CAPTURE(k);
      Tape tape;
      Vars x;
      for (std::size_t j = 0; j < operands.size(); ++j)
        x.push_back(tape.variable(operands[j].to(j == k ? float32 : float64)));
      const std::size_t before = tape.size();
      CHECK_ERROR(row.call(tape, x), "float32", "float64");
      const bool makes_views = row.name.find("views") != std::string::npos;  // and those stay
      if (!makes_views) CHECK(tape.size() == before);
    }
  });
}

TEST_CASE("a second backward adds as much again") {
  for_each_differentiable_case([](const OperationRow& row, const Tensors& operands) {
    const Run once = run(row, operands);
    Tape tape;
    Vars x;
    for (const Tensor& operand : operands) x.push_back(tape.variable(operand));
    Var y = row.call(tape, x);
    for (int time = 0; time < 2; ++time) tape.backward(y, seed_of(y));
    for (std::size_t k = 0; k < operands.size(); ++k) {
      Tensor half = gradient_of(x[k]);
      for (Index i = 0; i < half.size(); ++i) half.data<double>()[i] /= 2;
      CHECK(value_error(half, once.gradients[k]) < 1e-12);
    }
  });
}

TEST_CASE("tangents carried forward agree with gradients, and those carried through backward with their differences") {
  for_each_differentiable_case([](const OperationRow& row, const Tensors& operands) {
    Tensors direction;
    for (const Tensor& operand : operands) direction.push_back(random_tensor(operand.shape(), 100 + direction.size()));
    const Run plain = run(row, operands);
    const Jvp along = jvp(row.call, operands, direction);
    CHECK(value_error(along.value, plain.value) < 1e-12);

    Tape tape;
    const std::vector<double> seed = seed_of(tape.constant(plain.value)).to_vector();
    double forward = 0, backward = 0, parts = 1e-3;
    for (std::size_t i = 0; i < seed.size(); ++i) forward += seed[i] * along.tangent.to_vector()[i];
    for (std::size_t k = 0; k < operands.size(); ++k) {
      const std::vector<double> g = plain.gradients[k].to_vector(), v = direction[k].to_vector();
      for (std::size_t i = 0; i < g.size(); ++i) {
        backward += g[i] * v[i];
        parts += std::abs(g[i] * v[i]);
      }
    }
    CHECK(std::abs(forward - backward) < 1e-11 * parts);

    // Weighted and curved, so that linear operations have a second derivative too.
    auto scalar = [&](Tape& t, const Vars& x) {
      Var y = row.call(t, x);
      return sum(Var((y + square(y) * 0.5) * seed_of(y)));
    };
    auto moved_gradients = [&](double step) {
      Tensors at = operands;
      for (std::size_t k = 0; k < at.size(); ++k)
        for (Index i = 0; i < at[k].size(); ++i) at[k].data<double>()[i] += step * direction[k].data<double>()[i];
      return vjp(scalar, at, Tensor::scalar(1, float64)).gradients;
    };
    const double step = 1e-5;
    const Tensors exact = hvp(scalar, operands, direction), above = moved_gradients(step),
                  below = moved_gradients(-step);
    for (std::size_t k = 0; k < operands.size(); ++k) {
      CAPTURE(k);
      Tensor expected = above[k];
      for (Index i = 0; i < expected.size(); ++i) {
        double& e = expected.data<double>()[i];
        e = (e - below[k].data<double>()[i]) / (2 * step);
      }
      CHECK(value_error(exact[k], expected) < 1e-6);
    }
  });
}
