#pragma once

#include <tests/benchmarks/report.h>

namespace unroll::benchmarks {

/// What to leave out; an empty list leaves nothing out.
struct Filter {
  std::vector<std::string> topics, cells;
  std::vector<int> threads;
  std::optional<Sizes> sizes;  ///< in place of the topic's own
  bool quick = false;
};

/// In the order in which they are run.
const std::vector<std::string>& all_topics();
std::vector<Case> cases(const std::string& topic, const Filter& filter);
/// Checks that the contenders agree and times them.
std::vector<Row> run_case(const Case& c, const Effort& effort);

}  // namespace unroll::benchmarks
