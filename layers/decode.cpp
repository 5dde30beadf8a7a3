#include <layers/decode.h>

namespace unroll::detail {

Forcing::Forcing(Graph* graph, std::int32_t start, const Indices& targets, Source where) : where_(where) {
  if (graph == nullptr) fail_at(where, "teacher_forcing: the state holds no Var; assign values to it first");
  const Shape& shape = targets.shape();
  if (shape.rank() != 2 || shape[0] == 0)
    fail_at(where, "teacher_forcing: the targets are {}; they must be [time, batch], of one step at least", shape);
  steps_ = static_cast<std::size_t>(shape[0]);
  batch_ = static_cast<std::size_t>(shape[1]);
  tokens_ = graph->array<std::int32_t>(steps_ * batch_);
  logits_ = graph->array<Var>(steps_);
  std::fill_n(tokens_, batch_, start);
  for (std::size_t i = batch_; i < steps_ * batch_; ++i) {
    const std::int32_t target = targets.values()[i - batch_];
    tokens_[i] = target < 0 ? start : target;
  }
}

void Forcing::set_logits(std::size_t t, const Var& logits) {
  if (!logits || logits.rank() != 2 || logits.size(0) != static_cast<Index>(batch_))
    fail_at(where_, "teacher_forcing: the step gave logits {}; they must be [{}, classes]",
            logits ? to_string(logits.shape()) : "that are an empty Var", batch_);
  logits_[t] = logits;
}

}  // namespace unroll::detail
