#pragma once

#include <layers/recurrent_state.h>

namespace unroll {

/// Truncated back-propagation through time over a stream of T steps: every k1 steps, the gradient of those steps' loss
/// flows back through the last k2 >= k1 steps, and the state is carried on without its history.
///
///     for (TruncatedBPTT window(x.shape()[0], {.stride = 16, .depth = 64}); window; ) {
///       tape.clear();
///       auto [y, last] = lstm(slice(tape.constant(x), 0, window.begin(), window.end()), window.state());
///       Var loss = loss_of(slice(y, 0, window.seen(), y.size(0)), window.fresh());  // of the steps that are new
///       tape.backward(loss);
///       adam.step();
///       window.advance(last);
///     }
///
/// With stride = depth, the usual case, windows follow one another and every step is new. With a larger depth they
/// overlap: a window begins at the state that an earlier one ended with, so its steps are run depth / stride times in
/// all. The last window may be shorter. Sources: Williams and Peng 1990, "An efficient gradient-based algorithm for
/// on-line training of recurrent network trajectories", BPTT(h; h'); Sutskever 2013, section 2.8.6.
class TruncatedBPTT {
 public:
  struct Options {
    Index stride = 0;  ///< k1
    Index depth = 0;   ///< k2, a multiple of the stride; 0: the stride
  };
  /// Begins at `initial`. Throws Error unless the numbers are at least 1 and the depth is a multiple of the stride.
  TruncatedBPTT(Index steps, Options options, const RecurrentState& initial = {});

  /// False when all steps have been seen.
  explicit operator bool() const { return fresh_ < steps_; }
  /// The window's steps, and the first of them that is new.
  Index begin() const;
  Index end() const;
  Index fresh() const { return fresh_; }
  /// How many of the window's steps are not new.
  Index seen() const { return fresh_ - begin(); }
  /// The state before `begin`.
  const RecurrentState& state() const;
  /// On to the next window. `last` is the state after this one; its values are taken.
  void advance(const FinalState& last);

 private:
  Index steps_, stride_, depth_;
  Index fresh_ = 0;
  std::vector<RecurrentState> states_;  ///< at the last depth / stride ends of windows, in turn
};

}  // namespace unroll
