#include <layers/beams.h>

#include <autograd/indexing.h>
#include <autograd/log_sum_exp.h>

#include <algorithm>
#include <cmath>
#include <numeric>

namespace unroll::detail {

namespace {

Graph& graph_of(const char* name, const std::vector<Var>& state, Source where) {
  if (state.empty()) fail_at(where, "{}: the state holds no Var", name);
  for (const Var& var : state)
    if (!var) fail_at(where, "{}: the state holds an empty Var; assign a value to it first", name);
  return *state.front().graph();
}

void check_options(const char* name, const BeamOptions& o, Source where) {
  if (o.max_length < 1) fail_at(where, "{}: max_length is {}; it must be at least 1", name, o.max_length);
  if (o.width < 1) fail_at(where, "{}: width is {}; it must be at least 1", name, o.width);
  if (o.best < 1 || o.best > o.width)
    fail_at(where, "{}: the best {} are asked for; it must be in [1, {}], the width", name, o.best, o.width);
  if (!(o.length_penalty >= 0) || std::isinf(o.length_penalty))
    fail_at(where, "{}: length_penalty is {}; it must be finite and at least 0", name, o.length_penalty);
}

std::size_t at(Index i) { return static_cast<std::size_t>(i); }

}  // namespace

Beams::Beams(const char* name, std::vector<Var>& state, const BeamOptions& options, Source where)
    : name_(name),
      options_(options),
      where_(where),
      graph_(graph_of(name, state, where)),
      mark_(graph_.mark()),
      sequences_(state.front().rank() > 0 ? state.front().size(0) : 0),
      running_(sequences_) {
  check_options(name, options, where);
  check_state(state, sequences_);
  const Index width = options.width;
  beams_.resize(at(sequences_ * width));
  tokens_.assign(beams_.size(), options.start);
  rows_.resize(beams_.size());
  ended_.resize(at(sequences_));
  stopped_.resize(at(sequences_));
  held_.resize(state.size());
  for (std::size_t row = 0; row < rows_.size(); ++row) rows_[row] = static_cast<std::int32_t>(row / at(width));
  for (Index n = 0; n < sequences_; ++n) beams_[at(n * width)].log_probability = 0;  // one beginning: with nothing
  if (width > 1)
    for (Var& var : state) var = index_select(var, 0, rows_, where);
}

void Beams::check_state(const std::vector<Var>& state, Index rows) const {
  if (state.size() != held_.size() && !held_.empty())
    fail_at(where_, "{}: the step gave a state of {} Vars for one of {}", name_, state.size(), held_.size());
  for (const Var& var : state) {
    graph_.check(var, name_, where_);
    if (var.rank() == 0 || var.size(0) != rows)
      fail_at(where_, "{}: a value of the state is {}; its first axis must be the batch, {}", name_, var.shape(), rows);
  }
}

void Beams::check_logits(const Var& logits) {
  graph_.check(logits, name_, where_);
  const Shape& shape = logits.shape();
  if (shape.rank() != 2 || shape[0] != static_cast<Index>(beams_.size()) || shape[1] == 0)
    fail_at(where_, "{}: the step gave logits {}; they must be [{}, classes]", name_, shape, beams_.size());
  if (options_.end && (*options_.end < 0 || *options_.end >= shape[1]))
    fail_at(where_, "{}: the end token is {}; it must be in [0, {}), one of the classes", name_, *options_.end,
            shape[1]);
}

double Beams::score(double log_probability, Index length) const {
  if (options_.length_penalty == 0) return log_probability;
  return log_probability / std::pow((5 + static_cast<double>(length)) / 6, options_.length_penalty);
}

Index Beams::add_word(const Candidate& candidate) {
  words_.push_back({candidate.token, beams_[at(candidate.row)].last});
  return static_cast<Index>(words_.size()) - 1;
}

void Beams::advance(const Var& logits, std::vector<Var>& state) {
  check_logits(logits);
  check_state(state, static_cast<Index>(beams_.size()));
  ++length_;
  logits_.assign(logits.value());
  std::iota(rows_.begin(), rows_.end(), 0);
  for (Index n = 0; n < sequences_; ++n) {
    if (stopped_[at(n)]) continue;
    find_candidates(n);
    choose(n);
  }
  carry(state);
}

/// The 2 W best continuations of a sequence, in order: W at most end, so the W best others are among them.
void Beams::find_candidates(Index sequence) {
  candidates_.clear();
  for (Index row = sequence * options_.width; row < (sequence + 1) * options_.width; ++row)
    if (beams_[at(row)].log_probability != impossible)
      with_type(logits_.dtype(), [&]<class T>(T) { add_candidates<T>(row); });
  std::sort_heap(candidates_.begin(), candidates_.end());
}

/// Keeps a heap with the worst in front.
template <class T>
void Beams::add_candidates(Index row) {
  const Index classes = logits_.shape()[1];
  const Row<T> logits(logits_.data<T>() + row * classes, classes);
  const LogSumExp<T> sum(logits);
  if (!std::isfinite(sum.log_sum))
    fail_at(where_, "{}: at step {} a row of the logits, for sequence {}, holds NaN, infinity, or minus infinity only",
            name_, length_ - 1, row / options_.width);
  const double before = beams_[at(row)].log_probability;
  for (Index c = 0; c < classes; ++c) {
    // In double, so that different logits stay different.
    const double log_probability = before + ((static_cast<double>(logits[c]) - sum.largest) - sum.log_sum);
    const Candidate candidate{log_probability, row, static_cast<std::int32_t>(c)};
    if (log_probability == impossible) continue;
    if (candidates_.size() == at(2 * options_.width)) {
      if (!(candidate < candidates_.front())) continue;
      std::pop_heap(candidates_.begin(), candidates_.end());
      candidates_.pop_back();
    }
    candidates_.push_back(candidate);
    std::push_heap(candidates_.begin(), candidates_.end());
  }
}

/// Those that end are put aside, the others go on.
void Beams::choose(Index sequence) {
  const Index width = options_.width, first = sequence * width;
  std::vector<Ended>& ended = ended_[at(sequence)];
  std::vector<Beam> next(at(width));
  Index live = 0, rank = 0;
  for (const Candidate& candidate : candidates_) {
    const bool finished = candidate.token == options_.end, ends = finished || length_ == options_.max_length;
    if (ends && rank < width) put_aside(ended, candidate, finished);
    if (!ends && live < width) {
      tokens_[at(first + live)] = candidate.token;
      rows_[at(first + live)] = static_cast<std::int32_t>(candidate.row);
      next[at(live++)] = {candidate.log_probability, add_word(candidate)};
    }
    ++rank;
  }
  // A probability only falls, and the largest penalty divides it least.
  const bool enough = static_cast<Index>(ended.size()) == options_.best && live > 0 &&
                      ended.back().score >= score(next[0].log_probability, options_.max_length);
  if (live == 0 || enough) {
    stopped_[at(sequence)] = true;
    --running_;
  }
  std::ranges::copy(next, beams_.begin() + first);
}

void Beams::put_aside(std::vector<Ended>& ended, const Candidate& candidate, bool finished) {
  const double ranked = score(candidate.log_probability, length_);
  if (static_cast<Index>(ended.size()) == options_.best) {
    if (ranked <= ended.back().score) return;
    ended.pop_back();
  }
  const Index last = finished ? beams_[at(candidate.row)].last : add_word(candidate);
  const auto place = std::ranges::find_if(ended, [&](const Ended& other) { return other.score < ranked; });
  ended.insert(place, {candidate.log_probability, ranked, last, finished});
}

/// The values of the chosen rows outlive what the step has recorded.
void Beams::carry(std::vector<Var>& state) {
  bool reordered = false;
  for (std::size_t row = 0; row < rows_.size(); ++row) reordered |= rows_[row] != static_cast<std::int32_t>(row);
  for (std::size_t i = 0; i < state.size() && !done(); ++i)
    held_[i].assign((reordered ? index_select(state[i], 0, rows_, where_) : state[i]).value());
  graph_.rewind_to(mark_, where_);
  for (std::size_t i = 0; i < state.size() && !done(); ++i)
    state[i] = graph_.var(graph_.add_leaf(held_[i], false, where_));
}

std::vector<std::vector<Hypothesis>> Beams::best() const {
  std::vector<std::vector<Hypothesis>> found(ended_.size());
  for (std::size_t n = 0; n < ended_.size(); ++n)
    for (const Ended& ended : ended_[n]) {
      Hypothesis& hypothesis = found[n].emplace_back();
      for (Index word = ended.last; word >= 0; word = words_[at(word)].before)
        hypothesis.tokens.push_back(words_[at(word)].token);
      std::ranges::reverse(hypothesis.tokens);
      hypothesis.log_probability = ended.log_probability;
      hypothesis.score = ended.score;
      hypothesis.finished = ended.finished;
    }
  return found;
}

}  // namespace unroll::detail
