#include <autograd/autograd.h>
#include <tests/support.h>

#include <doctest/doctest.h>

#include <cmath>
#include <thread>

using namespace unroll;
using namespace unroll::testing;

TEST_CASE("backward computes the gradient of a scalar") {
  Tape tape;
  Var x = tape.variable(Tensor({2}, {1, 2}));
  Var y = sum(Var(x * x));
  tape.backward(y);
  CHECK(x.grad().to_vector() == std::vector<double>{2, 4});
}

TEST_CASE("a seed makes it a vector-Jacobian product") {
  Tape tape;
  Var x = tape.variable(Tensor({2, 2}, {1, 2, 3, 4}));
  Var y = x * x;
  tape.backward(y, Tensor({2, 2}, {1, 0, 0, 2}));
  CHECK(x.grad().to_vector() == std::vector<double>{2, 0, 0, 16});
  CHECK_THROWS_AS(tape.backward(y), Error);
  CHECK_THROWS_AS(tape.backward(y, Tensor(Shape{2})), Error);
}

TEST_CASE("the seed can be the value's own gradient of before") {
  Tape tape;
  Var x = tape.variable(Tensor({2, 2}, {1, 2, 3, 4}));
  Var y = Var(x * 1).keep_grad();
  tape.backward(y, Tensor({2, 2}, {1, 2, 3, 4}));
  tape.backward(y, transpose(y).grad());
  CHECK(y.grad().to_vector() == std::vector<double>{1, 3, 2, 4});
  CHECK(x.grad().to_vector() == std::vector<double>{2, 5, 5, 8});
}

TEST_CASE("gradients of leaves add up over backward calls, those of intermediate values do not") {
  Tape tape;
  Var x = tape.variable(Tensor::scalar(3, float64));
  Var y = Var(x * x).keep_grad();
  Var z = 5 * y;
  tape.backward(z);
  CHECK(x.grad().item() == 30);
  CHECK(y.grad().item() == 5);
  tape.backward(z);
  CHECK(x.grad().item() == 60);
  CHECK(y.grad().item() == 5);
  tape.backward(y);
  CHECK(x.grad().item() == 66);
}

TEST_CASE("asking for a gradient that was not kept says how to get it") {
  Tape tape;
  Var x = tape.variable(Tensor::scalar(3));
  Var y = x * x;
  CHECK_THROWS_AS((void)x.grad(), Error);
  tape.backward(y);
  try {
    (void)y.grad();
    FAIL("no error");
  } catch (const Error& error) {
    CHECK(std::string(error.what()).find("call keep_grad before backward (test_tape.cpp:") != std::string::npos);
  }
}

TEST_CASE("parameters accumulate until an optimizer uses the gradient up") {
  Parameter w("w", Tensor({2}, {1, 2}));
  Tape tape;
  Var x = tape.constant(Tensor({2}, {3, 4}));
  Var y = sum(Var(x * w));
  tape.backward(y);
  tape.backward(y);
  CHECK(w.grad().to_vector() == std::vector<double>{6, 8});
  CHECK(w.has_grad());
  w.use_up_grad();
  CHECK(w.grad().to_vector() == std::vector<double>{6, 8});
  tape.backward(y);
  CHECK(w.grad().to_vector() == std::vector<double>{3, 4});
  w.zero_grad();
  CHECK(w.grad().to_vector() == std::vector<double>{0, 0});
}

TEST_CASE("a parameter that only parts of are used has zeros elsewhere, not what was there before") {
  Parameter w("w", Tensor({3, 2}, {1, 2, 3, 4, 5, 6}));
  Tape tape;
  for (int step = 0; step < 2; ++step) {
    tape.clear();
    Var use = tape.use(w);
    tape.backward(sum(Var(use[step] * use[step])));
    std::vector<double> expected(6, 0.0);
    for (std::size_t j = 0; j < 2; ++j) {
      std::size_t i = static_cast<std::size_t>(step) * 2 + j;
      expected[i] = 2 * static_cast<double>(i + 1);
    }
    CHECK(w.grad().to_vector() == expected);
    w.use_up_grad();
  }
}

TEST_CASE("a frozen parameter gets no gradient") {
  Parameter w("w", Tensor({2}, {1, 2}));
  w.set_trainable(false);
  Tape tape;
  Var x = tape.variable(Tensor({2}, {3, 4}));
  tape.backward(sum(Var(x * w)));
  CHECK_FALSE(w.has_grad());
  CHECK(x.grad().to_vector() == std::vector<double>{1, 2});
}

TEST_CASE("a chain of a million operations records, sweeps and is destroyed") {
  Tape tape;
  Var x = tape.variable(Tensor::scalar(0.5, float64));
  Var y = x;
  for (int i = 0; i < 1'000'000; ++i) y = y * 0.999999 + 1e-7;
  tape.backward(y);
  CHECK(x.grad().item() == doctest::Approx(std::pow(0.999999, 1e6)));
}

TEST_CASE("a million nested views record and sweep") {
  Tape tape;
  Var x = tape.variable(Tensor({2, 3}, {1, 2, 3, 4, 5, 6}, float64));
  Var y = x;
  for (int i = 0; i < 1'000'000; ++i) y = i % 2 == 0 ? reshape(y, {3, 2}) : slice(reshape(y, {2, 3}), 0, 0, 2);
  tape.backward(sum(y));
  CHECK(x.grad().to_vector() == std::vector<double>(6, 1.0));
}

