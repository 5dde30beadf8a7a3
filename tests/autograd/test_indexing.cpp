// Gather, scatter, index_select, embedding, one-hot vectors and triangles. Their rows are in test_shape_ops.cpp.

#include <autograd/autograd.h>
#include <layers/dropout.h>
#include <tests/support.h>

#include <doctest/doctest.h>
#include <oneapi/tbb/global_control.h>
#include <oneapi/tbb/task_arena.h>

using namespace unroll;
using namespace unroll::testing;

namespace {

using Ids = std::vector<std::int32_t>;
using Values = std::vector<double>;

Ids random_ids(Index count, Index size, std::uint64_t seed) {
  Generator rng(seed);
  Ids ids(static_cast<std::size_t>(count));
  for (std::int32_t& id : ids) id = static_cast<std::int32_t>(rng.below(size));
  return ids;
}

/// Runs f on one, two and four threads, and compares the bits of all it returns.
template <class F>
std::vector<Tensor> on_any_number_of_threads(F&& f) {
  std::vector<Tensor> first;
  for (std::size_t threads : {1U, 2U, 4U}) {
    tbb::global_control limit(tbb::global_control::max_allowed_parallelism, threads);
    tbb::task_arena arena(static_cast<int>(threads));
    std::vector<Tensor> results;
    arena.execute([&] { results = f(); });
    if (first.empty()) first = results;
    for (std::size_t i = 0; i < results.size(); ++i) CHECK(same_bits(results[i], first[i]));
  }
  return first;
}

}  // namespace

TEST_CASE("gather, scatter_add and index_select: PyTorch's documented examples") {
  Tape tape;
  Var t = tape.constant(Tensor({2, 2}, {1, 2, 3, 4}));
  CHECK(gather(t, 1, {Ids{0, 0, 1, 0}, {2, 2}}).value().to_vector() == Values{1, 1, 4, 3});
  Var zeros = tape.zeros({3, 5}), ones = tape.constant(Tensor::full({2, 5}, 1));
  CHECK(scatter_add(zeros, 0, {Ids{0, 1, 2, 0, 0}, {1, 5}}, ones).value().to_vector() ==
        Values{1, 0, 0, 1, 1, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0});
  CHECK(scatter_add(zeros, 0, {Ids{0, 1, 2, 0, 0, 0, 1, 2, 2, 2}, {2, 5}}, ones).value().to_vector() ==
        Values{2, 0, 0, 1, 1, 0, 2, 0, 0, 0, 0, 0, 2, 1, 1});
  Var x = tape.constant(Tensor({3, 4}, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}));
  CHECK(index_select(x, 0, Ids{0, 2}).value().to_vector() == Values{0, 1, 2, 3, 8, 9, 10, 11});
  CHECK(index_select(x, 1, Ids{0, 2}).value().to_vector() == Values{0, 2, 4, 6, 8, 10});
  CHECK(index_select(x, -1, Ids{}).shape() == Shape{3, 0});
}

TEST_CASE("gather and scatter_add of fewer places than there are leave the others alone") {
  Tape tape;
  Var x = tape.variable(random_tensor({4, 3, 5}, 1)), source = tape.variable(random_tensor({2, 4, 3}, 2));
  const Shape shape{2, 3, 2};
  const Ids ids = random_ids(shape.count(), 3, 3);
  Var picked = gather(x, 1, {ids, shape});
  tape.backward(picked, Tensor::full(shape, 1, float64));
  double count = 0;
  for (Index i = 0; i < 4; ++i)
    for (Index j = 0; j < 3; ++j)
      for (Index k = 0; k < 5; ++k) {
        double expected = 0;  // how often (i, j, k) was picked
        for (Index m = 0; i < 2 && k < 2 && m < 3; ++m)
          expected += ids[static_cast<std::size_t>((i * 3 + m) * 2 + k)] == j ? 1 : 0;
        CHECK(x.grad().at({i, j, k}) == expected);
        count += expected;
      }
  CHECK(count == 12);
  tape.backward(scatter_add(detach(x), 1, {ids, shape}, source), Tensor::full({4, 3, 5}, 1, float64));
  for (Index i = 0; i < 2; ++i)
    for (Index j = 0; j < 4; ++j)
      for (Index k = 0; k < 3; ++k) CHECK(source.grad().at({i, j, k}) == (j < 3 && k < 2 ? 1 : 0));
}

