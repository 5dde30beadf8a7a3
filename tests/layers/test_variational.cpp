// What draws random numbers inside recurrent layers, and the gates that can be watched.

#include <autograd/autograd.h>
#include <layers/layers.h>
#include <tests/support.h>

#include <doctest/doctest.h>

#include <set>

using namespace unroll;
using namespace unroll::testing;

namespace {

constexpr Index T = 9, N = 30, H = 50;

/// h = h' + x: shows what masks do to both. With `direct`, h' outside of products too, as a GRU has it.
template <bool direct>
class AdderCell : public Module {
 public:
  struct State {
    Var h;
  };
  struct Options {};
  AdderCell(Index, Index, Generator&, Options) { add("unused", unused); }
  Var project(const Var& x) const { return x; }
  State operator()(const Var& x, const State& s) const { return {x + s.h}; }
  State operator()(const Var& x, const State& s, const Var& h) const
    requires direct
  {
    return {x + 0 * h + s.h};
  }
  Parameter unused{{1}};
};
using Adder = Recurrent<AdderCell<false>>;
using DirectAdder = Recurrent<AdderCell<true>>;

template <class Layer>
Tensor run(Layer& layer, const std::vector<Index>& lengths = {}) {
  Tape tape;
  return Tensor(layer(tape.constant(Tensor::full({T, N, H}, 1)), {}, lengths).y.value());
}

double share(const Tensor& y, Index t, double value) {
  double found = 0;
  for (Index n = 0; n < N; ++n)
    for (Index j = 0; j < H; ++j) found += std::abs(y.at({t, n, j}) - value) < 1e-6;
  return found / static_cast<double>(N * H);
}

}  // namespace

TEST_CASE("variational dropout of the input: one mask for all steps of a sequence, another for another") {
  Generator rng(1);
  Adder adder(H, H, rng, {.input_dropout = 0.25});
  for (const std::vector<Index>& lengths : {std::vector<Index>{}, std::vector<Index>(N, T - 1)}) {
    const Tensor y = run(adder, lengths);
    std::set<std::vector<bool>> masks;
    for (Index n = 0; n < N; ++n) {
      std::vector<bool> mask;
      for (Index j = 0; j < H; ++j) {
        mask.push_back(y.at({0, n, j}) > 0);
        for (Index t = 0; t < T - 1; ++t)
          CHECK(y.at({t, n, j}) == doctest::Approx(mask.back() ? static_cast<double>(t + 1) / 0.75 : 0).epsilon(1e-5));
      }
      masks.insert(mask);
    }
    CHECK(masks.size() == N);
    CHECK(share(y, 0, 0) == doctest::Approx(0.25).epsilon(0.15));
  }
  CHECK(!same_bits(run(adder), run(adder)));  // another call, another mask
  adder.eval();
  CHECK(share(run(adder), T - 1, T) == 1);
}

TEST_CASE("variational dropout of recurrent connections: one mask for all steps, and only where products see h'") {
  Generator rng(1);
  Adder adder(H, H, rng, {.recurrent_dropout = 0.5});
  const Tensor y = run(adder);
  CHECK(share(y, 0, 1) == 1);  // nothing of the past yet
  CHECK(share(y, 1, 1) == doctest::Approx(0.5).epsilon(0.1));
  for (Index n = 0; n < N; ++n)
    for (Index j = 0; j < H; ++j)  // kept: h = 2 h' + 1
      CHECK(y.at({T - 1, n, j}) == (y.at({1, n, j}) == 1 ? 1 : (1 << T) - 1));
  Generator other(1);
  DirectAdder direct(H, H, other, {.recurrent_dropout = 0.5});
  CHECK(share(run(direct), T - 1, T) == 1);
}

TEST_CASE("zoneout: each unit keeps its value with the given probability, and takes the mean in evaluation") {
  Generator rng(1);
  Adder adder(H, H, rng, {.zoneout = 0.3});
  const Tensor y = run(adder);
  for (Index t = 0; t < T; ++t)
    for (Index n = 0; n < N; ++n)
      for (Index j = 0; j < H; ++j) {
        const double step = y.at({t, n, j}) - (t == 0 ? 0 : y.at({t - 1, n, j}));
        CHECK((step == 0 || step == 1));
      }
  CHECK(share(y, 0, 0) == doctest::Approx(0.3).epsilon(0.12));
  adder.eval();
  CHECK(share(run(adder), T - 1, 0.7 * T) == 1);
}

TEST_CASE("zoneout of c leaves h alone, and the other way round") {
  for (bool cell : {false, true}) {
    Generator rng(1);
    LSTM::Options options;
    (cell ? options.zoneout_cell : options.zoneout) = 0.5;
    options.watch = true;
    LSTM lstm(3, H, rng, options);
    Tape tape;
    lstm(tape.constant(random_tensor({4, N, 3}, 1, -1, 1, float32)));
    auto kept = [&](const char* name) {
      const Tensor v = lstm.watched().values(name);
      Index same = 0;
      for (Index n = 0; n < N; ++n)
        for (Index j = 0; j < H; ++j) same += v.at({3, n, j}) == v.at({2, n, j});
      return static_cast<double>(same) / static_cast<double>(N * H);
    };
    CHECK(kept(cell ? "c" : "h") == doctest::Approx(0.5).epsilon(0.1));
    CHECK(kept(cell ? "h" : "c") < 0.01);
  }
}

