// After its first step a training loop makes no heap allocation.

#include <autograd/autograd.h>
#include <layers/layers.h>
#include <optim/optim.h>
#include <tests/count_allocations.h>

#include <doctest/doctest.h>

#if UNROLL_COUNTS_ALLOCATIONS && defined(__GLIBC__)

using namespace unroll;
using namespace unroll::testing;

namespace {

template <class Layer>
struct Model : Module {
  Embedding embedding;
  Layer layer;
  Dropout dropout;
  Linear head;

  explicit Model(Generator& rng)
      : embedding(65, 32, rng),
        layer(32, 64, rng, {.layers = 2, .dropout = 0.1}),
        dropout(0.1, rng),
        head(64, 65, rng) {
    add("embedding", embedding);
    add("layer", layer);
    add("dropout", dropout);
    add("head", head);
  }
};

/// The allocations in each of some training steps.
template <class Layer>
std::vector<long> allocations_by_step() {
  constexpr Index steps = 20, batch = 8;
  Generator rng(1);
  Model<Layer> model(rng);
  Adam adam(model.parameters(), {.rate = 0.002});
  std::vector<std::int32_t> ids(steps * batch), targets(steps * batch);
  for (std::size_t i = 0; i < ids.size(); ++i) {
    ids[i] = static_cast<std::int32_t>(i * 7 % 65);
    targets[i] = static_cast<std::int32_t>((i * 7 + 7) % 65);
  }
  RecurrentState state;
  Tape tape;
  std::vector<long> counts(6);
  for (long& step : counts) {
    step = allocations_of([&] {
      tape.clear();
      auto [y, next] = model.layer(model.embedding(tape, Indices(ids, {steps, batch})), state);
      Var loss = cross_entropy(model.head(model.dropout(y)), targets);
      tape.backward(loss);
      clip_grad_norm(model.parameters(), 1.0);
      adam.step();
      state = detach(next);
    });
  }
  return counts;
}

}  // namespace

TEST_CASE_TEMPLATE("a training step after the first makes no heap allocation", Layer, RNN, LSTM, GRU) {
  std::vector<long> counts = allocations_by_step<Layer>();
  CHECK(counts[0] > 0);
  for (std::size_t i = 1; i < counts.size(); ++i) {
    CAPTURE(i);
    CHECK(counts[i] == 0);
  }
}

TEST_CASE_TEMPLATE("streaming, one step at a time: no heap allocation, constant memory", Layer, RNN, LSTM, GRU) {
  constexpr Index steps = 300, inputs = 5;
  Generator rng(1);
  Layer layer(inputs, 24, rng, {.layers = 2});
  Tensor x({steps, 1, inputs});
  rng.fill_uniform(x, -1, 1);
  Tape whole = Tape::inference();
  const Tensor expected(layer(whole.constant(x)).y.value());

  Tape tape = Tape::inference();
  RecurrentState state;
  Tensor now({1, 1, inputs}), y({1, 1, 24});
  std::size_t held = 0;
  double worst = 0;
  for (Index t = 0; t < steps; ++t) {
    std::copy_n(x.data<float>() + t * inputs, inputs, now.data<float>());
    const long made = allocations_of([&] {
      tape.clear();
      auto [output, next] = layer(tape.constant(now), state);
      y.assign(output.value());
      state = detach(next);
    });
    for (Index k = 0; k < 24; ++k) worst = std::max(worst, std::abs(y.at({0, 0, k}) - expected.at({t, 0, k})));
    if (t == 0) held = tape.bytes_held();
    if (t > 0 && made > 0) FAIL("step ", t, " makes ", made, " allocations");
  }
  CHECK(tape.bytes_held() == held);
  CHECK(worst < 1e-6);
}

TEST_CASE("a step of a sparse table after the first makes no heap allocation") {
  Generator rng(1);
  Embedding table(1000, 8, rng, {.sparse = true});
  Adam adam(table.parameters());
  Tape tape;
  for (int step = 0; step < 5; ++step) {
    std::vector<std::int32_t> ids(20);
    for (std::int32_t& id : ids) id = static_cast<std::int32_t>(rng.below(1000));
    const long made = allocations_of([&] {
      tape.clear();
      tape.backward(sum(square(table(tape, ids))));
      clip_grad_norm(table.parameters(), 1.0);
      adam.step();
    });
    CAPTURE(step);
    if (step > 0) CHECK(made == 0);
  }
}

TEST_CASE("a step of batched products after the first makes no heap allocation") {
  const Tensor x({6, 70, 90}), w({6, 90, 80}), v({80}), seed({6, 70});
  Tape tape;
  for (int step = 0; step < 5; ++step) {
    const long made = allocations_of([&] {
      tape.clear();
      Var a = tape.variable(x), b = tape.variable(w);
      tape.backward(matmul(matmul(a, b), tape.variable(v)), seed);
      tape.backward(sum(Var(matmul(transpose(b), transpose(a)))) + sum(Var(matmul(b[0][0], transpose(b)))));
    });
    CAPTURE(step);
    if (step > 0) CHECK(made == 0);
  }
}

#else

TEST_CASE("allocations are not counted under a sanitizer") { CHECK(true); }

#endif
