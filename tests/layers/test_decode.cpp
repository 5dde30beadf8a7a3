// The loops of a decoder: teacher forcing against steps by hand, searches against an enumeration of all that could be
// written and against a search in plain loops.

#include <autograd/autograd.h>
#include <layers/attention.h>
#include <layers/decode.h>
#include <layers/embedding.h>
#include <layers/linear.h>
#include <layers/lstm.h>
#include <tests/support.h>

#include <doctest/doctest.h>

#include <cmath>
#include <map>

using namespace unroll;
using namespace unroll::testing;

namespace {

using State = LSTMCell::State;
using Tokens = std::vector<std::int32_t>;
constexpr std::int32_t start = 0, end = 1;
constexpr Index H = 5, E = 3;

/// A decoder with attention, in double precision with large weights, so that what it writes depends on everything.
struct Model : Module {
  Generator rng{1};
  Embedding embed;
  AdditiveAttention attention;
  LSTMCell cell;
  Linear head;
  explicit Model(Index tokens)
      : embed(tokens, 2, rng), attention(H, E, 4, rng), cell(2 + E, H, rng, {}), head(H + E, tokens, rng) {
    add("embed", embed);
    add("attention", attention);
    add("cell", cell);
    add("head", head);
    to(float64);
    for (std::uint64_t seed = 1; Parameter * parameter : parameters())
      parameter->value() = random_tensor(parameter->shape(), seed++, -2, 2);
  }

  auto step(Tape& tape, const AttentionMemory& memory) {
    return [this, &tape, memory](const Indices& tokens, const State& s) {
      const Attended found = attention(s.h, memory);
      State next = cell(cell.project(concat({embed(tape, tokens), found.context}, 1)), s);
      return Decoded{head(concat({next.h, found.context}, 1)), next};
    };
  }
};

/// The inputs of N sequences: an encoder's outputs and where the decoder begins.
struct Inputs {
  Tensor outputs, h, c;
  std::vector<Index> lengths;

  AttentionMemory memory(Tape& tape, const Model& model) const {
    return model.attention.remember(tape.constant(outputs), lengths);
  }
  State state(Tape& tape) const { return {tape.constant(h), tape.constant(c)}; }
  /// Sequence n alone.
  Inputs only(Index n) const {
    const Index steps = outputs.shape()[0];
    Inputs one{Tensor({steps, 1, E}, float64),
               Tensor({1, H}, float64),
               Tensor({1, H}, float64),
               {lengths[static_cast<std::size_t>(n)]}};
    for (Index t = 0; t < steps; ++t)
      for (Index e = 0; e < E; ++e) one.outputs.set({t, 0, e}, outputs.at({t, n, e}));
    for (Index i = 0; i < H; ++i) {
      one.h.set({0, i}, h.at({n, i}));
      one.c.set({0, i}, c.at({n, i}));
    }
    return one;
  }
};

Inputs inputs_of(Index sequences, std::uint64_t seed) {
  Inputs inputs{random_tensor({4, sequences, E}, seed, -2, 2),
                random_tensor({sequences, H}, seed + 1),
                random_tensor({sequences, H}, seed + 2),
                {}};
  for (Index n = 0; n < sequences; ++n) inputs.lengths.push_back(1 + (n + 2) % 4);
  return inputs;
}

/// The log-probabilities of the token after each beginning, for one sequence and without any search.
class Scores {
 public:
  Scores(Model& model, const Inputs& one) : model_(model), one_(one) {}

  const std::vector<double>& after(const Tokens& tokens) {
    auto [entry, made] = known_.try_emplace(tokens);
    if (!made) return entry->second;
    Tape tape = Tape::inference();
    auto step = model_.step(tape, one_.memory(tape, model_));
    auto [logits, state] = step(Tokens{start}, one_.state(tape));
    for (std::int32_t token : tokens) {
      auto [more, next] = step(Tokens{token}, state);
      logits = more;
      state = next;
    }
    return entry->second = log_softmax(logits).value().to_vector();
  }

