#include <layers/attention.h>

#include <autograd/elementary.h>
#include <autograd/elementwise.h>
#include <autograd/matmul.h>
#include <autograd/softmax.h>
#include <autograd/views.h>

#include <algorithm>
#include <cmath>

namespace unroll {

namespace {

void fill(Parameter& parameter, Index terms, Generator& rng) {
  const double bound = 1 / std::sqrt(static_cast<double>(terms));
  rng.fill_uniform(parameter.value(), -bound, bound);
}

void check_sizes(const char* name, std::initializer_list<Index> sizes) {
  if (std::min(sizes) < 1) fail("{}: sizes {}; each must be at least 1", name, Shape(std::span(sizes)));
}

// A layer without parameters takes any type: there `weight` is null.
void check_outputs(const char* name, const Var& outputs, Index encoder, const Parameter* weight, Source where) {
  if (!outputs) fail_at(where, "{}: the encoder's outputs are an empty Var; assign a value to it first", name);
  const Shape& shape = outputs.shape();
  if (shape.rank() != 3 || shape[2] != encoder)
    fail_at(where, "{}: the encoder's outputs are {}; they must be [time, batch, {}]", name, shape, encoder);
  if (weight != nullptr && outputs.dtype() != weight->dtype() && !outputs.graph()->dual())
    fail_at(where, "{}: the encoder's outputs are {} and the weights {}; convert one of them", name, outputs.dtype(),
            weight->dtype());
}

/// [N, 1, T]: ones up to each length.
Var mask_of(const char* name, const Var& outputs, std::span<const Index> lengths, Source where) {
  const Index T = outputs.size(0), N = outputs.size(1);
  if (static_cast<Index>(lengths.size()) != N)
    fail_at(where, "{}: {} lengths for a batch of {} sequences", name, lengths.size(), N);
  for (std::size_t n = 0; n < lengths.size(); ++n)
    if (lengths[n] < 0 || lengths[n] > T)
      fail_at(where, "{}: length {} is {}; it must be in [0, {}], the encoder's steps", name, n, lengths[n], T);
  detail::Graph& graph = *outputs.graph();
  const detail::NodeId id = graph.add_leaf(Shape{N, 1, T}, outputs.dtype(), where);
  with_scalar(graph.node(id).dtype, [&]<class S>(S) {
    S* row = graph.value<S>(id);
    for (Index length : lengths) {
      std::fill_n(row, length, S(1));
      std::fill_n(row + length, T - length, S(0));
      row += T;
    }
  });
  return graph.var(id);
}

/// Values and mask. The values of one sequence are made neighbours, as every step reads them.
AttentionMemory memory_of(const char* name, const Var& outputs, std::span<const Index> lengths, Source where) {
  const Var by_sequence = transpose(outputs, 0, 1, where);
  if (lengths.empty()) return {reshape(by_sequence, by_sequence.shape(), where), {}, {}};
  const Var mask = mask_of(name, outputs, lengths, where);
  // Weights of 0 alone would not do: 0 times what an encoder makes of padding may be NaN.
  return {Var(unroll::where(transpose(mask, 1, 2, where), by_sequence, 0), where), {}, mask};
}

/// The query [M, Q] as [N, M / N, Q], and checks it and the memory, whose keys must be [N, T, A].
Var by_sequence(const char* name, const Var& query, const AttentionMemory& memory, Index Q, Index A, Source where) {
  if (!query) fail_at(where, "{}: the query is an empty Var; assign a value to it first", name);
  if (!memory.values || !memory.keys) fail_at(where, "{}: the memory is empty; make it by `remember`", name);
  const Index N = memory.values.size(0);
  const Shape& shape = query.shape();
  if (shape.rank() != 2 || shape[1] != Q) fail_at(where, "{}: the query is {}; it must be [batch, {}]", name, shape, Q);
  if (memory.keys.size(2) != A)
    fail_at(where, "{}: the keys are {}, not [{}, {}, {}]; make the memory by this attention's `remember`", name,
            memory.keys.shape(), N, memory.values.size(1), A);
  if (N == 0 ? shape[0] != 0 : shape[0] % N != 0)
    fail_at(where, "{}: the query is {} and the memory of {} sequences; its rows must be as many, or a multiple", name,
            shape, N);
  if (query.dtype() != memory.values.dtype())
    fail_at(where, "{}: the query is {} and the memory {}; convert one of them", name, query.dtype(),
            memory.values.dtype());
  return reshape(query, {N, N == 0 ? 1 : shape[0] / N, Q}, where);
}

/// Weights and context from scores [N, M / N, T].
Attended attend(const Var& scores, const AttentionMemory& memory, Source where) {
  const Var weights = memory.mask ? masked_softmax(scores, memory.mask, -1, where) : softmax(scores, -1, where);
  const Var context(matmul(weights, memory.values, where), where);
  return {flatten(context, 0, 1, where), flatten(weights, 0, 1, where)};
}

}  // namespace

AdditiveAttention::AdditiveAttention(Index query, Index encoder, Index hidden, Generator& rng)
    : W({query, hidden}), U({encoder, hidden}), v({hidden}) {
  check_sizes("AdditiveAttention", {query, encoder, hidden});
  fill(W, query, rng);
  fill(U, encoder, rng);
  fill(v, hidden, rng);
  add("weight_query", W, {.transposed = true});
  add("weight_key", U, {.transposed = true});
  add("weight_score", v);
}

AttentionMemory AdditiveAttention::remember(const Var& outputs, std::span<const Index> lengths, Source where) const {
  check_outputs("AdditiveAttention", outputs, U.shape()[0], &U, where);
  AttentionMemory memory = memory_of("AdditiveAttention", outputs, lengths, where);
  memory.keys = Var(matmul(memory.values, U, where), where);
  return memory;
}

Attended AdditiveAttention::operator()(const Var& query, const AttentionMemory& memory, Source where) const {
  const Var q = by_sequence("AdditiveAttention", query, memory, W.shape()[0], v.size(), where);
  const Var asked = unsqueeze(Var(matmul(q, W, where), where), 2, where);  // [N, M / N, 1, A]
  const Var known = unsqueeze(memory.keys, 1, where);                      // [N, 1, T, A]
  const Var hidden(tanh(asked + known), where);
  return attend(Var(matmul(hidden, v, where), where), memory, where);
}

MultiplicativeAttention::MultiplicativeAttention(Index query, Index encoder, Generator& rng, Options options)
    : W({encoder, options.score == AttentionScore::general ? query : 0}),
      query_(query),
      encoder_(encoder),
      options_(options) {
  check_sizes("MultiplicativeAttention", {query, encoder});
  if (options.score == AttentionScore::dot) {
    if (query != encoder)
      fail("MultiplicativeAttention: the query has {} values and the encoder {}; `dot` needs as many, or use `general`",
           query, encoder);
    return;
  }
  fill(W, encoder, rng);
  add("weight", W, {.transposed = true});
}

AttentionMemory MultiplicativeAttention::remember(const Var& outputs, std::span<const Index> lengths,
                                                  Source where) const {
  const bool general = options_.score == AttentionScore::general;
  check_outputs("MultiplicativeAttention", outputs, encoder_, general ? &W : nullptr, where);
  AttentionMemory memory = memory_of("MultiplicativeAttention", outputs, lengths, where);
  memory.keys = general ? Var(matmul(memory.values, W, where), where) : memory.values;
  return memory;
}

Attended MultiplicativeAttention::operator()(const Var& query, const AttentionMemory& memory, Source where) const {
  Var q = by_sequence("MultiplicativeAttention", query, memory, query_, query_, where);
  if (options_.scaled) q = Var(q * (1 / std::sqrt(static_cast<double>(query_))), where);
  const Var scores(matmul(q, transpose(memory.keys, 1, 2, where), where), where);
  return attend(scores, memory, where);
}

}  // namespace unroll
