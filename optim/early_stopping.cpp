#include <optim/early_stopping.h>

#include <autograd/file.h>
#include <optim/saved_state.h>

#include <cmath>
#include <cstring>
#include <limits>

namespace unroll {

namespace {

constexpr const char* weights_prefix = "weights.";

}  // namespace

EarlyStopping::EarlyStopping(Options options) : options_(options) {
  if (options.patience < 1) fail("EarlyStopping: patience is {}; it must be at least 1", options.patience);
  if (!(std::isfinite(options.min_delta) && options.min_delta >= 0))
    fail("EarlyStopping: min_delta is {}; it must be at least 0", options.min_delta);
  constexpr double infinite = std::numeric_limits<double>::infinity();
  best_ = options.mode == Mode::min ? infinite : -infinite;
}

bool EarlyStopping::observe(double metric) {
  const bool better =
      options_.mode == Mode::min ? metric < best_ - options_.min_delta : metric > best_ + options_.min_delta;
  if (!better) return ++since_best_ >= options_.patience;
  if (save_) weights_ = save_();
  best_ = metric;
  since_best_ = 0;
  return false;
}

void EarlyStopping::restore() const {
  if (!load_) fail("EarlyStopping::restore: it keeps no weights; give its constructor the model");
  if (weights_.empty()) fail("EarlyStopping::restore: there are no best weights yet; observe a metric first");
  load_(weights_);
}

std::map<std::string, Tensor> EarlyStopping::state_dict() const {
  std::map<std::string, Tensor> state{
      {"best", Tensor::scalar(best_, float64)},
      {"since_best", Tensor::scalar(static_cast<double>(since_best_), float64)},
  };
  for (const auto& [name, tensor] : weights_) state.emplace(weights_prefix + name, tensor);
  return state;
}

void EarlyStopping::load_state_dict(const std::map<std::string, Tensor>& state) {
  constexpr const char* owner = "EarlyStopping";
  const double best = detail::saved_number(owner, state, "best");
  const Index since_best = detail::saved_count(owner, state, "since_best");
  if (std::isnan(best)) fail("{}: the saved best metric is {}; the state is damaged", owner, best);
  std::map<std::string, Tensor> weights;
  for (const auto& [name, tensor] : state) {
    if (name == "best" || name == "since_best") continue;
    if (!name.starts_with(weights_prefix) || !save_)
      fail("{}: the saved state has {}, which this does not; it is of something else", owner,
           detail::in_quotes(name, 100));
    weights.emplace(name.substr(std::strlen(weights_prefix)), tensor);
  }
  best_ = best;
  since_best_ = since_best;
  weights_ = std::move(weights);
}

}  // namespace unroll