 private:
  Model& model_;
  Inputs one_;
  std::map<Tokens, std::vector<double>> known_;
};

double ranked(double log_probability, std::size_t length, double penalty) {
  return log_probability / std::pow((5.0 + static_cast<double>(length)) / 6, penalty);
}

bool better(const Hypothesis& a, const Hypothesis& b) { return a.score > b.score; }

/// Adds all that can be written after a beginning.
void enumerate(Scores& scores, const Hypothesis& beginning, const BeamOptions& options, std::vector<Hypothesis>& all) {
  const std::vector<double> next = scores.after(beginning.tokens);
  for (std::size_t token = 0; token < next.size(); ++token) {
    Hypothesis h = beginning;
    h.log_probability += next[token];
    h.finished = static_cast<std::int32_t>(token) == options.end;
    if (!h.finished) h.tokens.push_back(static_cast<std::int32_t>(token));
    h.score = ranked(h.log_probability, beginning.tokens.size() + 1, options.length_penalty);
    if (h.finished || static_cast<Index>(h.tokens.size()) == options.max_length)
      all.push_back(h);
    else
      enumerate(scores, h, options, all);
  }
}

/// Beam search by the book: all candidates sorted at every step, nothing stopped early.
std::vector<Hypothesis> plain_search(Scores& scores, const BeamOptions& options) {
  std::vector<Hypothesis> live(1), ended;
  for (Index length = 1; length <= options.max_length; ++length) {
    struct Candidate {
      Hypothesis before;
      double log_probability;
      std::int32_t token;
    };
    std::vector<Candidate> candidates;
    for (const Hypothesis& h : live)
      for (std::int32_t token = 0; double p : scores.after(h.tokens))
        candidates.push_back({h, h.log_probability + p, token++});
    std::ranges::stable_sort(candidates, std::greater(), &Candidate::log_probability);
    live.clear();
    for (std::size_t rank = 0; rank < candidates.size(); ++rank) {
      const Candidate& candidate = candidates[rank];
      Hypothesis h = candidate.before;
      h.log_probability = candidate.log_probability;
      h.finished = candidate.token == options.end;
      if (!h.finished) h.tokens.push_back(candidate.token);
      h.score = ranked(h.log_probability, static_cast<std::size_t>(length), options.length_penalty);
      if (!h.finished && length < options.max_length) {
        if (static_cast<Index>(live.size()) < options.width) live.push_back(h);
      } else if (static_cast<Index>(rank) < options.width) {
        ended.push_back(h);
      }
    }
  }
  std::ranges::stable_sort(ended, better);
  ended.resize(std::min(ended.size(), static_cast<std::size_t>(options.best)));
  return ended;
}

void check_same(const std::vector<Hypothesis>& found, const std::vector<Hypothesis>& expected) {
  REQUIRE(found.size() == expected.size());
  for (std::size_t i = 0; i < found.size(); ++i) {
    CAPTURE(i);
    CHECK(found[i].tokens == expected[i].tokens);
    CHECK(found[i].finished == expected[i].finished);
    CHECK(found[i].log_probability == doctest::Approx(expected[i].log_probability).epsilon(1e-12));
    CHECK(found[i].score == doctest::Approx(expected[i].score).epsilon(1e-12));
  }
}

std::vector<std::vector<Hypothesis>> search(Model& model, const Inputs& inputs, const BeamOptions& options) {
  Tape tape = Tape::inference();
  return beam_search(model.step(tape, inputs.memory(tape, model)), inputs.state(tape), options);
}

}  // namespace

