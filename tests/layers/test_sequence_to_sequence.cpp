// Encoder, attention and decoder together: a small task that they learn.

#include <autograd/autograd.h>
#include <layers/attention.h>
#include <layers/decode.h>
#include <layers/embedding.h>
#include <layers/linear.h>
#include <layers/lstm.h>
#include <optim/optim.h>

#include <doctest/doctest.h>

#include <numeric>

using namespace unroll;

namespace {

using State = LSTMCell::State;
using Tokens = std::vector<std::int32_t>;
constexpr std::int32_t start = 0, end = 1;

/// Reads a sequence and writes it backwards.
struct Reverser : Module {
  static constexpr Index tokens = 8, hidden = 32;  // the start, the end and six others
  Generator rng{5};
  Embedding embed;
  LSTM encoder;
  MultiplicativeAttention attention;
  LSTMCell cell;
  Linear head;
  Reverser()
      : embed(tokens, 16, rng),
        encoder(16, hidden, rng),
        attention(hidden, hidden, rng),
        cell(16 + hidden, hidden, rng, {}),
        head(2 * hidden, tokens, rng) {
    add("embed", embed);
    add("encoder", encoder);
    add("attention", attention);
    add("cell", cell);
    add("head", head);
  }
  struct DecoderState {
    Var h, c, context;
  };
  auto step(Tape& tape, const AttentionMemory& memory) {
    return [this, &tape, memory](const Indices& ids, const DecoderState& s) {
      const State next = cell(cell.project(concat({embed(tape, ids), s.context}, 1)), {s.h, s.c});
      const Attended found = attention(next.h, memory);
      return Decoded{head(concat({next.h, found.context}, 1)), DecoderState{next.h, next.c, found.context}};
    };
  }
  DecoderState initial(Tape& tape, Index batch) const {
    const Var zeros = tape.zeros({batch, hidden});
    return {zeros, zeros, zeros};
  }
};

struct Batch {
  static constexpr Index most = 5, size = 32;
  Tokens inputs = Tokens(most * size, end), targets = Tokens((most + 1) * size, -100);  // time-major
  std::vector<Index> lengths;

  explicit Batch(Generator& rng) {
    for (Index n = 0; n < size; ++n) {
      const Index length = lengths.emplace_back(2 + rng.below(most - 1));
      for (Index t = 0; t < length; ++t)
        targets[static_cast<std::size_t>((length - 1 - t) * size + n)] =
            inputs[static_cast<std::size_t>(t * size + n)] = static_cast<std::int32_t>(2 + rng.below(6));
      targets[static_cast<std::size_t>(length * size + n)] = end;
    }
  }
  Indices read() const { return {inputs, {most, size}}; }
  Indices write() const { return {targets, {most + 1, size}}; }
  Tokens wanted(Index n) const {
    Tokens tokens;
    for (Index t = 0; t < lengths[static_cast<std::size_t>(n)]; ++t)
      tokens.push_back(targets[static_cast<std::size_t>(t * size + n)]);
    return tokens;
  }
};

}  // namespace

TEST_CASE("an encoder and a decoder with attention learn to write sequences backwards") {
  Reverser model;
  Adam adam(model.parameters(), {.rate = 0.01});
  Generator rng(9);
  Tape tape;
  std::vector<double> losses;
  for (int step = 0; step < 200; ++step) {
    tape.clear();
    const Batch batch(rng);
    const AttentionMemory memory =
        model.attention.remember(model.encoder(model.embed(tape, batch.read())).y, batch.lengths);
    auto [logits, state] =
        teacher_forcing(model.step(tape, memory), model.initial(tape, Batch::size), start, batch.write());
    Var loss = cross_entropy(logits, batch.targets, {.ignore_index = -100});
    tape.backward(loss);
    clip_grad_norm(model.parameters(), 1.0);
    adam.step();
    losses.push_back(loss.item());
  }
  CHECK(losses.front() > 1.5);
  CHECK(std::reduce(losses.end() - 20, losses.end()) / 20 < 0.2);

  Tape reading = Tape::inference();
  const Batch batch(rng);
  const AttentionMemory memory =
      model.attention.remember(model.encoder(model.embed(reading, batch.read())).y, batch.lengths);
  const auto found = beam_search(model.step(reading, memory), model.initial(reading, Batch::size),
                                 {.start = start, .end = end, .max_length = 8, .width = 3});
  Index right = 0;
  for (Index n = 0; n < Batch::size; ++n) right += found[static_cast<std::size_t>(n)][0].tokens == batch.wanted(n);
  CHECK(right >= Batch::size * 3 / 4);
}
