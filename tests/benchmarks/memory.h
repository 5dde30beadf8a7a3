#pragma once

#include <tests/benchmarks/case.h>

namespace unroll::benchmarks {

/// The names of those whose memory can be measured.
std::vector<std::string> memory_contenders();

/// Runs three training steps of one contender and returns by how many bytes the peak of the resident memory lies above
/// what was resident before. To be called in a process of its own, since a peak never falls.
double peak_growth(const Case& c, const std::string& contender);

/// The same, in a process that this program starts.
double peak_growth_in_child(const Case& c, const std::string& contender);

}  // namespace unroll::benchmarks