TEST_CASE("teacher forcing: the steps one by one") {
  Model model(6);
  const Inputs inputs = inputs_of(3, 40);
  const Tokens targets = {2, 3, 4, 5, 1, 2, 1, -100, 3, -100, -1, 1};  // [4, 3]
  Tape tape;
  auto step = model.step(tape, inputs.memory(tape, model));
  auto [logits, last] = teacher_forcing(step, inputs.state(tape), start, Indices(targets, {4, 3}));
  REQUIRE(logits.shape() == Shape{4, 3, 6});
  State state = inputs.state(tape);
  Tokens read = {start, start, start};
  for (Index t = 0; t < 4; ++t) {
    auto [expected, next] = step(read, state);
    CHECK(same_bits(logits[t].value(), expected.value()));
    state = next;
    for (std::size_t n = 0; n < 3; ++n) {  // a negative target is read as the start
      const std::int32_t target = targets[static_cast<std::size_t>(t) * 3 + n];
      read[n] = target < 0 ? start : target;
    }
  }
  CHECK(same_bits(last.h.value(), state.h.value()));
  CHECK(same_bits(last.c.value(), state.c.value()));
}

TEST_CASE("teacher forcing: the gradient of inputs, state and all weights") {
  Model model(5);
  const Inputs inputs = inputs_of(3, 50);
  const Tokens targets = {2, 3, 4, 1, 3, 2, -100, 1, 4};  // [3, 3]
  auto run = [&](Tape& tape, const std::vector<Var>& in) {
    const AttentionMemory memory = model.attention.remember(in[0], inputs.lengths);
    auto [logits, last] =
        teacher_forcing(model.step(tape, memory), State{in[1], in[2]}, start, Indices(targets, {3, 3}));
    return Var(cross_entropy(logits, targets, {.ignore_index = -100}) + sum(last.c * random_tensor({3, H}, 60)));
  };
  CHECK(gradient_error(run, {inputs.outputs, inputs.h, inputs.c}, model.parameters()) < 1e-6);
}

TEST_CASE("greedy search: the most probable token, one sequence at a time") {
  for (Index tokens : {3, 6})
    for (Index most : {1, 3, 9})
      for (bool ends : {true, false}) {
        Model model(tokens);
        const Inputs inputs = inputs_of(8, 70);
        DecodeOptions options{.start = start, .end = {}, .max_length = most};
        if (ends) options.end = end;
        Tape tape = Tape::inference();
        const std::vector<Hypothesis> found =
            greedy_search(model.step(tape, inputs.memory(tape, model)), inputs.state(tape), options);
        REQUIRE(found.size() == 8);
        for (Index n = 0; n < 8; ++n) {
          CAPTURE(n);
          Scores scores(model, inputs.only(n));
          Hypothesis expected;
          while (!expected.finished && static_cast<Index>(expected.tokens.size()) < most) {
            const std::vector<double>& next = scores.after(expected.tokens);
            const auto best = std::ranges::max_element(next);
            expected.log_probability += *best;
            const auto token = static_cast<std::int32_t>(best - next.begin());
            expected.finished = ends && token == end;
            if (!expected.finished) expected.tokens.push_back(token);
          }
          expected.score = expected.log_probability;
          check_same({found[static_cast<std::size_t>(n)]}, {expected});
        }
      }
}

TEST_CASE("beam search: with a width that covers all, the best of all that can be written") {
  Model model(4);
  const Inputs inputs = inputs_of(5, 80);
  for (double penalty : {0.0, 0.65, 2.0})
    for (Index best : {1, 5, 20}) {
      const BeamOptions options{start, end, 4, 4 * 27, best, penalty};
      const auto found = search(model, inputs, options);
      for (Index n = 0; n < 5; ++n) {
        CAPTURE(n);
        Scores scores(model, inputs.only(n));
        std::vector<Hypothesis> all;
        enumerate(scores, {}, options, all);
        CHECK(all.size() == 1 + 3 + 9 + 27 * 4);
        double total = 0;
        for (const Hypothesis& h : all) total += std::exp(h.log_probability);
        CHECK(total == doctest::Approx(1).epsilon(1e-12));
        std::ranges::stable_sort(all, better);
        all.resize(static_cast<std::size_t>(best));
        check_same(found[static_cast<std::size_t>(n)], all);
      }
    }
}

