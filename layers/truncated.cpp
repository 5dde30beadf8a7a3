#include <layers/truncated.h>

#include <algorithm>

namespace unroll {

TruncatedBPTT::TruncatedBPTT(Index steps, Options options, const RecurrentState& initial)
    : steps_(steps), stride_(options.stride), depth_(options.depth == 0 ? options.stride : options.depth) {
  if (steps < 0 || stride_ < 1 || depth_ < stride_ || depth_ % stride_ != 0)
    fail(
        "TruncatedBPTT: {} steps, stride {}, depth {}; the depth must be a multiple of the stride, which is at least 1",
        steps, stride_, depth_);
  states_.resize(static_cast<std::size_t>(depth_ / stride_));
  states_[0] = initial;
}

Index TruncatedBPTT::begin() const { return std::max<Index>(fresh_ + stride_ - depth_, 0); }

Index TruncatedBPTT::end() const { return std::min(fresh_ + stride_, steps_); }

const RecurrentState& TruncatedBPTT::state() const {
  return states_[static_cast<std::size_t>(begin() / stride_) % states_.size()];
}

void TruncatedBPTT::advance(const FinalState& last) {
  if (!*this) fail("TruncatedBPTT: all {} steps have been seen; there is no window to advance from", steps_);
  fresh_ += stride_;
  states_[static_cast<std::size_t>(fresh_ / stride_) % states_.size()] = detach(last);
}

}  // namespace unroll
