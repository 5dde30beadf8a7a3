#pragma once

// The loops of a decoder: it is fed a token, gives the logits of the next one, and goes on from there.
//
// A decoder's step is any function of tokens [M] and a state that gives logits [M, V] and the next state:
//
//     struct State { Var h, c; };
//     auto step = [&](const Indices& tokens, const State& s) {
//       auto [context, weights] = attention(s.h, memory);
//       LSTMCell::State next = cell(cell.project(concat({embed(tape, tokens), context}, -1)), s);
//       return Decoded{head(next.h), next};
//     };
//
// The state is a Var, a struct of up to four, a std::vector or std::array of them, or the FinalState of a recurrent
// layer; axis 0 of each is the batch. Where every sequence has several hypotheses (beam_search), M is N times as many;
// those of one sequence are neighbours. What does not change, such as the memory of an attention, a step takes from
// outside; the attentions of layers/attention.h know what to do with several queries for each sequence.

#include <autograd/indices.h>
#include <autograd/shape_ops.h>
#include <layers/beams.h>
#include <layers/recurrent.h>

#include <algorithm>
#include <concepts>
#include <optional>
#include <ranges>
#include <vector>

namespace unroll {

/// What a decoder's step gives; any other type that `auto [logits, state] = ...` takes apart will do.
template <class State>
struct Decoded {
  Var logits;
  State state;
};
template <class State>
Decoded(Var, State) -> Decoded<State>;

template <class F, class State>
concept DecoderStep = requires(F& step, const Indices& tokens, const State& state) { step(tokens, state); };

namespace detail {

/// Calls f(Var&) for every Var of a state.
template <class State, class F>
void each_var(State& state, const F& f) {
  if constexpr (std::same_as<std::remove_const_t<State>, Var>) {
    f(state);
  } else if constexpr (std::same_as<std::remove_const_t<State>, FinalState>) {
    for (const Var& var : state.values) f(var);
  } else if constexpr (std::ranges::range<State>) {
    for (auto& var : state) f(var);
  } else {
    for (Var* var : members(state)) f(*var);
  }
}

template <class State>
std::vector<Var> vars_of(State& state) {
  std::vector<Var> vars;
  each_var(state, [&](const Var& var) { vars.push_back(var); });
  return vars;
}

/// Gives a state other Vars.
template <class State>
void set_vars(State& state, const std::vector<Var>& vars) {
  if constexpr (std::same_as<State, FinalState>) {
    Var* memory = vars.front().graph()->template array<Var>(vars.size());
    std::ranges::copy(vars, memory);
    state.values = {memory, vars.size()};
  } else {
    auto next = vars.begin();
    each_var(state, [&](Var& var) { var = *next++; });
  }
}

/// What a decoder reads when it is forced: the start, then all targets but the last.
class Forcing {
 public:
  Forcing(Graph* graph, std::int32_t start, const Indices& targets, Source where);

  std::size_t steps() const { return steps_; }
  Indices tokens(std::size_t t) const { return std::span<const std::int32_t>(tokens_ + t * batch_, batch_); }
  void set_logits(std::size_t t, const Var& logits);
  Var logits() const { return stack({logits_, steps_}, where_); }

 private:
  std::size_t steps_ = 0, batch_ = 0;
  std::int32_t* tokens_ = nullptr;
  Var* logits_ = nullptr;
  Source where_;
};

}  // namespace detail

/// A decoder that is told what it should have written (Williams and Zipser 1989): at step t it reads targets[t - 1],
/// at first `start`, whatever it gave. Gives the logits [T, N, V] of all steps and the last state:
///
///     auto [logits, last] = teacher_forcing(step, state, start, targets);
///     Var loss = cross_entropy(logits, targets, {.ignore_index = -100});
///
/// targets [T, N], T >= 1; a negative one, as of padding that the loss ignores, is read as `start`. Throws Error on
/// other targets, or when logits are not [N, V].
template <class State, DecoderStep<State> Step>
Decoded<State> teacher_forcing(Step&& step, State state, std::int32_t start, const Indices& targets,
                               Source where = Source::here()) {
  detail::Graph* graph = nullptr;
  detail::each_var(state, [&](const Var& var) { graph = graph != nullptr ? graph : var.graph(); });
  detail::Forcing forcing(graph, start, targets, where);
  for (std::size_t t = 0; t < forcing.steps(); ++t) {
    auto [logits, next] = step(forcing.tokens(t), std::as_const(state));
    forcing.set_logits(t, logits);
    state = next;
  }
  return {forcing.logits(), state};
}

/// Of decoding without targets.
struct DecodeOptions {
  std::int32_t start = 0;                ///< what is read first
  std::optional<std::int32_t> end = {};  ///< with which a sequence ends; without one, all have max_length tokens
  Index max_length = 0;                  ///< at least 1: of how many tokens, the end included, a sequence is cut off
};

namespace detail {

template <class State, class Step>
std::vector<std::vector<Hypothesis>> search(const char* name, Step& step, State& state, const BeamOptions& options,
                                            Source where) {
  std::vector<Var> vars = vars_of(state);
  Beams beams(name, vars, options, where);
  while (!beams.done()) {
    set_vars(state, vars);
    auto [logits, next] = step(beams.tokens(), std::as_const(state));
    vars = vars_of(next);
    beams.advance(logits, vars);
  }
  return beams.best();
}

}  // namespace detail

/// The most probable sequences of tokens, searched for along the `width` best beginnings of each of N sequences:
///
///     auto found = beam_search(step, state, {.start = 1, .end = 2, .max_length = 50, .width = 5, .best = 3});
///     found[n][0].tokens;  // the best for sequence n
///
/// At every step each beginning is continued by every token. Of these candidates, those among the `width` best that end
/// are put aside, and the `width` best others go on. A sequence stops when none of them can do better any more than the
/// `best` put aside, or at max_length, where all end. With width 1 and no penalty this is greedy_search; with a width
/// of V (V - 1)^(max_length - 1) or more it finds the best sequences there are. Ties go to what was found first, then
/// to the smaller token. Fewer than `best` are returned when all others have probability 0.
///
/// The step sees a batch of N width: the state is repeated and, from step to step, reordered along axis 0. Nothing
/// stays on the tape, whether it records or not: after each step all but the values of the state is forgotten, so that
/// memory does not grow with the length, and no gradient flows. A step keeps no Vars of its own; what it wants to show
/// (the weights of an attention) it copies.
///
/// Throws Error when an option is out of range, shapes do not fit, or logits have no finite softmax.
/// Sources: Graves 2012, "Sequence transduction with recurrent neural networks"; Sutskever, Vinyals and Le 2014,
/// "Sequence to sequence learning with neural networks", section 3.2; Wu et al. 2016, "Google's neural machine
/// translation system", section 7.
template <class State, DecoderStep<State> Step>
std::vector<std::vector<Hypothesis>> beam_search(Step&& step, State state, const BeamOptions& options,
                                                 Source where = Source::here()) {
  return detail::search("beam_search", step, state, options, where);
}

/// The most probable token at every step, until the end or max_length: one hypothesis for each of the N sequences. Of
/// tokens that tie, the smallest. For the rest like beam_search.
template <class State, DecoderStep<State> Step>
std::vector<Hypothesis> greedy_search(Step&& step, State state, const DecodeOptions& options,
                                      Source where = Source::here()) {
  const BeamOptions one{options.start, options.end, options.max_length, 1};
  std::vector<Hypothesis> found;
  for (auto& hypotheses : detail::search("greedy_search", step, state, one, where))
    found.push_back(std::move(hypotheses.front()));
  return found;
}

}  // namespace unroll
