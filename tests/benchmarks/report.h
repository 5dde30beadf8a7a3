#pragma once

#include <tests/benchmarks/harness.h>

#include <filesystem>

namespace unroll::benchmarks {

struct Row {
  Case task;
  std::string contender;
  Timing ms{};
  /// What a run consists of, in the topic's unit: steps, nodes, elements, or just one run.
  double work = 1;
  std::optional<double> gflops = {}, gigabytes_per_second = {}, bytes = {};
};

/// Prints a topic's rows: a line for each case, a column for each contender, with its ratio to Unroll.
void print_table(const std::string& topic, const std::vector<Row>& rows);

/// The processor, its cores, and what the contenders are.
std::string machine();

/// Writes all rows as JSON. Throws Error.
void write_json(const std::filesystem::path& path, const std::vector<Row>& rows);

}  // namespace unroll::benchmarks
