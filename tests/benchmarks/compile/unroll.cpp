// A program of a user's: how long it takes to compile is measured, it is never run.

#include <autograd/autograd.h>
#include <layers/layers.h>
#include <optim/optim.h>

using namespace unroll;

struct LanguageModel : Module {
  Embedding embedding;
  LSTM lstm;
  Linear head;

  LanguageModel(Index words, Index units, Generator& rng)
      : embedding(words, units, rng), lstm(units, units, rng), head(units, words, rng) {
    add("embedding", embedding);
    add("lstm", lstm);
    add("head", head);
  }

  Var operator()(Tape& tape, const Indices& words, RecurrentState& state) {
    auto [y, last] = lstm(embedding(tape, words), state);
    state = detach(last);
    return head(y);
  }
};

double train(Tape& tape, LanguageModel& model, Adam& adam, RecurrentState& state, const Indices& words,
             std::span<const std::int32_t> next) {
  tape.clear();
  const Var nats = cross_entropy(model(tape, words, state), next);
  tape.backward(nats);
  clip_grad_norm(model.parameters(), 1.0);
  adam.step();
  return nats.item();
}
