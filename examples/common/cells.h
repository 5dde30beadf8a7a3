#pragma once

#include <layers/layers.h>

#include <string>
#include <type_traits>

namespace unroll::examples {

/// Calls `f` with the recurrent layer of a name from the command line ("rnn", "lstm", "gru") as a type: the model is
/// then compiled for each of them.
///
///     with_layer(cell, [&]<class Layer>(std::type_identity<Layer>) { return train<Layer>(options); });
template <class F>
auto with_layer(const std::string& cell, F&& f) {
  if (cell == "rnn") return f(std::type_identity<RNN>());
  if (cell == "lstm") return f(std::type_identity<LSTM>());
  if (cell == "gru") return f(std::type_identity<GRU>());
  fail("there is no cell \"{}\"; choose rnn, lstm or gru", cell);
}

}  // namespace unroll::examples
