#pragma once

#include <autograd/rows.h>

#include <cmath>

namespace unroll::detail {

/// log sum_k exp(x_k) = largest + log_sum, of one row. The two are kept apart: added up, logits far from 0 would
/// swallow the digits of the other.
///
/// A row of minus infinities only, or an empty one, has the sum minus infinity (largest 0); one that holds infinity has
/// the sum infinity; one that holds NaN has NaN.
template <class T>
struct LogSumExp {
  Wide<T> largest = 0;
  Wide<T> log_sum = 0;

  LogSumExp() = default;
  explicit LogSumExp(const Row<T>& x) {
    using std::isfinite;
    using std::log;
    if (T most = x.size() > 0 ? x.maxCoeff() : T(0); isfinite(most)) largest = Wide<T>(most);
    constexpr Index width = 128;
    T part[width];
    const auto shift = splat(static_cast<T>(largest));
    Wide<T> sum = 0;
    for (Index k = 0; k < x.size(); k += width) {
      const Index n = std::min(width, x.size() - k);
      map_row(
          part, true, n, [&](const auto& e) { return packet::exp(Packet<T>(e - shift)); }, x.data() + k);
      sum += wide_sum(part, n);
    }
    log_sum = log(sum);
  }
  /// log softmax(x), element by element.
  auto log_softmax(const Row<T>& x) const { return (x - static_cast<T>(largest)) - static_cast<T>(log_sum); }
};

}  // namespace unroll::detail