TEST_CASE("a shared value is visited once, not once a path") {
  Tape tape;
  Var x = tape.variable(Tensor::scalar(1, float64));
  Var y = x;
  for (int i = 0; i < 200; ++i) y = (y + y) * 0.5;  // 2^200 paths
  tape.backward(y);
  CHECK(x.grad().item() == 1);
}

TEST_CASE("a cleared tape refuses the Vars of before and keeps its memory") {
  Tape tape;
  Var old = tape.variable(Tensor({2}, {1, 2}));
  Var y = old + old;
  std::size_t held = tape.bytes_held();
  tape.clear();
  CHECK(tape.size() == 0);
  CHECK(tape.bytes_held() == held);
  Var x = tape.variable(Tensor({2}, {1, 2}));
  CHECK_THROWS_AS((void)old.value(), Error);
  CHECK_THROWS_AS(Var(x + old), Error);
  CHECK_THROWS_AS(tape.backward(y), Error);
  CHECK(Var(x + x).value().at({1}) == 4);
}

TEST_CASE("rewinding runs a stream of a million steps in constant memory") {
  for (bool inference : {true, false}) {
    Tape tape = inference ? Tape::inference() : Tape();
    Var w = tape.constant(Tensor({4}, {0.1, 0.2, 0.3, 0.4}));
    auto mark = tape.mark();
    Tensor state({4}, {1, 1, 1, 1});
    std::size_t held = 0;
    for (int i = 0; i < 1'000'000; ++i) {
      tape.rewind_to(mark);
      Var h = tanh(tape.constant(state) * w + 0.5);
      state.assign(h.value());
      if (i == 10) held = tape.bytes_held();
    }
    CHECK(tape.bytes_held() == held);
    CHECK(state.at({0}) > 0);
  }
}

TEST_CASE("a mark that was cleared away is refused") {
  Tape tape;
  tape.zeros({2});
  auto mark = tape.mark();
  tape.clear();
  CHECK_THROWS_AS(tape.rewind_to(mark), Error);
  tape.zeros({2});
  CHECK_THROWS_AS(tape.rewind_to(mark), Error);
}

TEST_CASE("an inference tape gives the same values and records nothing") {
  Parameter w("w", Tensor({2}, {1, 2}));
  Tape training, inference = Tape::inference();
  auto run = [&](Tape& tape) { return Var(tanh(tape.constant(Tensor({2}, {3, 4})) * w)); };
  CHECK(run(training).value().to_vector() == run(inference).value().to_vector());
  Var y = sum(run(inference));
  CHECK_FALSE(y.needs_grad());
  CHECK_THROWS_AS(inference.backward(y), Error);
}

TEST_CASE("misuse is refused in one line, and the tape stays usable") {
  Tape tape, other;
  Var x = tape.variable(Tensor({2}, {1, 2})), z = other.variable(Tensor({2}));
  Parameter w("w", Tensor({2}, {1, 2}));
  CHECK_THROWS_AS(Var(x + z), Error);
  CHECK_THROWS_AS(Var(w + w), Error);
  CHECK_THROWS_AS((void)Var().value(), Error);
  CHECK_THROWS_AS(tape.backward(tape.constant(Tensor::scalar(1))), Error);
  CHECK_THROWS_AS(other.backward(sum(x)), Error);
  Var y = sum(Var(x + tape.use(w)));
  tape.backward(y);
  CHECK(y.item() == 6);
}

TEST_CASE("a tape can be moved, and its Vars stay valid") {
  Tape first;
  Var x = first.variable(Tensor({2}, {1, 2}));
  Tape second = std::move(first);
  Var y = sum(Var(x * x));
  second.backward(y);
  CHECK(x.grad().to_vector() == std::vector<double>{2, 4});
}

TEST_CASE("many tapes live at once, on different threads") {
  std::vector<double> results(4);
  std::vector<std::thread> threads;
  for (std::size_t k = 0; k < results.size(); ++k)
    threads.emplace_back([&results, k] {
      Tape tape;
      for (int step = 0; step < 20; ++step) {
        tape.clear();
        Var x = tape.variable(random_tensor({40, 50}, static_cast<unsigned>(k)));
        Var y = matmul(x, transpose(x));
        tape.backward(mean(Var(tanh(y))));
        results[k] = x.grad().at({3, 3});
      }
    });
  for (std::thread& thread : threads) thread.join();
  for (std::size_t k = 0; k < results.size(); ++k) {
    Tape tape;
    Var x = tape.variable(random_tensor({40, 50}, static_cast<unsigned>(k)));
    Var y = matmul(x, transpose(x));
    tape.backward(mean(Var(tanh(y))));
    CHECK(results[k] == x.grad().at({3, 3}));
  }
}

namespace {

/// A user's operation, as record.h shows it.
Var reverse_gradient(const Var& x, Source where = Source::here()) {
  return record(
      "reverse_gradient", {x}, x.shape(), [](auto y, auto v) { y = v; }, [](auto& d) { d.add(0, -d.dy()); }, where);
}

}  // namespace

TEST_CASE("a user's own operation is recorded like the library's") {
  Tape tape;
  Var x = tape.variable(Tensor({2, 2}, {1, 2, 3, 4}));
  Var y = sum(Var(reverse_gradient(x) * 3));
  CHECK(y.item() == 30);
  tape.backward(y);
  CHECK(x.grad().to_vector() == std::vector<double>{-3, -3, -3, -3});
}