TEST_CASE("beam search: without an end, all that can be written is of one length") {
  Model model(3);
  const Inputs inputs = inputs_of(2, 90);
  const BeamOptions options{.start = start, .max_length = 4, .width = 81, .best = 81};
  const auto found = search(model, inputs, options);
  for (Index n = 0; n < 2; ++n) {
    Scores scores(model, inputs.only(n));
    std::vector<Hypothesis> all;
    enumerate(scores, {}, options, all);
    std::ranges::stable_sort(all, better);
    check_same(found[static_cast<std::size_t>(n)], all);
  }
}

TEST_CASE("beam search: any width, against a search in plain loops that never stops early") {
  Model model(7);
  model.head.W.value() =
      random_tensor(model.head.W.shape(), 99, -0.4, 0.4);  // so that the ends matter, and many tokens
  model.head.b.value() = Tensor({7}, {0, 1, 0, 0, 0, 0, 0}, float64);
  const Inputs inputs = inputs_of(6, 100);
  for (Index width : {1, 2, 3, 5})
    for (double penalty : {0.0, 0.7, 1.5})
      for (Index best = 1; best <= width; best += 2) {
        CAPTURE(width);
        CAPTURE(penalty);
        CAPTURE(best);
        const BeamOptions options{start, end, 7, width, best, penalty};
        const auto found = search(model, inputs, options);
        for (Index n = 0; n < 6; ++n) {
          CAPTURE(n);
          Scores scores(model, inputs.only(n));
          check_same(found[static_cast<std::size_t>(n)], plain_search(scores, options));
        }
      }
}

TEST_CASE("beam search: what ties") {
  Tape tape;
  // Whatever was written, token 3 is impossible and the other four are equally probable.
  const double none = -std::numeric_limits<double>::infinity();
  auto step = [&](const Indices& tokens, const Var& state) {
    Tensor logits({tokens.size(), 5}, float64);
    for (Index row = 0; row < tokens.size(); ++row) logits.set({row, 3}, none);
    return Decoded{tape.constant(logits), state};
  };
  const Var state = tape.constant(Tensor({2, 1}, float64));
  const auto greedy = greedy_search(step, state, {.start = 0, .end = 4, .max_length = 3});
  CHECK(greedy[1].tokens == Tokens{0, 0, 0});
  CHECK(greedy[1].log_probability == doctest::Approx(3 * std::log(0.25)));
  CHECK(!greedy[1].finished);

  const auto found = beam_search(step, state, {.start = 0, .end = 4, .max_length = 2, .width = 4, .best = 4});
  REQUIRE(found.size() == 2);
  for (const std::vector<Hypothesis>& of : found) {
    REQUIRE(of.size() == 4);
    CHECK(of[0].tokens.empty());
    CHECK(of[0].finished);
    CHECK(of[1].tokens == Tokens{0, 0});
    CHECK(of[2].tokens == Tokens{0, 1});
    CHECK(of[3].tokens == Tokens{0, 2});
  }
  // 1 + 3 + 9 outcomes are possible; none with token 3.
  const auto all = beam_search(step, state, {.start = 0, .end = 4, .max_length = 2, .width = 50, .best = 50});
  CHECK(all[0].size() == 1 + 3 * 4);
  for (const Hypothesis& h : all[0]) CHECK(std::ranges::find(h.tokens, 3) == h.tokens.end());
}

