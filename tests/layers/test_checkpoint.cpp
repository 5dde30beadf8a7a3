// A recurrent layer with checkpoints gives the bits of one without.

#include <autograd/autograd.h>
#include <layers/layers.h>
#include <tests/support.h>

using namespace unroll;
using namespace unroll::testing;

namespace {

struct Run {
  std::vector<Tensor> results;  // y, the final state, and every gradient
  std::size_t bytes;
};

template <class Layer>
Run run(Index steps, Index every, DType type) {
  Generator rng(5);
  Layer layer(6, 10, rng, {.layers = 2, .dropout = 0.3, .checkpoint = every});
  layer.to(type);
  Tape tape;
  Var x = tape.variable(random_tensor({steps, 3, 6}, 1, -1, 1, type));
  auto [y, state] = layer(x);
  Var loss = sum(Var(y * tape.constant(random_tensor(y.shape(), 2, -1, 1, type))));
  for (const Var& v : state.values) loss = loss + sum(square(v));
  tape.backward(loss);
  Run result{{Tensor(y.value()), Tensor(x.grad())}, tape.bytes_held()};
  for (const Var& v : state.values) result.results.emplace_back(v.value());
  for (const Parameter* p : layer.parameters()) result.results.push_back(p->grad());
  return result;
}

}  // namespace

TEST_CASE_TEMPLATE("checkpoints change no bit", Layer, RNN, LSTM, GRU) {
  for (DType type : {float32, float64}) {
    Run plain = run<Layer>(23, 0, type);
    for (Index every : {Index{1}, Index{5}, Index{22}, Index{23}, Index{100}}) {
      CAPTURE(every);
      Run checkpointed = run<Layer>(23, every, type);
      REQUIRE(checkpointed.results.size() == plain.results.size());
      for (std::size_t k = 0; k < plain.results.size(); ++k) {
        CAPTURE(k);
        CHECK(same_bits(checkpointed.results[k], plain.results[k]));
      }
    }
  }
}

TEST_CASE("dropout inside a checkpoint drops the same elements the second time") {
  auto run = [](bool checkpointed) {
    Generator rng(5);
    Dropout dropout(0.5, rng);
    Tape tape;
    Var x = tape.variable(random_tensor({8, 8}, 1));
    auto f = [&dropout](const Var& in) { return Var(tanh(dropout(tanh(dropout(in))))); };
    for (int step = 0; step < 2; ++step) tape.backward(sum(checkpointed ? checkpoint(f, x) : f(x)));
    return std::pair(Tensor(x.grad()), rng.bits());
  };
  auto [plain, next] = run(false);
  auto [checkpointed, next_too] = run(true);
  CHECK(same_bits(plain, checkpointed));
  CHECK(next == next_too);
}

TEST_CASE("a long sequence with checkpoints takes a fraction of the memory") {
  Run plain = run<LSTM>(2500, 0, float32), checkpointed = run<LSTM>(2500, 50, float32);
  for (std::size_t k = 0; k < plain.results.size(); ++k) CHECK(same_bits(checkpointed.results[k], plain.results[k]));
  CHECK(2 * checkpointed.bytes < plain.bytes);
}

TEST_CASE_TEMPLATE("the final state alone is the same, in a fraction of the memory", Layer, RNN, LSTM, GRU) {
  auto run = [](Index every, bool all) {
    Generator rng(5);
    Layer layer(16, 16, rng, {.checkpoint = every});
    Tape tape;
    Var x = tape.constant(random_tensor({2500, 8, 16}, 1, -1, 1, float32));
    auto state = all ? layer(x).state : layer.final_state(x);
    constexpr std::size_t input = 2500 * 8 * 16 * sizeof(float);
    tape.backward(sum(square(state.values[0])));
    Run result{{Tensor(state.values[0].value())}, tape.bytes_held() - input};
    for (const Parameter* p : layer.parameters()) result.results.push_back(p->grad());
    return result;
  };
  Run plain = run(0, true), alone = run(0, false), checkpointed = run(50, false);
  for (std::size_t k = 0; k < plain.results.size(); ++k) {
    CHECK(same_bits(alone.results[k], plain.results[k]));
    CHECK(same_bits(checkpointed.results[k], plain.results[k]));
  }
  MESSAGE("bytes held: " << plain.bytes << " plain, " << checkpointed.bytes << " with checkpoints");
  CHECK(5 * checkpointed.bytes < plain.bytes);
}

TEST_CASE("a negative distance between checkpoints is refused") {
  Generator rng(1);
  CHECK_ERROR(LSTM(2, 3, rng, {.checkpoint = -1}), "Recurrent: a checkpoint every -1 steps");
}