TEST_CASE("scatter_add: source and target the same value, and one of them without a gradient") {
  const Ids ids{1, 0, 1, 1};
  auto twice = [&](Tape&, const std::vector<Var>& x) { return Var(square(scatter_add(x[0], 0, {ids, {2, 2}}, x[0]))); };
  CHECK(gradient_error(twice, {random_tensor({2, 2}, 1)}) < 1e-8);
  auto views = [&](Tape&, const std::vector<Var>& x) {
    return Var(square(scatter_add(transpose(x[0]), 1, {ids, {2, 2}}, slice(x[0], 1, 1, 3))));
  };
  CHECK(gradient_error(views, {random_tensor({3, 3}, 1)}) < 1e-8);
  const Tensor other = random_tensor({2, 2}, 2);
  auto source = [&](Tape& tape, const std::vector<Var>& x) {
    return Var(square(scatter_add(tape.constant(other), 0, {ids, {2, 2}}, x[0])));
  };
  CHECK(gradient_error(source, {random_tensor({2, 2}, 1)}) < 1e-8);
  auto target = [&](Tape& tape, const std::vector<Var>& x) {
    return Var(square(scatter_add(x[0], 0, {ids, {2, 2}}, tape.constant(other))));
  };
  CHECK(gradient_error(target, {random_tensor({2, 2}, 1)}) < 1e-8);
}

TEST_CASE("repeated indices add up in their order: the same bits on any number of threads") {
  // 1, 1e8, -1e8 and so on in float32: another order gives another sum.
  const Index n = 4000;
  for (Index columns : {1, 48, 70}) {
    CAPTURE(columns);
    Tensor seed = random_tensor({n, columns}, 1, -1, 1, float32), across({columns, n});
    for (Index i = 0; i < n; ++i)
      for (Index j = 0; j < columns; ++j) {
        seed.set({i, j}, seed.at({i, j}) * (i % 3 == 0 ? 1 : i % 3 == 1 ? 1e8 : -1e8));
        across.set({j, i}, seed.at({i, j}));
      }
    const Ids ids = random_ids(n, 7, 2);
    Ids each(static_cast<std::size_t>(n * columns)), each_across(each.size());
    for (Index i = 0; i < n; ++i)
      for (Index j = 0; j < columns; ++j)
        each[static_cast<std::size_t>(i * columns + j)] = each_across[static_cast<std::size_t>(j * n + i)] =
            ids[static_cast<std::size_t>(i)];
    Tensor expected({7, columns}), across_expected({columns, 7});
    for (Index i = 0; i < n; ++i)
      for (Index j = 0; j < columns; ++j) {
        float& sum = expected.data<float>()[ids[static_cast<std::size_t>(i)] * columns + j];
        sum += seed.data<float>()[i * columns + j];
        across_expected.data<float>()[j * 7 + ids[static_cast<std::size_t>(i)]] = sum;
      }
    const std::vector<Tensor> results = on_any_number_of_threads([&] {
      Tape tape;
      const Tensor table = random_tensor({7, columns}, 3, -1, 1, float32);
      Var a = tape.variable(table), b = tape.variable(table), c = tape.variable(table);
      Var d = tape.variable(table.transposed()), e = tape.variable(table.transposed());
      tape.backward(embedding(tape, a, ids), seed);
      tape.backward(index_select(b, 0, ids), seed);
      tape.backward(gather(c, 0, {each, {n, columns}}), seed);
      tape.backward(index_select(d, 1, ids), across);
      tape.backward(gather(e, 1, {each_across, {columns, n}}), across);
      Var f = scatter_add(tape.zeros({7, columns}), 0, {each, {n, columns}}, tape.constant(seed));
      return std::vector<Tensor>{Tensor(a.grad()),  Tensor(b.grad()), Tensor(c.grad()),
                                 Tensor(f.value()), Tensor(d.grad()), Tensor(e.grad())};
    });
    for (std::size_t k = 0; k < 4; ++k) CHECK(same_bits(results[k], expected));
    for (std::size_t k = 4; k < 6; ++k) CHECK(same_bits(results[k], across_expected));
  }
}