namespace {

struct Four {
  Var a, b, c, d;
};

/// Whatever the state's type, its values say which beginning they belong to: each is the sum of what was read.
template <class S>
void check_reordered(Tape& tape, const S& state) {
  const Tensor table = random_tensor({4, 4}, 5, -3, 3);
  auto step = [&](const Indices& tokens, const S& given) {
    Tensor read({tokens.size(), 1}, float64);
    for (Index row = 0; row < tokens.size(); ++row) read.set({row, 0}, tokens[row] + 1);
    S next = given;
    std::vector<Var> vars = detail::vars_of(next);
    Var total = tape.zeros({tokens.size(), 1}, float64);
    for (Var& var : vars) total = total + (var = var * 1.5 + read);
    detail::set_vars(next, vars);
    return Decoded<S>{Var(sin(total * Tensor({1, 4}, {0.3, 1.1, 2.3, 3.7}, float64))), next};
  };
  const std::size_t before = tape.size();
  const auto found = beam_search(step, state, {.start = 0, .end = 3, .max_length = 6, .width = 4, .best = 4});
  CHECK(tape.size() == before);
  S copy = state;
  const auto count = static_cast<double>(detail::vars_of(copy).size());
  for (const Hypothesis& h : found.at(1)) {  // log P from its tokens alone
    double value = 0.25, log_probability = 0, read = 0;
    Tokens tokens = h.tokens;
    if (h.finished) tokens.push_back(3);
    for (std::int32_t token : tokens) {
      value = value * 1.5 + read + 1;
      double all = 0;
      for (double x : {0.3, 1.1, 2.3, 3.7}) all += std::exp(std::sin(count * value * x));
      const double factors[] = {0.3, 1.1, 2.3, 3.7};
      log_probability += std::sin(count * value * factors[token]) - std::log(all);
      read = token;
    }
    CHECK(h.log_probability == doctest::Approx(log_probability).epsilon(1e-10));
  }
}

}  // namespace

TEST_CASE("beam search: any kind of state follows its hypothesis") {
  for (bool recording : {true, false}) {
    Tape tape = recording ? Tape() : Tape::inference();
    const Var v = tape.constant(Tensor({2, 1}, {-0.5, 0.25}, float64));
    check_reordered<Var>(tape, v);
    check_reordered<State>(tape, {v, v});
    check_reordered<Four>(tape, {v, v, v, v});
    check_reordered<std::vector<Var>>(tape, {v, v, v, v, v});
    check_reordered<std::array<Var, 3>>(tape, {v, v, v});
    const std::vector<Var> values = {v, v, v};
    check_reordered<FinalState>(tape, FinalState{values});
  }
}

TEST_CASE("searches: the tape does not grow, with the length or at all") {
  Model model(6);
  const Inputs inputs = inputs_of(3, 110);
  for (bool recording : {true, false}) {
    std::vector<std::size_t> held;
    for (Index length : {3, 300}) {
      Tape tape = recording ? Tape() : Tape::inference();
      const State state = inputs.state(tape);
      auto step = model.step(tape, inputs.memory(tape, model));
      const std::size_t size = tape.size(), bytes = tape.bytes_in_use();
      const auto found = beam_search(step, state, {.start = start, .max_length = length, .width = 3});
      CHECK(found[2][0].tokens.size() == static_cast<std::size_t>(length));
      CHECK(greedy_search(step, state, {.start = start, .max_length = length}).size() == 3);
      CHECK(tape.size() == size);
      CHECK(tape.bytes_in_use() == bytes);
      held.push_back(tape.bytes_held());
    }
    CHECK(held[0] == held[1]);
  }
}

TEST_CASE("searches: a gradient of what was recorded before is not disturbed") {
  Model model(6);
  const Inputs inputs = inputs_of(3, 120);
  const Tokens targets = {2, 3, 1, 4, 1, 5};
  std::vector<std::vector<Tensor>> gradients;
  for (bool searching : {false, true}) {
    model.zero_grad();
    Tape tape;
    const Var outputs = tape.variable(inputs.outputs);
    const State state = inputs.state(tape);
    auto step = model.step(tape, model.attention.remember(outputs, inputs.lengths));
    auto [first, last] = teacher_forcing(step, state, start, Indices(targets, {2, 3}));
    if (searching) beam_search(step, last, {.start = start, .end = end, .max_length = 5, .width = 3});
    Var loss = cross_entropy(first, targets);
    if (searching) greedy_search(step, state, {.start = start, .end = end, .max_length = 5});
    tape.backward(loss);
    auto& kept = gradients.emplace_back();
    for (const Parameter* parameter : model.parameters()) kept.push_back(parameter->grad());
    kept.emplace_back(outputs.grad());
  }
  for (std::size_t i = 0; i < gradients[0].size(); ++i) CHECK(same_bits(gradients[0][i], gradients[1][i]));
}

