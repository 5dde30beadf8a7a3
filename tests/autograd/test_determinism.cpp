// The same bits on any number of threads: work is cut by the problem's shape alone.

#include <autograd/autograd.h>
#include <tests/support.h>

#include <doctest/doctest.h>
#include <oneapi/tbb/global_control.h>
#include <oneapi/tbb/task_arena.h>

using namespace unroll;
using namespace unroll::testing;

namespace {

/// Runs f on one, two and four threads and compares all it returns.
template <class F>
void check_same_bits(F&& f) {
  std::vector<Tensor> first;
  for (std::size_t threads : {1U, 2U, 4U}) {
    tbb::global_control limit(tbb::global_control::max_allowed_parallelism, threads);
    tbb::task_arena arena(static_cast<int>(threads));
    std::vector<Tensor> results;
    arena.execute([&] { results = f(); });
    if (first.empty()) first = results;
    for (std::size_t i = 0; i < results.size(); ++i) CHECK(same_bits(results[i], first[i]));
  }
}

}  // namespace

TEST_CASE("large statements, products and losses have the same bits on any number of threads") {
  check_same_bits([] {
    Tape tape;
    Var x = tape.variable(random_tensor({700, 130}, 1, -1, 1, float32)),
        w = tape.variable(random_tensor({130, 260}, 2, -1, 1, float32)),
        b = tape.variable(random_tensor({260}, 3, -1, 1, float32)),
        c = tape.variable(random_tensor({700, 1}, 4, -1, 1, float32)), s = tape.variable(Tensor::scalar(0.5));
    Var h = tanh(matmul(x, w) + b) * c + s;
    std::vector<std::int32_t> targets(700);
    for (std::size_t i = 0; i < 700; ++i) targets[i] = static_cast<std::int32_t>(i * 7 % 260);
    tape.backward(cross_entropy(Var(h * 3), targets));
    std::vector<Tensor> results{Tensor(h.value())};
    for (Var v : {x, w, b, c, s}) results.emplace_back(v.grad());
    return results;
  });
}

TEST_CASE("a recurrence has the same bits on any number of threads") {
  check_same_bits([] {
    Tape tape;
    Var w = tape.variable(random_tensor({256, 1024}, 1, -0.1, 0.1, float32)),
        h = tape.variable(random_tensor({32, 256}, 2, -1, 1, float32));
    Var x = tape.variable(random_tensor({12, 32, 1024}, 3, -1, 1, float32)), c = h, start = h;
    for (Index t = 0; t < 12; ++t) {
      auto [i, f, g, o] = chunk<4>(x[t] + matmul(h, w));
      c = sigmoid(f) * c + sigmoid(i) * tanh(g);
      h = sigmoid(o) * tanh(c);
    }
    tape.backward(mean(Var(square(h))));
    return std::vector<Tensor>{Tensor(h.value()), Tensor(w.grad()), Tensor(x.grad()), Tensor(start.grad())};
  });
}
