#pragma once

#include <tests/benchmarks/case.h>

namespace unroll::benchmarks {

/// Milliseconds of one run.
struct Timing {
  double median, min, p10, p90;
  double ratio;  ///< to the first contender's of the same round: the median of it
};

/// How long a case may take.
struct Effort {
  double sample_ms = 20;  ///< the least that one sample lasts, by repeating the run
  int fewest = 5, most = 21;
  double seconds = 4;
};

/// Throws Error unless every contender computes what the first one does, to 1e-3 of the largest element.
void check_agreement(const Case& c, const Contenders& contenders);

/// Times the contenders in turn, round after round, there and back again, so that whatever slows the machine down for a
/// while meets them all. Of contenders with the same name (a library on one thread and on two) the result is the
/// faster's.
std::vector<std::pair<std::string, Timing>> measure(const Contenders& contenders, const Effort& effort);

}  // namespace unroll::benchmarks
