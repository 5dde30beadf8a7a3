#pragma once

// What language models of bytes and of words share. A model is called with (tape, tokens [T, N], state) and returns the
// logits [T, N, V] of what may follow each token, and its state after the last step.

#include <autograd/autograd.h>
#include <examples/common/options.h>
#include <examples/common/sampling.h>
#include <examples/common/windows.h>
#include <layers/recurrent.h>
#include <optim/mean.h>

#include <algorithm>
#include <span>
#include <vector>

namespace unroll::examples {

/// How much of a text is learned from: nine tenths. The last tenth is to be judged by.
inline Index learned_from(Index tokens) { return tokens * 9 / 10; }

/// The windows of both parts. Of the last there are as many streams, if that leaves none too short.
struct SplitWindows {
  Windows training, validation;
};
inline SplitWindows split_windows(std::span<const std::int32_t> tokens, Index streams, Index length) {
  const auto learned = static_cast<std::size_t>(learned_from(std::ssize(tokens)));
  const auto held_out = tokens.subspan(learned);
  const Index fitting = std::clamp<Index>(std::ssize(held_out) / (length + 1), 1, streams);
  return {Windows(tokens.first(learned), streams, length), Windows(held_out, fitting, length, Windows::Rest::keep)};
}

/// The mean of -ln p(next token) over a whole text: the state is carried from window to window.
template <class Model>
double evaluate(Model& model, Windows& windows) {
  Tape tape = Tape::inference();
  RecurrentState state;
  Mean nats;
  model.eval();
  for (Index k = 0; k < windows.count(); ++k) {
    tape.clear();
    auto [inputs, targets] = windows[k];
    auto [logits, next] = model(tape, inputs, state);
    nats.add(cross_entropy(logits, targets).item(), static_cast<double>(inputs.size()));
    state = detach(next);
  }
  model.train();
  return nats.value();
}

/// Reads the prompt, of one token at least, then draws one token after another, each of which is the next step's input.
template <class Model>
std::vector<std::int32_t> generate(Model& model, std::vector<std::int32_t> prompt, const SamplingOptions& o,
                                   Generator rng) {
  Tape tape = Tape::inference();
  RecurrentState state;
  model.eval();
  std::vector<std::int32_t> tokens;
  for (std::vector<std::int32_t> input = std::move(prompt); std::ssize(tokens) < o.length; input = {tokens.back()}) {
    tape.clear();
    const Index steps = std::ssize(input);
    auto [logits, next] = model(tape, Indices(input, {steps, 1}), state);
    tokens.push_back(static_cast<std::int32_t>(draw(logits[steps - 1].value(), o.temperature, o.top_k, rng)));
    state = detach(next);
  }
  return tokens;
}

}  // namespace unroll::examples
