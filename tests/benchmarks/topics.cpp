#include <oneapi/tbb/global_control.h>
#include <tests/benchmarks/contenders.h>
#include <tests/benchmarks/limits.h>
#include <tests/benchmarks/memory.h>
#include <tests/benchmarks/topics.h>

#include <algorithm>
#include <cmath>

namespace unroll::benchmarks {

namespace {

// batch, steps, input, hidden, layers
const std::vector<Sizes> shapes = {{1, 32, 8, 16, 1},     {1, 100, 32, 64, 1},      {8, 50, 64, 64, 1},
                                   {20, 35, 200, 200, 2}, {32, 64, 64, 128, 1},     {32, 64, 256, 256, 1},
                                   {32, 64, 512, 512, 2}, {64, 128, 1024, 1024, 1}, {1, 1000, 256, 256, 1}};
const std::vector<Sizes> quick_shapes = {{1, 100, 32, 64, 1}, {8, 50, 64, 64, 1}, {32, 64, 64, 128, 1}};
const std::vector<std::string> recurrent_topics = {topic::inference, topic::sweep, topic::sweep_dx, topic::training};

bool is_recurrent(const std::string& topic) {
  return std::ranges::find(recurrent_topics, topic) != recurrent_topics.end();
}

struct Grid {
  std::vector<std::string> cells;
  std::vector<Sizes> sizes;
  std::vector<int> threads = {1, 2};
};

Grid grid(const std::string& topic, bool quick) {
  const std::vector<std::string> layers = {"lstm", "gru", "rnn"};
  if (is_recurrent(topic)) return {layers, quick ? quick_shapes : shapes};
  if (topic == topic::streaming) return {layers, {{1, 100, 64, 64, 1}}, {1}};
  if (topic == topic::nodes) return {{"scalar"}, {{1, quick ? 2000 : 100'000, 1, 1, 1}}, {1}};
  if (topic == topic::statement)
    return {{"forward", "forward+backward"}, {{1, 1, 256, 256, 1}, {32, 1, 256, 256, 1}}, {1}};
  if (topic == topic::own_cell) return {{"mgu", "gru"}, {{32, 64, 256, 256, 1}}};
  if (topic == topic::memory && quick) return {{"lstm"}, {{32, 64, 256, 256, 1}}, {1}};
  if (topic == topic::memory) return {layers, {{32, 64, 512, 512, 2}}, {1}};
  if (topic == topic::checkpoint || topic == topic::checkpoint_memory)
    return {{"lstm"}, {quick ? Sizes{1, 10'000, 16, 64, 1} : Sizes{8, 10'000, 32, 256, 1}}, {1}};
  if (topic == topic::lengths) return {{"lstm"}, {{32, 64, 256, 256, 1}}};
  if (topic == topic::bandwidth) return {{"adam"}, {{1, 1, 1, 10'000'000, 1}}};
  if (topic == topic::compile) return {{"language model"}, {{}}, {1}};
  return {{"gemm", "triad"}, {{}}};
}

void append(Contenders& to, Contenders more) { std::ranges::move(more, std::back_inserter(to)); }

/// The bytes that a step of Adam moves: it reads four numbers for each parameter and writes three.
double adam_bytes(const Case& c) { return 7.0 * 4 * static_cast<double>(c.sizes.hidden); }

/// True where the limit is that of the machine's products: the case's GFLOP/s are counted.
bool by_products(const Case& c) { return is_recurrent(c.topic) || c.topic == topic::own_cell; }

/// Everybody who takes part, Unroll first.
Contenders contenders(const Case& c) {
  auto join = [](auto... lists) {
    Contenders all;
    (append(all, std::move(lists)), ...);
    return all;
  };
  if (c.topic == topic::nodes) return join(unroll_nodes(c), libtorch_nodes(c));
  if (c.topic == topic::statement) return join(unroll_statement(c), eigen_statement(c));
  if (c.topic == topic::compile) return compilations();
  if (c.topic == topic::bandwidth)
    return join(unroll_adam(c), libtorch_adam(c),
                Contenders{triad(c.threads, std::lround(adam_bytes(c) / triad_bytes))});
  const auto problem = std::make_shared<Problem>(c);
  Contenders limit;
  if (const auto product = gemm_peak(c.threads); product && by_products(c)) limit.push_back(*product);
  if (c.topic == topic::streaming) limit.push_back(reading(problem));
  if (c.topic == topic::own_cell) return join(unroll_recurrent(problem), std::move(limit));
  if (c.topic == topic::checkpoint) return unroll_checkpoint(problem);
  if (c.topic == topic::lengths) return unroll_lengths(problem);
  return join(unroll_recurrent(problem), onednn_recurrent(problem), libtorch_recurrent(problem),
              eigen_recurrent(problem), std::move(limit));
}

Row timed_row(const Case& c, const std::string& name, Timing ms) {
  if (name == "limit" && by_products(c))  // what the case would take if nothing but its products took time
    for (double Timing::*time : {&Timing::median, &Timing::min, &Timing::p10, &Timing::p90, &Timing::ratio})
      ms.*time *= flops(c) / gemm_flops;
  Row row{c, name, ms};
  const auto& [batch, steps, input, hidden, layers] = c.sizes;
  if (c.topic == topic::streaming || c.topic == topic::nodes) row.work = static_cast<double>(steps);
  if (c.topic == topic::statement) row.work = static_cast<double>(batch * hidden);
  if (by_products(c)) row.gflops = flops(c) / ms.median / 1e6;
  if (c.topic == topic::bandwidth) row.gigabytes_per_second = adam_bytes(c) / ms.median / 1e6;
  return row;
}

std::vector<Row> limit_rows(const Case& c) {
  const double rate = c.cell == "gemm" ? limits(c.threads).gflops : limits(c.threads).gigabytes_per_second;
  if (rate == 0) return {};
  const double ms = (c.cell == "gemm" ? gemm_flops : triad_bytes * triad_elements) / rate / 1e6;
  Row row{c, "limit", {ms, ms, ms, ms, 1}};
  row.task.sizes = c.cell == "gemm" ? Sizes{1, gemm_rows, gemm_rows, gemm_rows, 1} : Sizes{1, 1, 1, triad_elements, 1};
  (c.cell == "gemm" ? row.gflops : row.gigabytes_per_second) = rate;
  return {row};
}

}  // namespace

const std::vector<std::string>& all_topics() {
  static const std::vector<std::string> topics = {
      topic::limits,  topic::inference, topic::sweep,    topic::sweep_dx, topic::training,   topic::streaming,
      topic::nodes,   topic::statement, topic::own_cell, topic::memory,   topic::checkpoint, topic::checkpoint_memory,
      topic::lengths, topic::bandwidth, topic::compile};
  return topics;
}

std::vector<Case> cases(const std::string& topic, const Filter& filter) {
  auto wanted = [](const auto& list, const auto& value) {
    return list.empty() || std::ranges::find(list, value) != list.end();
  };
  std::vector<Case> list;
  if (!wanted(filter.topics, topic)) return list;
  // The one differs little from the topic without dx, the other takes minutes.
  if (filter.quick && filter.topics.empty() && (topic == topic::sweep_dx || topic == topic::compile)) return list;
  Grid all = grid(topic, filter.quick);
  if (filter.sizes && topic != topic::limits) all.sizes = {*filter.sizes};
  for (const std::string& cell : all.cells)
    for (const Sizes& sizes : all.sizes)
      for (int threads : all.threads)
        if (wanted(filter.cells, cell) && wanted(filter.threads, threads))
          list.push_back({topic, cell, sizes, threads});
  return list;
}

std::vector<Row> run_case(const Case& c, const Effort& effort) {
  const tbb::global_control own_threads(tbb::global_control::max_allowed_parallelism,
                                        static_cast<std::size_t>(c.threads));
  std::vector<Row> rows;
  if (c.topic == topic::limits) return limit_rows(c);
  if (c.topic == topic::memory) {
    for (const std::string& name : memory_contenders()) {
      rows.push_back({c, name});
      rows.back().bytes = peak_growth_in_child(c, name);
    }
    return rows;
  }
  if (c.topic == topic::checkpoint_memory) {
    for (const auto& [name, bytes] : unroll_checkpoint_bytes(std::make_shared<Problem>(c))) {
      rows.push_back({c, name});
      rows.back().bytes = bytes;
    }
    return rows;
  }
  const Contenders all = contenders(c);
  check_agreement(c, all);
  for (const auto& [name, ms] : measure(all, effort)) rows.push_back(timed_row(c, name, ms));
  return rows;
}

}  // namespace unroll::benchmarks