TEST_CASE("watched gates are those of the equations, and gradients those of the tape") {
  for (bool peepholes : {false, true}) {
    Generator rng(1);
    LSTM lstm(3, 4, rng, {.layers = 2, .watch = true, .cell = {.peepholes = peepholes}});
    lstm.to(float64);
    Tape tape;
    auto [y, last] = lstm(tape.constant(random_tensor({T, 2, 3}, 1)));
    tape.backward(sum(Var(y * tape.constant(random_tensor(y.shape(), 2)))));
    const Watched& watched = lstm.watched();
    CHECK(same_bits(watched.values("h", 1), y.value()));
    for (Index layer : {0, 1}) {
      auto at = [&](const char* name, Index t) { return watched.values(name, layer).at({t, 1, 2}); };
      for (Index t = 0; t < T; ++t) {
        const double before = t == 0 ? 0 : at("c", t - 1);
        CHECK(at("c", t) == doctest::Approx(at("f", t) * before + at("i", t) * at("g", t)).epsilon(1e-12));
        CHECK(at("h", t) == doctest::Approx(at("o", t) * std::tanh(at("c", t))).epsilon(1e-12));
      }
    }
    // Of the last step, dL/dh is what y's weights say.
    double squares = 0;
    const Tensor weights = random_tensor(y.shape(), 2);
    for (Index n = 0; n < 2; ++n)
      for (Index j = 0; j < 4; ++j) squares += std::pow(weights.at({T - 1, n, j}), 2);
    CHECK(watched.gradient_norms("h", 1).back() == doctest::Approx(std::sqrt(squares)).epsilon(1e-12));
    CHECK(watched.gradient_norms("c", 0).size() == T);
    CHECK_ERROR_HERE(watched.values("q"), "\"q\"", "i, f, g, o, h, c");
    CHECK_ERROR_HERE(watched.gradient_norms("f"), "gate");
    CHECK_ERROR_HERE(watched.values("h", 2), "layer 2");
  }
  Generator rng(1);
  CHECK_ERROR(LSTM(3, 4, rng).watched().values("h"), "watch = true");
  CHECK_ERROR(LSTM(3, 4, rng, {.watch = true, .checkpoint = 2}), "checkpoints");
}

TEST_CASE("watched gates of a GRU, in both directions and with lengths, are in the input's time") {
  for (bool reset_after : {true, false}) {
    Generator rng(1);
    GRU gru(3, 4, rng,
            {.bidirectional = Bidirectional::concatenated, .watch = true, .cell = {.reset_after = reset_after}});
    gru.to(float64);
    for (const std::vector<Index>& lengths : {std::vector<Index>{}, std::vector<Index>{2, 5, 0}}) {
      Tape tape;
      auto [y, last] = gru(tape.constant(random_tensor({5, 3, 3}, 1)), {}, lengths);
      tape.backward(sum(square(y)));
      for (Index direction : {0, 1}) {
        CHECK(same_bits(gru.watched().values("h", 0, direction), Tensor(part(y, -1, 2, direction).value())));
        const Tensor z = gru.watched().values("z", 0, direction), n = gru.watched().values("n", 0, direction);
        const Tensor h = gru.watched().values("h", 0, direction);
        for (Index t = 1; t < 4; ++t) {
          const Index before = direction == 0 ? t - 1 : t + 1;
          CHECK(h.at({t, 1, 0}) ==
                doctest::Approx((1 - z.at({t, 1, 0})) * n.at({t, 1, 0}) + z.at({t, 1, 0}) * h.at({before, 1, 0}))
                    .epsilon(1e-12));
        }
        const std::vector<double> norms = gru.watched().gradient_norms("h", 0, direction);
        REQUIRE(norms.size() == 5);
        for (double norm : norms) CHECK(norm > 0);
      }
    }
  }
}

TEST_CASE("probabilities out of range are named") {
  Generator rng(1);
  CHECK_ERROR(LSTM(3, 4, rng, {.input_dropout = 1}), "input_dropout is 1", "[0, 1)");
  CHECK_ERROR(LSTM(3, 4, rng, {.recurrent_dropout = -0.1}), "recurrent_dropout is -0.1");
  CHECK_ERROR(LSTM(3, 4, rng, {.zoneout = 2}), "zoneout is 2");
  CHECK_ERROR(LSTM(3, 4, rng, {.cell = {.projection = 4}}), "projection");
  LSTM lstm(3, 4, rng);
  Tape tape;
  Var x = tape.constant(Tensor({5, 2, 3}));
  CHECK_ERROR_HERE(lstm(x, {}, std::vector<Index>{1}), "1 lengths for 2 sequences");
  CHECK_ERROR_HERE(lstm(x, {}, std::vector<Index>{1, 6}), "length 1 is 6", "[0, 5]");
  CHECK_ERROR_HERE(lstm(x, {}, std::vector<Index>{-1, 2}), "length 0 is -1");
}
