/// Measures Unroll side by side with its peers and the limits of the machine. See README.md.

#include <oneapi/tbb/global_control.h>
#include <tests/benchmarks/contenders.h>
#include <tests/benchmarks/memory.h>
#include <tests/benchmarks/topics.h>
#include <CLI/CLI.hpp>

#include <unistd.h>

using namespace unroll;
using namespace unroll::benchmarks;

namespace {

struct Options {
  Filter filter;
  std::filesystem::path json;
  std::string memory_of;
  std::vector<Index> shape;
};

void add_options(CLI::App& app, Options& o) {
  app.add_flag("--quick", o.filter.quick, "Three shapes, three repetitions, most topics: a minute");
  app.add_option("--json", o.json, "Also writes the figures to this file");
  app.add_option("--only", o.filter.topics, "Topics")->check(CLI::IsMember(all_topics()));
  app.add_option("--cell", o.filter.cells, "Cells: lstm, gru, rnn, mgu, or what a topic's table has in that column");
  app.add_option("--threads", o.filter.threads, "Numbers of threads: 1, 2");
  app.add_option("--shape", o.shape, "B,T,in,hidden,layers in place of a topic's own")
      ->expected(5)
      ->delimiter(',')
      ->check(CLI::PositiveNumber);
  app.add_option("--memory-of", o.memory_of)->group("");  // how the memory topic starts itself
}

void run_topics(const Options& o) {
  const Effort effort = o.filter.quick ? Effort{.sample_ms = 4, .fewest = 3, .most = 3} : Effort();
  fmt::print("{}\n", machine());
  std::vector<Row> all;
  for (const std::string& topic : all_topics()) {
    std::vector<Row> rows;
    for (const Case& c : cases(topic, o.filter)) {
      if (isatty(STDERR_FILENO)) fmt::print(stderr, "\r\033[K{}, {}, {} hidden", c.topic, c.cell, c.sizes.hidden);
      std::ranges::move(run_case(c, effort), std::back_inserter(rows));
    }
    if (isatty(STDERR_FILENO)) fmt::print(stderr, "\r\033[K");
    print_table(topic, rows);
    std::ranges::move(rows, std::back_inserter(all));
    if (!o.json.empty()) write_json(o.json, all);
  }
}

}  // namespace

int main(int argc, char** argv) try {
  prepare_libtorch(argv);
  CLI::App app("Measures Unroll side by side with its peers.", "benchmarks");
  Options o;
  add_options(app, o);
  CLI11_PARSE(app, argc, argv);
  if (!o.shape.empty()) o.filter.sizes = {o.shape[0], o.shape[1], o.shape[2], o.shape[3], o.shape[4]};
  if (o.memory_of.empty()) {
    run_topics(o);
    return 0;
  }
  const Case c{topic::memory, o.filter.cells.at(0), o.filter.sizes.value(), o.filter.threads.at(0)};
  const tbb::global_control own_threads(tbb::global_control::max_allowed_parallelism,
                                        static_cast<std::size_t>(c.threads));
  fmt::print("{}\n", peak_growth(c, o.memory_of));
  return 0;
} catch (const std::exception& error) {
  fmt::print(stderr, "benchmarks: {}\n", error.what());
  return 1;
}