TEST_CASE("large look-ups have the right values on any number of threads") {
  const Index n = 3000, columns = 40;
  const Tensor table = random_tensor({50, columns}, 1, -1, 1, float32);
  const Ids ids = random_ids(n, 50, 2);
  const std::vector<Tensor> results = on_any_number_of_threads([&] {
    Tape tape = Tape::inference();
    Var x = tape.constant(table);
    return std::vector<Tensor>{Tensor(embedding(tape, x, {ids, {30, 100}}).value()),
                               Tensor(index_select(transpose(x), 1, ids).value())};
  });
  CHECK(results[0].shape() == Shape{30, 100, columns});
  bool same = true;
  for (Index i = 0; i < n; ++i)
    for (Index j = 0; j < columns; ++j) {
      const double expected = table.at({ids[static_cast<std::size_t>(i)], j});
      same &= results[0].at({i / 100, i % 100, j}) == expected && results[1].at({j, i}) == expected;
    }
  CHECK(same);
}

TEST_CASE("embedding: indices of any shape, the padding row gives values and takes no gradient") {
  Parameter table("table", Tensor({3, 2}, {1, 2, 3, 4, 5, 6}, float64));
  const Ids ids{2, 0, 2, 1};
  for (Index padding : {2, -1}) {
    table.zero_grad();
    Tape tape;
    Var y = embedding(tape, table, {ids, {2, 2}}, padding);
    CHECK(y.shape() == Shape{2, 2, 2});
    CHECK(y.value().to_vector() == Values{5, 6, 1, 2, 5, 6, 3, 4});
    tape.backward(y, Tensor({2, 2, 2}, {1, 2, 3, 4, 5, 6, 7, 8}, float64));
    CHECK(table.grad().to_vector() == Values{3, 4, 7, 8, 0, 0});
  }
  table.zero_grad();
  Tape tape;
  tape.backward(embedding(tape, table, {ids, {2, 2}}), Tensor({2, 2, 2}, {1, 2, 3, 4, 5, 6, 7, 8}, float64));
  CHECK(table.grad().to_vector() == Values{3, 4, 7, 8, 6, 8});
  CHECK(embedding(tape, table, {Ids{1}, Shape{}}).value().to_vector() == Values{3, 4});  // a single one
  CHECK(embedding(tape, table, Ids{}).shape() == Shape{0, 2});
  // The ids may be gone by the time of the backward.
  table.zero_grad();
  Var y;
  {
    Ids passing{1, 1};
    y = embedding(tape, table, passing, 0);
    passing = {7, 7};
  }
  tape.backward(sum(y));
  CHECK(table.grad().to_vector() == Values{0, 0, 2, 2, 0, 0});
}

