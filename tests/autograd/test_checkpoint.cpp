// A checkpoint changes memory and time, and nothing else.

#include <autograd/autograd.h>
#include <tests/support.h>

#include <cmath>

using namespace unroll;
using namespace unroll::testing;

namespace {

/// A recurrent cell over a sequence of T steps, in segments of `every` steps (0: no checkpoints).
struct Chain {
  Index steps, batch = 3, inputs = 5, hidden = 4;
  DType type = float64;
  Parameter W{"W", random_tensor({5, 4}, 1, -1, 1, type)}, U{"U", random_tensor({4, 4}, 2, -1, 1, type)},
      b{"b", random_tensor({4}, 3, -1, 1, type)};
  Generator noise{7};
  bool noisy = false;

  std::array<Var, 2> segment(const Var& x, const Var& start, Index from, Index to) {
    Var part = slice(x, 0, from, to), gates = matmul(part, W) + b, h = start, sum;
    for (Index t = 0; t < to - from; ++t) {
      h = tanh(gates[t] + matmul(h, U) + 0.1 * part[t][0][0]);
      if (noisy) {
        h.graph()->draws_from(noise);
        h = h * noise.uniform();
      }
      sum = sum ? Var(sum + square(h)) : Var(square(h));
    }
    return {h, sum};
  }

  struct Result {
    double loss;
    std::vector<Tensor> gradients;
    std::size_t nodes, bytes;
    Generator noise;
  };
  Result run(Index every) {
    for (Parameter* p : {&W, &U, &b}) p->zero_grad();
    noise = Generator(7);
    Tape tape;
    Var x = tape.variable(random_tensor({steps, batch, inputs}, 4, -1, 1, type));
    Var h = tape.variable(random_tensor({batch, hidden}, 5, -1, 1, type));
    Var first = h, total;
    for (Index from = 0; from < steps;) {
      Index to = every == 0 ? steps : std::min(from + every, steps);
      std::array<Var, 2> y;
      if (every == 0)
        y = segment(x, h, from, to);
      else
        y = checkpoint([this, from, to](const Var& in, const Var& start) { return segment(in, start, from, to); }, x,
                       h);
      h = y[0];
      total = total ? Var(total + y[1]) : y[1];
      from = to;
    }
    Var loss = sum(Var(0.5 * total + h * h));
    std::size_t nodes = tape.size();
    tape.backward(loss);
    Result result{loss.item(), {Tensor(x.grad()), Tensor(first.grad())}, nodes, tape.bytes_held(), noise};
    for (Parameter* p : {&W, &U, &b}) result.gradients.push_back(p->grad());
    return result;
  }
};

}  // namespace

TEST_CASE("gradients through checkpoints are the same bits") {
  for (DType type : {float32, float64}) {
    Chain chain{.steps = 70, .type = type};
    auto plain = chain.run(0);
    for (Index every : {Index{1}, Index{7}, Index{9}, Index{64}, Index{70}, Index{1000}}) {
      CAPTURE(every);
      auto run = chain.run(every);
      // The loss adds up its terms segment by segment; gradients do not depend on that order.
      CHECK(run.loss == doctest::Approx(plain.loss).epsilon(1e-5));
      CHECK(run.nodes <= static_cast<std::size_t>(10 * ((70 + every - 1) / every) + 10));
      for (std::size_t k = 0; k < plain.gradients.size(); ++k) {
        CAPTURE(k);
        CHECK(same_bits(run.gradients[k], plain.gradients[k]));
      }
    }
  }
}

TEST_CASE("a second backward through a checkpoint adds up") {
  Chain chain{.steps = 6};
  Tape tape;
  Var x = tape.variable(random_tensor({6, 3, 5}, 4)), h = tape.variable(random_tensor({3, 4}, 5));
  auto y = checkpoint([&chain](const Var& in, const Var& s) { return chain.segment(in, s, 0, 6); }, x, h);
  Var loss = sum(Var(y[0] * y[1]));
  tape.backward(loss);
  Tensor once(chain.U.grad());
  tape.backward(loss);
  for (Index i = 0; i < once.size(); ++i) CHECK(chain.U.grad().data<double>()[i] == 2 * once.data<double>()[i]);
}

