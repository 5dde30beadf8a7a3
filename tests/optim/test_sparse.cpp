// Sparse parameters: tables of which a step clears, clips and moves the rows that were used, and no others.

#include <autograd/autograd.h>
#include <layers/embedding.h>
#include <optim/optim.h>
#include <tests/support.h>

#include <doctest/doctest.h>

#include <cmath>

using namespace unroll;
using namespace unroll::testing;

namespace {

using Ids = std::vector<std::int32_t>;

/// A table [6, 3] whose gradient in row r is that of sum(table[ids] * weights).
struct Table {
  Parameter p;
  explicit Table(bool sparse, DType dtype = float64) : p("table", random_tensor({6, 3}, 1, -1, 1, dtype)) {
    p.set_sparse(sparse);
  }
  void look_up(const Ids& ids, const Tensor& weights, Index padding) {
    Tape tape;
    tape.backward(sum(embedding(tape, p, ids, padding) * weights.to(p.dtype())));
  }
  void look_up(const Ids& ids, const Tensor& weights) {
    Tape tape;
    tape.backward(sum(embedding(tape, p, ids) * weights.to(p.dtype())));
  }
};

std::vector<double> row(const Tensor& table, Index i) {
  std::vector<double> values;
  for (Index k = 0; k < table.shape()[1]; ++k) values.push_back(table.at({i, k}));
  return values;
}

/// make_golden.py's gradient, of the rows that are looked up.
Tensor gradient(const Tensor& rows, int t) {
  Tensor g(rows.shape(), float64);
  for (Index i = 0; i < rows.size(); ++i) {
    const double x = rows.data<double>()[i];
    g.data<double>()[i] = x + x * x * x + 2 * std::sin(t / 20. + static_cast<double>(i));
  }
  return g;
}

void check_trajectory(const char* name, Table& table, Optimizer& optimizer) {
  const auto golden = read_safetensors(UNROLL_SOURCE_DIR "/tests/golden/optimizers.safetensors").tensors;
  table.p.value() = golden.at("start.table");
  int compared = 0;
  for (int t = 1; t <= 1000; ++t) {
    const Ids ids = {t % 6, (t * t + 1) % 6};
    Tensor rows({2, 3}, float64);
    for (Index i = 0; i < 2; ++i)
      for (Index k = 0; k < 3; ++k) rows.set({i, k}, table.p.value().at({ids[static_cast<std::size_t>(i)], k}));
    table.look_up(ids, gradient(rows, t));
    REQUIRE(table.p.grad_rows() != nullptr);
    optimizer.step();
    const auto expected = golden.find(fmt::format("{}.{}", name, t));
    if (expected == golden.end()) continue;
    CAPTURE(name);
    CAPTURE(t);
    CHECK(relative_error(table.p.value(), expected->second) < 1e-11);
    ++compared;
  }
  CHECK(compared == 7);
}

}  // namespace

TEST_CASE("1000 steps of a few rows are PyTorch's") {
  Table table(true);
  Adam adam({&table.p}, {.rate = 0.01, .beta1 = 0.8, .beta2 = 0.95, .epsilon = 1e-15});
  check_trajectory("sparse_adam", table, adam);
  Adagrad adagrad({&table.p}, {.rate = 0.1, .start = 0.3});
  check_trajectory("sparse_adagrad", table, adagrad);
  SGD sgd({&table.p}, {.rate = 0.01});
  check_trajectory("sparse_sgd", table, sgd);
}

TEST_CASE("the gradient is that of a dense table, over several backwards and steps") {
  Table dense(false), sparse(true);
  SGD dense_step({&dense.p}, {.rate = 0.1}), sparse_step({&sparse.p}, {.rate = 0.1});
  const std::vector<Ids> batches = {{1, 4, 1}, {5}, {0, 1, 2, 3, 4, 5}, {2, 2}, {4}};
  for (std::size_t i = 0; i < batches.size(); ++i) {
    const auto n = static_cast<Index>(batches[i].size());
    for (Table* table : {&dense, &sparse}) table->look_up(batches[i], random_tensor({n, 3}, 10 + i));
    CHECK(same_bits(sparse.p.grad(), dense.p.grad()));
    if (i % 2 == 0) continue;  // two backwards, one step
    dense_step.step();
    sparse_step.step();
    CHECK(same_bits(sparse.p.grad(), dense.p.grad()));  // can still be read
    CHECK(same_bits(sparse.p.value(), dense.p.value()));
  }
}

TEST_CASE("rows that were not used keep their values and averages, whatever the decay") {
  Table table(true);
  const Tensor before = table.p.value();
  Adam adam({&table.p}, {.rate = 0.1, .weight_decay = 0.1});
  table.look_up({4, 1, 4}, random_tensor({3, 3}, 2));
  CHECK(*table.p.grad_rows() == std::vector<Index>{4, 1});
  adam.step();
  const auto state = adam.state_dict();
  for (Index i = 0; i < 6; ++i) {
    const bool used = i == 1 || i == 4;
    CHECK((row(table.p.value(), i) != row(before, i)) == used);
    CHECK((row(state.at("table.m"), i) != std::vector<double>(3, 0)) == used);
  }
}