TEST_CASE("one_hot, tril_mask and triu_mask: any shape, type and diagonal") {
  Tape tape;
  CHECK(one_hot(tape, Ids{2, 0}, 3).value().to_vector() == Values{0, 0, 1, 1, 0, 0});
  CHECK(one_hot(tape, {Ids{1, 0}, {2, 1}}, 2, float64).shape() == Shape{2, 1, 2});
  CHECK(one_hot(tape, {Ids{1, 0}, {2, 1}}, 2, float64).dtype() == float64);
  CHECK(one_hot(tape, {Ids{1}, Shape{}}, 2).value().to_vector() == Values{0, 1});
  CHECK(one_hot(tape, Ids{}, 0).shape() == Shape{0, 0});
  CHECK_FALSE(one_hot(tape, Ids{0}, 1).needs_grad());
  for (auto [n, m] : {std::pair<Index, Index>{3, 3}, {2, 5}, {5, 2}, {1, 1}, {0, 2}, {2, 0}})
    for (Index diagonal : {Index{-7}, Index{-1}, Index{0}, Index{2}, Index{9}, std::numeric_limits<Index>::max(),
                           std::numeric_limits<Index>::min()}) {
      auto lower = tril_mask(tape, n, m, diagonal).value(), upper = triu_mask(tape, n, m, diagonal, float64).value();
      REQUIRE(lower.shape() == Shape{n, m});
      for (Index i = 0; i < n; ++i)
        for (Index j = 0; j < m; ++j) {
          CHECK(lower.at({i, j}) == (j - i <= diagonal ? 1 : 0));
          CHECK(upper.at({i, j}) == (j - i >= diagonal ? 1 : 0));
        }
    }
}

TEST_CASE("what tril and triu leave out does not come through, NaN neither, in value nor gradient") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  Tape tape;
  Var x = tape.variable(Tensor({2, 2}, {1, nan, 3, 4}, float64));
  Var y = tril(x);
  CHECK(y.value().to_vector() == Values{1, 0, 3, 4});
  tape.backward(y, Tensor({2, 2}, {1, nan, 2, 3}, float64));
  CHECK(x.grad().to_vector() == Values{1, 0, 2, 3});
  CHECK(triu(tape.constant(Tensor({2, 2}, {1, 2, nan, 4}))).value().to_vector() == Values{1, 2, 0, 4});
}

TEST_CASE("constants and dropout masks on the tape of a jvp are numbers without a tangent") {
  const Tensor x = random_tensor({2, 3}, 1), v = random_tensor({2, 3}, 2);
  auto masked = [](Tape& tape, const std::vector<Var>& in) {
    Var mask = Var(one_hot(tape, Ids{2, 0}, 3, in[0].dtype()) + tril_mask(tape, 2, 3, 0, in[0].dtype()) +
                   triu_mask(tape, 2, 3, 2, in[0].dtype()));
    return Var(mask * in[0]);
  };
  const std::vector<double> mask{1, 0, 2, 2, 1, 0}, dx = v.to_vector();
  const std::vector<double> dy = jvp(masked, {x}, {v}).tangent.to_vector();
  for (std::size_t i = 0; i < dy.size(); ++i) CHECK(dy[i] == mask[i] * dx[i]);

  auto dropped = [](Tape&, const std::vector<Var>& in) {
    Generator rng(5);
    Dropout dropout(0.5, rng);
    return dropout(in[0]);
  };
  const Tensor ones = Tensor::full({50, 4}, 1, float64), along = random_tensor({50, 4}, 3);
  const Jvp y = jvp(dropped, {ones}, {along});
  Tape tape;
  CHECK(same_bits(y.value, dropped(tape, {tape.constant(ones)}).value()));
  for (Index i = 0; i < 50; ++i)
    for (Index j = 0; j < 4; ++j) CHECK(y.tangent.at({i, j}) == y.value.at({i, j}) * along.at({i, j}));
  const auto found = y.value.to_vector();
  CHECK(std::ranges::count(found, 2.0) + std::ranges::count(found, 0.0) == 200);
  CHECK(std::ranges::count(found, 2.0) > 60);
}