TEST_CASE("decoding: errors") {
  Tape tape, other;
  const Var state = tape.constant(Tensor({2, 3}));
  Var logits = tape.constant(Tensor({2, 5})), next = state;
  auto step = [&](const Indices&, const Var&) { return std::pair(logits, next); };
  auto several = [&](const Indices&, const std::vector<Var>& vars) { return std::pair(logits, vars); };
  const Tokens six = {0, 1, 2, 3, 4, 0};
  CHECK_ERROR_HERE(teacher_forcing(step, state, 0, six), "teacher_forcing: the targets are [6]", "[time, batch]");
  CHECK_ERROR_HERE(teacher_forcing(step, state, 0, Indices(Tokens(), {0, 2})), "targets are [0, 2]");
  CHECK_ERROR_HERE(teacher_forcing(step, Var(), 0, Indices(six, {3, 2})), "the state holds no Var");
  CHECK_ERROR_HERE(teacher_forcing(step, state, 0, Indices(six, {2, 3})), "logits [2, 5]; they must be [3, classes]");

  CHECK_ERROR_HERE(greedy_search(step, state, {}), "greedy_search: max_length is 0; it must be at least 1");
  CHECK_ERROR_HERE(beam_search(step, state, {.max_length = 3, .width = 0}), "beam_search: width is 0");
  CHECK_ERROR_HERE(beam_search(step, state, {.max_length = 3, .width = 2, .best = 3}), "the best 3", "in [1, 2]");
  CHECK_ERROR_HERE(beam_search(step, state, {.max_length = 3, .length_penalty = -1}), "length_penalty is -1");
  CHECK_ERROR_HERE(beam_search(several, std::vector<Var>(), {.max_length = 3}), "the state holds no Var");
  CHECK_ERROR_HERE(beam_search(several, std::vector<Var>(2), {.max_length = 3}), "the state holds an empty Var");
  const std::vector<Var> uneven = {state, tape.constant(Tensor({3, 1}))};
  CHECK_ERROR_HERE(greedy_search(several, uneven, {.max_length = 3}), "a value of the state is [3, 1]", "the batch, 2");

  const DecodeOptions options{.start = 0, .end = 4, .max_length = 3};
  CHECK_ERROR_HERE(greedy_search(step, state, {.start = 0, .end = 5, .max_length = 3}), "the end token is 5", "[0, 5)");
  next = tape.constant(Tensor({1, 3}));
  CHECK_ERROR_HERE(greedy_search(step, state, options), "a value of the state is [1, 3]", "must be the batch, 2");
  next = other.constant(Tensor({2, 3}));
  CHECK_ERROR_HERE(greedy_search(step, state, options), "greedy_search: Vars of two tapes");
  next = state;
  logits = tape.constant(Tensor({2, 5, 1}));
  CHECK_ERROR_HERE(greedy_search(step, state, options), "logits [2, 5, 1]; they must be [2, classes]");
  logits = Var();
  CHECK_ERROR_HERE(greedy_search(step, state, options), "greedy_search: an empty Var");
  for (double bad : {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    logits = tape.constant(Tensor({2, 5}, {0, 0, 0, 0, 0, 0, bad, 0, 0, 0}));
    CHECK_ERROR_HERE(greedy_search(step, state, options), "at step 0 a row of the logits, for sequence 1, holds NaN");
  }
  logits = tape.constant(Tensor::full({2, 5}, -std::numeric_limits<double>::infinity()));
  CHECK_ERROR_HERE(greedy_search(step, state, options), "minus infinity only");
}
