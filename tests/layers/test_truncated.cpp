// Truncated back-propagation through time: its windows, and its gradients against those of the same steps by hand.

#include <autograd/autograd.h>
#include <layers/lstm.h>
#include <layers/truncated.h>
#include <tests/support.h>

#include <doctest/doctest.h>

using namespace unroll;
using namespace unroll::testing;

namespace {

constexpr Index T = 11, N = 2, D = 3, H = 4;

struct Stream {
  Generator rng{1};
  LSTM lstm{D, H, rng};
  Tensor x = random_tensor({T, N, D}, 7), weights = random_tensor({T, N, H}, 8);
  Stream() { lstm.to(float64); }

  Var part(Tape& tape, const Tensor& of, Index begin, Index end) { return slice(tape.constant(of), 0, begin, end); }
};

std::vector<std::array<Index, 3>> windows_of(Index steps, TruncatedBPTT::Options options) {
  Stream s;
  std::vector<std::array<Index, 3>> windows;
  for (TruncatedBPTT window(steps, options); window;) {
    windows.push_back({window.begin(), window.fresh(), window.end()});
    Tape tape;
    window.advance(s.lstm(s.part(tape, s.x, window.begin(), window.end()), window.state()).state);
  }
  return windows;
}

}  // namespace

TEST_CASE("truncated BPTT: windows follow one another, overlap when they are deeper, and the last may be shorter") {
  using Windows = std::vector<std::array<Index, 3>>;  // begin, fresh, end
  CHECK(windows_of(11, {.stride = 4}) == Windows{{0, 0, 4}, {4, 4, 8}, {8, 8, 11}});
  CHECK(windows_of(8, {.stride = 4}) == Windows{{0, 0, 4}, {4, 4, 8}});
  CHECK(windows_of(11, {.stride = 3, .depth = 9}) == Windows{{0, 0, 3}, {0, 3, 6}, {0, 6, 9}, {3, 9, 11}});
  CHECK(windows_of(3, {.stride = 5}) == Windows{{0, 0, 3}});
  CHECK(windows_of(0, {.stride = 5}).empty());
}

TEST_CASE("truncated BPTT: outputs are those of one run, and gradients stop at the depth") {
  Stream s;
  Tape whole;
  const Tensor y(s.lstm(whole.constant(s.x)).y.value());
  for (TruncatedBPTT::Options options : {TruncatedBPTT::Options{3, 0}, {3, 6}, {2, 8}, {11, 11}}) {
    CAPTURE(options.stride);
    CAPTURE(options.depth);
    for (TruncatedBPTT window(T, options); window;) {
      Tape tape;
      auto [out, last] = s.lstm(s.part(tape, s.x, window.begin(), window.end()), window.state());
      const Var fresh = slice(out, 0, window.seen(), out.size(0));
      CHECK(relative_error(fresh.value(), slice(whole.constant(y), 0, window.fresh(), window.end()).value()) < 1e-14);
      s.lstm.zero_grad();
      tape.backward(sum(Var(fresh * s.part(tape, s.weights, window.fresh(), window.end()))));
      const Tensor gradient = s.lstm.cells()[0].W_hh.grad();

      // The same by hand: from the state before the window, without its history.
      Tape by_hand;
      RecurrentState before;
      if (window.begin() > 0) before = detach(s.lstm(s.part(by_hand, s.x, 0, window.begin())).state);
      const Var again = s.lstm(s.part(by_hand, s.x, window.begin(), window.end()), before).y;
      s.lstm.zero_grad();
      by_hand.backward(sum(Var(slice(again, 0, window.seen(), again.size(0)) *
                               s.part(by_hand, s.weights, window.fresh(), window.end()))));
      CHECK(relative_error(s.lstm.cells()[0].W_hh.grad(), gradient) < 1e-14);
      window.advance(last);
    }
  }
}

TEST_CASE("truncated BPTT: begins at a given state, and says what it cannot do") {
  Stream s;
  RecurrentState start;
  start.tensors() = {random_tensor({N, H}, 1), random_tensor({N, H}, 2)};
  TruncatedBPTT window(T, {.stride = 4, .depth = 8}, start);
  CHECK(same_bits(window.state().tensors()[1], start.tensors()[1]));
  CHECK_ERROR(TruncatedBPTT(T, {}), "stride 0");
  CHECK_ERROR(TruncatedBPTT(T, {.stride = 4, .depth = 6}), "depth 6", "multiple");
  CHECK_ERROR(TruncatedBPTT(-1, {.stride = 4}), "-1 steps");
  TruncatedBPTT none(0, {.stride = 1});
  CHECK_ERROR(none.advance(FinalState{}), "seen");
}
