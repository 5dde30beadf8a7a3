#include <fmt/format.h>
#include <tests/benchmarks/contenders.h>
#include <tests/benchmarks/report.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

namespace unroll::benchmarks {

namespace {

/// What a topic's figures are in: milliseconds times `scale`, by the work done.
struct Unit {
  const char* name;
  double scale;
};

Unit unit(const std::string& topic) {
  if (topic == topic::streaming) return {"us a step", 1e3};
  if (topic == topic::nodes) return {"ns a node", 1e6};
  if (topic == topic::statement) return {"ns an element", 1e6};
  if (topic == topic::memory || topic == topic::checkpoint_memory) return {"MB", 1};
  if (topic == topic::compile) return {"s", 1e-3};
  return {"ms", 1};
}

double figure(const Row& row, double Timing::*which = &Timing::median) {
  return row.bytes ? *row.bytes / 1e6 : row.ms.*which * unit(row.task.topic).scale / row.work;
}

/// Four digits, whatever the size.
std::string digits(double value) {
  const int decimals = value >= 1000 ? 0 : value >= 100 ? 1 : value >= 10 ? 2 : value >= 1 ? 3 : 4;
  return fmt::format("{:.{}f}", value, decimals);
}

std::string rate(const Row& row) {
  if (row.gflops) return fmt::format("{:.1f} GFLOP/s", *row.gflops);
  return row.gigabytes_per_second ? fmt::format("{:.1f} GB/s", *row.gigabytes_per_second) : "";
}

void print_case(const std::vector<Row>& rows, const std::vector<std::string>& peers) {
  const Case& c = rows.front().task;
  fmt::print("{:<17}{:>4}{:>7}{:>6}{:>9}{:>3}{:>4}", c.cell, c.sizes.batch, c.sizes.steps, c.sizes.input,
             c.sizes.hidden, c.sizes.layers, c.threads);
  auto find = [&](const std::string& name) { return std::ranges::find(rows, name, &Row::contender); };
  const auto ours = find("unroll");
  if (ours != rows.end()) {
    fmt::print("{:>10}", digits(figure(*ours)));
    if (!ours->bytes)
      fmt::print("{:>17}", digits(figure(*ours, &Timing::p10)) + "-" + digits(figure(*ours, &Timing::p90)));
    fmt::print("{:>15}", rate(*ours));
  }
  for (const std::string& peer : peers) {
    const auto row = find(peer);
    if (row == rows.end())
      fmt::print("{:>19}", "-");
    else if (ours == rows.end())
      fmt::print("{:>19}{:>15}", digits(figure(*row)), rate(*row));
    else
      fmt::print("{:>12} {:>5.2f}x", digits(figure(*row)), row->bytes ? *row->bytes / *ours->bytes : row->ms.ratio);
  }
  fmt::print("\n");
}

/// The value of a line "key : value" of a system's file, and nothing where there is none.
std::string read_field(const char* file, std::string_view key, char separator) {
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);)
    if (const auto at = line.find(separator); line.starts_with(key) && at != std::string::npos) {
      std::string value = line.substr(line.find_first_not_of(' ', at + 1));
      std::erase(value, '"');
      return value;
    }
  return {};
}

}  // namespace

void print_table(const std::string& topic, const std::vector<Row>& rows) {
  if (rows.empty()) return;
  std::vector<std::string> peers;
  bool ours = false, timed = false;
  for (const Row& row : rows) {
    if (row.contender == "unroll")
      ours = true, timed = !row.bytes;
    else if (std::ranges::find(peers, row.contender) == peers.end())
      peers.push_back(row.contender);
  }
  fmt::print(
      "\n{}, {}{}\n", topic, unit(topic).name,
      ours && !peers.empty() ? "; each peer's also as a multiple of Unroll's, above 1 where Unroll is faster" : "");
  fmt::print("{:<17}{:>4}{:>7}{:>6}{:>9}{:>3}{:>4}", "cell", "B", "T", "in", "hidden", "L", "thr");
  if (ours) fmt::print("{:>10}{}{:>15}", "unroll", timed ? "          p10-p90" : "", "");
  for (const std::string& peer : peers) fmt::print("{:>19}", peer);
  fmt::print("\n");
  for (auto first = rows.begin(); first != rows.end();) {
    const auto last = std::find_if(first, rows.end(), [&](const Row& row) { return row.task != first->task; });
    print_case({first, last}, peers);
    first = last;
  }
  std::fflush(stdout);
}

std::string machine() {
  std::string text =
      fmt::format("{}, {} threads; {}; compiler {}; Eigen {}.{}.{}", read_field("/proc/cpuinfo", "model name", ':'),
                  std::thread::hardware_concurrency(), read_field("/etc/os-release", "PRETTY_NAME", '='), __VERSION__,
                  EIGEN_WORLD_VERSION, EIGEN_MAJOR_VERSION, EIGEN_MINOR_VERSION);
  for (const std::string& version : {onednn_version(), libtorch_version()})
    if (!version.empty()) text += "; " + version;
  return text;
}

void write_json(const std::filesystem::path& path, const std::vector<Row>& rows) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const Row& row : rows) {
    const auto& [batch, steps, input, hidden, layers] = row.task.sizes;
    nlohmann::ordered_json entry = {{"topic", row.task.topic},
                                    {"cell", row.task.cell},
                                    {"batch", batch},
                                    {"steps", steps},
                                    {"input", input},
                                    {"hidden", hidden},
                                    {"layers", layers},
                                    {"threads", row.task.threads},
                                    {"contender", row.contender}};
    if (!row.bytes) {
      entry["median_ms"] = row.ms.median;
      entry["min_ms"] = row.ms.min;
      entry["p10_ms"] = row.ms.p10;
      entry["p90_ms"] = row.ms.p90;
      entry["ratio"] = row.ms.ratio;
    }
    if (row.gflops) entry["gflops"] = *row.gflops;
    if (row.gigabytes_per_second) entry["gigabytes_per_second"] = *row.gigabytes_per_second;
    if (row.bytes) entry["bytes"] = *row.bytes;
    list.push_back(entry);
  }
  std::ofstream out(path);
  out << nlohmann::ordered_json{{"machine", machine()}, {"rows", list}}.dump(1) << '\n';
  if (!out.flush()) fail("cannot write {}", path.string());
}

}  // namespace unroll::benchmarks