TEST_CASE("wrong indices, axes and shapes name the function, the value, its range and the line") {
  Tape tape;
  Var x = tape.constant(Tensor({2, 3})), v = tape.constant(Tensor({3})), d = tape.constant(Tensor({2, 3}, float64));
  Var scalar = tape.constant(Tensor::scalar(1));
  Parameter table("table", Tensor({4, 2}));
  tape.use(table);
  const std::size_t before = tape.size();
  CHECK_ERROR_HERE(index_select(x, 1, Ids{0, 3}), "index_select", "index 1 is 3", "[0, 3)", "axis 1", "[2, 3]");
  CHECK_ERROR_HERE(index_select(x, 0, Ids{-1}), "index_select", "index 0 is -1", "[0, 2)");
  CHECK_ERROR_HERE(index_select(x, 2, Ids{0}), "index_select", "axis 2", "[2, 3]");
  CHECK_ERROR_HERE(index_select(scalar, 0, Ids{0}), "index_select", "axis 0", "[]");
  CHECK_ERROR_HERE(index_select(x, 0, {Ids{0}, {1, 1}}), "index_select", "[1, 1]", "one axis");
  CHECK_ERROR_HERE(index_select(Var(), 0, Ids{0}), "index_select", "empty Var");
  CHECK_ERROR_HERE(gather(x, 0, {Ids{2}, {1, 1}}), "gather", "index 0 is 2", "[0, 2)");
  CHECK_ERROR_HERE(gather(x, 0, Ids{0}), "gather", "[1]", "[2, 3]");
  CHECK_ERROR_HERE(gather(x, 1, {Ids(3), {3, 1}}), "gather", "[3, 1]", "[2, 3]");
  CHECK_ERROR_HERE(gather(x, -3, {Ids(3), {3, 1}}), "gather", "axis -3", "[2, 3]");
  CHECK_ERROR_HERE(scatter_add(x, 1, {Ids{5}, {1, 1}}, x), "scatter_add", "index 0 is 5", "[0, 3)");
  CHECK_ERROR_HERE(scatter_add(x, 1, {Ids(4), {1, 4}}, x), "scatter_add", "[1, 4]", "source", "[2, 3]");
  CHECK_ERROR_HERE(scatter_add(v, 0, {Ids(4), {4}}, x), "scatter_add", "[4]", "source", "[2, 3]");
  CHECK_ERROR_HERE(scatter_add(x, 0, {Ids{0}, {1, 1}}, d), "scatter_add", "float32", "float64");
  CHECK_ERROR_HERE(scatter_add(x, 0, {Ids{0}, {1, 1}}, Var()), "scatter_add", "empty Var");
  CHECK_ERROR_HERE(embedding(tape, table, Ids{0, 4}), "embedding", "index 1 is 4", "[0, 4)", "[4, 2]");
  CHECK_ERROR_HERE(embedding(tape, v, Ids{0}), "embedding", "[3]", "matrix");
  CHECK_ERROR_HERE(embedding(tape, table, Ids{0}, 4), "embedding", "padding index 4", "-4 to 3");
  CHECK_ERROR_HERE(embedding(tape, table, Ids{0}, -5), "embedding", "padding index -5", "-4 to 3");
  CHECK_ERROR_HERE(embedding(tape, table, {Ids{0}, {1, 1, 1, 1, 1, 1}}), "embedding", "at most 6");
  CHECK_ERROR_HERE(one_hot(tape, Ids{1, 2}, 2), "one_hot", "index 1 is 2", "[0, 2)");
  CHECK_ERROR_HERE(one_hot(tape, Ids{}, -1), "one_hot", "-1 classes");
  CHECK_ERROR_HERE(one_hot(tape, {Ids{0}, {1, 1, 1, 1, 1, 1}}, 2), "one_hot", "at most 6");
  CHECK_ERROR_HERE(tril_mask(tape, -1, 2), "tril_mask", "-1 rows");
  CHECK_ERROR_HERE(triu_mask(tape, 1, -2), "triu_mask", "-2 columns");
  CHECK_ERROR_HERE(tril(v), "tril", "[3]", "two axes");
  CHECK_ERROR_HERE(triu(scalar), "triu", "[]", "two axes");
  CHECK(tape.size() == before);
}
