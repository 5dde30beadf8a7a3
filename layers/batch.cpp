#include <layers/batch.h>

#include <autograd/indexing.h>
#include <autograd/views.h>

#include <algorithm>
#include <limits>
#include <numeric>

namespace unroll::detail {

namespace {

Indices indices(const std::int32_t* values, Index n) {
  return std::span<const std::int32_t>(values, static_cast<std::size_t>(n));
}

}  // namespace

Batch::Batch(Graph& graph, Index steps, std::span<const Index> lengths, Source where)
    : all_steps_(steps), sequences_(static_cast<Index>(lengths.size())) {
  for (std::size_t n = 0; n < lengths.size(); ++n)
    if (lengths[n] < 0 || lengths[n] > steps)
      fail_at(where, "Recurrent: length {} is {}; it must be in [0, {}], the steps of the input", n, lengths[n], steps);
  if (steps * sequences_ > std::numeric_limits<std::int32_t>::max())
    fail_at(where, "Recurrent: {} steps of {} sequences; with lengths at most 2^31 - 1 in all", steps, sequences_);
  const auto length = [&](std::int32_t n) { return lengths[static_cast<std::size_t>(n)]; };
  const auto array = [&](Index n) { return graph.array<std::int32_t>(static_cast<std::size_t>(n)); };

  auto *order = array(sequences_), *place = array(sequences_);
  std::iota(order, order + sequences_, 0);
  std::sort(order, order + sequences_,
            [&](std::int32_t a, std::int32_t b) { return length(a) != length(b) ? length(a) > length(b) : a < b; });
  for (std::int32_t k = 0; k < sequences_; ++k) place[order[k]] = k;
  steps_ = sequences_ == 0 ? 0 : length(order[0]);

  auto* offsets = graph.array<Index>(static_cast<std::size_t>(steps_) + 1);
  offsets[0] = 0;
  for (Index t = 0, running = sequences_; t < steps_; ++t) {
    while (length(order[running - 1]) <= t) --running;
    offsets[t + 1] = offsets[t] + running;
  }
  rows_ = offsets[steps_];

  auto *source = array(rows_), *mirrored = array(rows_), *sequence = array(rows_), *target = array(steps * sequences_);
  std::fill_n(target, steps * sequences_, -1);
  for (Index t = 0, row = 0; t < steps_; ++t)
    for (Index k = 0; row < offsets[t + 1]; ++k, ++row) {
      sequence[row] = order[k];
      source[row] = static_cast<std::int32_t>(t * sequences_ + order[k]);
      mirrored[row] = static_cast<std::int32_t>(offsets[length(order[k]) - 1 - t] + k);
      target[source[row]] = static_cast<std::int32_t>(row);
    }
  offsets_ = offsets;
  order_ = order;
  place_ = place;
  source_ = source;
  target_ = target;
  mirrored_ = mirrored;
  sequence_ = sequence;
}

Index Batch::time_of(Index step, Index k, bool reverse) const {
  if (!packed()) return reverse ? steps_ - 1 - step : step;
  const Index row = offsets_[step] + k;
  return source_[reverse ? mirrored_[row] : row] / sequences_;
}

Var Batch::pack(const Var& x, Source where) const {
  if (!packed()) return x;
  const Var rows = flatten(x, 0, 1, where);
  return unsqueeze(index_select(rows, 0, indices(source_, rows_), where), 0, where);
}

Var Batch::unpack(const Var& y, Source where) const {
  if (!packed()) return y;
  const Var rows = rows_or_zeros(select(y, 0, 0, where), indices(target_, all_steps_ * sequences_), where);
  return reshape(rows, {all_steps_, sequences_, y.size(2)}, where);
}

Var Batch::mirror(const Var& x, Source where) const {
  return packed() ? index_select(x, 1, indices(mirrored_, rows_), where) : flip(x, {0}, where);
}

Var Batch::sort(const Var& state, Source where) const {
  return packed() ? index_select(state, 0, indices(order_, sequences_), where) : state;
}

Var Batch::unsort(const Var& state, Source where) const {
  return packed() ? index_select(state, 0, indices(place_, sequences_), where) : state;
}

Var Batch::repeat(const Var& mask, Source where) const {
  return packed() ? unsqueeze(index_select(mask, 0, indices(sequence_, rows_), where), 0, where) : mask;
}

}  // namespace unroll::detail
