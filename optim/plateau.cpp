#include <optim/plateau.h>

#include <optim/saved_state.h>

#include <algorithm>
#include <cmath>

namespace unroll {

ReduceOnPlateau::ReduceOnPlateau(Options options) : options_(options) {
  const auto& o = options_;
  if (!(o.factor > 0 && o.factor < 1)) fail("ReduceOnPlateau: factor is {}; it must be in (0, 1)", o.factor);
  if (o.patience < 0) fail("ReduceOnPlateau: patience is {}; it must be at least 0", o.patience);
  if (!(o.threshold >= 0 && std::isfinite(o.threshold) && (o.threshold < 1 || o.threshold_mode == Threshold::absolute)))
    fail("ReduceOnPlateau: threshold is {}; it must be at least 0 and finite, a relative one below 1", o.threshold);
  if (o.cooldown < 0) fail("ReduceOnPlateau: cooldown is {}; it must be at least 0", o.cooldown);
  if (!(o.min_factor >= 0 && o.min_factor <= 1))
    fail("ReduceOnPlateau: min_factor is {}; it must be in [0, 1]", o.min_factor);
  best_ = (o.mode == Mode::min ? 1 : -1) * std::numeric_limits<double>::infinity();
}

bool ReduceOnPlateau::better(double metric) const {
  const double sign = options_.mode == Mode::min ? -1 : 1;
  if (options_.threshold_mode == Threshold::absolute) return sign * metric > sign * best_ + options_.threshold;
  return sign * metric > sign * best_ * (1 + sign * options_.threshold);
}

double ReduceOnPlateau::observe(double metric) {
  ++bad_;
  if (better(metric)) {
    best_ = metric;
    bad_ = 0;
  }
  if (cooling_ > 0) {
    --cooling_;
    bad_ = 0;
  }
  if (bad_ > options_.patience) {
    factor_ = std::max(factor_ * options_.factor, options_.min_factor);
    cooling_ = options_.cooldown;
    bad_ = 0;
  }
  return factor_;
}

std::map<std::string, Tensor> ReduceOnPlateau::state_dict() const {
  auto number = [](double value) { return Tensor::scalar(value, float64); };
  return {{"factor", number(factor_)},
          {"best", number(best_)},
          {"bad", number(static_cast<double>(bad_))},
          {"cooling", number(static_cast<double>(cooling_))}};
}

void ReduceOnPlateau::load_state_dict(const std::map<std::string, Tensor>& state) {
  constexpr const char* owner = "ReduceOnPlateau";
  const double factor = detail::saved_number(owner, state, "factor"), best = detail::saved_number(owner, state, "best");
  const Index bad = detail::saved_count(owner, state, "bad"), cooling = detail::saved_count(owner, state, "cooling");
  if (!(factor >= 0 && factor <= 1)) fail("{}: the saved factor is {}; the state is damaged", owner, factor);
  if (std::isnan(best)) fail("{}: the saved best metric is {}; the state is damaged", owner, best);
  if (state.size() != 4)
    fail("{}: the saved state has {} entries, not 4; it is of something else", owner, state.size());
  factor_ = factor;
  best_ = best;
  bad_ = bad;
  cooling_ = cooling;
}

}  // namespace unroll