TEST_CASE("only the output that the loss depends on is asked for; a checkpoint within a checkpoint") {
  Chain chain{.steps = 8};
  auto nested = [&chain](const Var& x, const Var& h) {
    auto inner = [&chain](const Var& in, const Var& s) { return chain.segment(in, s, 0, 4); };
    std::array<Var, 2> y = checkpoint(inner, x, h);
    return Var(y[0] * y[0]);
  };
  auto f = [&](Tape&, const std::vector<Var>& x) { return checkpoint(nested, x[0], x[1]); };
  std::vector<Tensor> at{random_tensor({8, 3, 5}, 4), random_tensor({3, 4}, 5)};
  CHECK(gradient_error(f, at, {&chain.W, &chain.U, &chain.b}) < 1e-7);
  auto direct = [&](Tape&, const std::vector<Var>& x) {
    auto y = chain.segment(x[0], x[1], 0, 4);
    return sum(Var(y[0] * y[0]));
  };
  auto whole = [&](Tape& tape, const std::vector<Var>& x) { return sum(f(tape, x)); };
  std::vector<Tensor> v{random_tensor({8, 3, 5}, 6), random_tensor({3, 4}, 7)};
  std::vector<Tensor> a = hvp(whole, at, v), b = hvp(direct, at, v);
  for (std::size_t k = 0; k < a.size(); ++k) CHECK(relative_error(a[k], b[k]) < 1e-12);
}

TEST_CASE("random numbers are drawn again as they were, and go on where they were") {
  Chain chain{.steps = 20, .noisy = true};
  auto plain = chain.run(0), checkpointed = chain.run(6);
  for (std::size_t k = 0; k < plain.gradients.size(); ++k)
    CHECK(same_bits(checkpointed.gradients[k], plain.gradients[k]));
  CHECK(checkpointed.noise == plain.noise);
}

TEST_CASE("10,000 steps in segments of 100 take a tenth of the memory") {
  Chain chain{.steps = 10000, .batch = 8};
  auto plain = chain.run(0), checkpointed = chain.run(100);
  for (std::size_t k = 0; k < plain.gradients.size(); ++k)
    CHECK(same_bits(checkpointed.gradients[k], plain.gradients[k]));
  // The input and its gradient are the same in both.
  std::size_t sequence = 2 * 10000 * 8 * 5 * sizeof(double);
  CHECK((checkpointed.bytes - sequence) * 10 < plain.bytes - sequence);
  MESSAGE("bytes held: " << plain.bytes << " plain, " << checkpointed.bytes << " with checkpoints");
}

TEST_CASE("a checkpoint on an inference tape, of what needs no gradient, and of its own input") {
  Chain chain{.steps = 4};
  Tape inference = Tape::inference();
  Var x = inference.constant(random_tensor({4, 3, 5}, 4)), h = inference.constant(random_tensor({3, 4}, 5));
  auto run = [&chain](const Var& in, const Var& s) { return chain.segment(in, s, 0, 4); };
  std::size_t before = inference.size();
  auto y = checkpoint(run, x, h);
  CHECK(inference.size() == before + 2);
  CHECK(same_bits(y[0].value(), chain.segment(x, h, 0, 4)[0].value()));
  Tape tape;
  Var v = tape.variable(Tensor({2}, {1, 2}, float64)), c = tape.constant(Tensor({2}, {3, 4}, float64));
  CHECK_FALSE(checkpoint([](const Var& a) { return square(a); }, c).needs_grad());
  Var same = checkpoint([](const Var& a) { return a; }, v);
  Var z = checkpoint([c](const Var& a) { return a * c; }, same);
  tape.backward(sum(z));
  CHECK(v.grad().to_vector() == std::vector<double>{3, 4});
}

TEST_CASE("a function that throws leaves nothing on the tape") {
  Tape tape;
  Var x = tape.variable(Tensor({2}, {1, 2}));
  auto wrong = [](const Var& a) { return Var(square(a) + Var(a.graph()->var(0)) + stack(std::vector<Var>{a, a})[5]); };
  std::size_t before = tape.size();
  CHECK_ERROR(checkpoint(wrong, x), "select: index 5 of axis 0");
  CHECK(tape.size() == before);
  CHECK_ERROR(checkpoint(wrong, Var()), "checkpoint: an empty Var");
}