TEST_CASE("the padding is not among the rows") {
  Table table(true);
  const Tensor before = table.p.value();
  SGD sgd({&table.p}, {.rate = 0.1, .weight_decay = 0.5});
  table.look_up({2, 0}, random_tensor({2, 3}, 2), -4);
  CHECK(*table.p.grad_rows() == std::vector<Index>{0});
  sgd.step();
  CHECK(row(table.p.value(), 2) == row(before, 2));
}

TEST_CASE("another use of the table makes the step one over all rows") {
  for (bool lookup_first : {true, false}) {
    CAPTURE(lookup_first);
    Table dense(false), sparse(true);
    const Tensor h = random_tensor({2, 3}, 3, -1, 1, float64);
    for (Table* table : {&dense, &sparse}) {
      table->look_up({3}, random_tensor({1, 3}, 4));
      table->p.use_up_grad();  // what it leaves behind must not count
      Tape tape;
      Var rows, logits;
      if (lookup_first) rows = embedding(tape, table->p, Ids{1, 5});
      logits = matmul(tape.constant(h), transpose(tape.use(table->p)));
      if (!lookup_first) rows = embedding(tape, table->p, Ids{1, 5});
      tape.backward(sum(square(logits)) + sum(square(rows)));
    }
    CHECK(sparse.p.grad_rows() == nullptr);
    CHECK(same_bits(sparse.p.grad(), dense.p.grad()));
    SGD dense_step({&dense.p}, {.rate = 0.1}), sparse_step({&sparse.p}, {.rate = 0.1});
    dense_step.step();
    sparse_step.step();
    CHECK(same_bits(sparse.p.value(), dense.p.value()));
    for (Table* table : {&dense, &sparse}) table->look_up({0}, random_tensor({1, 3}, 5));
    CHECK(*sparse.p.grad_rows() == std::vector<Index>{0});
    CHECK(same_bits(sparse.p.grad(), dense.p.grad()));
  }
}

TEST_CASE("parts of a table, gradients of a list, clearing and converting") {
  Table dense(false), sparse(true);
  const Tensor weights = random_tensor({2, 3}, 6, -1, 1, float64);
  for (Table* table : {&dense, &sparse}) {
    Tape tape;
    const Var whole = tape.use(table->p);
    auto [upper, lower] = chunk<2>(whole, 0);
    tape.backward(sum(square(lower)) + sum(embedding(tape, table->p, Ids{0, 4}) * weights) + sum(lower * 2));
  }
  CHECK(same_bits(sparse.p.grad(), dense.p.grad()));
  sparse.p.zero_grad();
  CHECK_FALSE(sparse.p.has_grad());
  sparse.look_up({1}, random_tensor({1, 3}, 7));
  CHECK(*sparse.p.grad_rows() == std::vector<Index>{1});
  CHECK(row(sparse.p.grad(), 0) == std::vector<double>(3, 0));
  sparse.p.to(float32);
  CHECK(*sparse.p.grad_rows() == std::vector<Index>{1});
  sparse.p.zero_grad();

  Tape tape;
  const Var table = tape.use(sparse.p);
  const Var y = sum(square(embedding(tape, sparse.p, Ids{3, 3})));
  const std::vector<Tensor> listed = tape.gradients(y, std::span(&table, 1));
  CHECK_FALSE(sparse.p.has_grad());
  CHECK(row(listed[0], 3)[0] == doctest::Approx(4 * sparse.p.value().at({3, 0})));
}

TEST_CASE("clipping reads and scales the rows that were used") {
  Table dense(false), sparse(true);
  for (Table* table : {&dense, &sparse}) {
    table->look_up({0, 3}, random_tensor({2, 3}, 8, 10, 20));
    table->p.use_up_grad();
    table->look_up({5, 2}, random_tensor({2, 3}, 9, 10, 20));
  }
  CHECK(clip_grad_norm({&sparse.p}, 0.5) == doctest::Approx(clip_grad_norm({&dense.p}, 0.5)).epsilon(1e-14));
  CHECK(relative_error(sparse.p.grad(), dense.p.grad()) < 1e-14);
}

TEST_CASE("a layer's table is sparse on request; a scalar cannot be") {
  Generator rng(1);
  Embedding table(5, 2, rng, {.sparse = true});
  CHECK(table.W.sparse());
  CHECK_FALSE(Embedding(5, 2, rng).W.sparse());
  Parameter scalar("s", Tensor::scalar(1));
  CHECK_ERROR(scalar.set_sparse(true), "\"s\"");
}
