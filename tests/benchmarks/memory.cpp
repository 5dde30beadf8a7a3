#include <fmt/format.h>
#include <tests/benchmarks/contenders.h>
#include <tests/benchmarks/memory.h>

#include <cstdio>
#include <filesystem>
#include <fstream>

namespace unroll::benchmarks {

namespace {

using Maker = Contenders (*)(const ProblemPtr&);
const std::map<std::string, Maker> makers = {{"unroll", unroll_recurrent}, {"libtorch", libtorch_recurrent}};

/// A line of /proc/self/status, in bytes. (getrusage's peak would begin with that of the process that started this
/// one.)
double status(const std::string& key) {
  std::ifstream in("/proc/self/status");
  double kilobytes = 0;
  for (std::string word; in >> word;)
    if (word == key && in >> kilobytes) return kilobytes * 1024;
  fail("/proc/self/status has no {}", key);
}

void three_steps(const ProblemPtr& problem, const std::string& name) {
  const Contenders contenders = makers.at(name)(problem);
  if (contenders.empty()) fail("{} is not installed", name);
  contenders.front().prepare();
  for (int step = 0; step < 3; ++step) contenders.front().run();
}

}  // namespace

std::vector<std::string> memory_contenders() {
  std::vector<std::string> names{"unroll"};
  if (!libtorch_version().empty()) names.emplace_back("libtorch");
  return names;
}

double peak_growth(const Case& c, const std::string& contender) {
  const auto problem = std::make_shared<Problem>(c);
  // First a small one, so that code is loaded and threads are there.
  Case small = c;
  small.sizes = {1, 4, 8, 16, 1};
  three_steps(std::make_shared<Problem>(small), contender);
  const double before = status("VmRSS:");
  three_steps(problem, contender);
  return status("VmHWM:") - before;
}

double peak_growth_in_child(const Case& c, const std::string& contender) {
  const auto& [batch, steps, input, hidden, layers] = c.sizes;
  const std::string command = fmt::format("'{}' --memory-of {} --cell {} --threads {} --shape {},{},{},{},{}",
                                          std::filesystem::read_symlink("/proc/self/exe").string(), contender, c.cell,
                                          c.threads, batch, steps, input, hidden, layers);
  std::FILE* pipe = popen(command.c_str(), "r");
  double bytes = 0;
  const bool read = pipe != nullptr && std::fscanf(pipe, "%lf", &bytes) == 1;
  if (pipe == nullptr || pclose(pipe) != 0 || !read) fail("this failed: {}", command);
  return bytes;
}

}  // namespace unroll::benchmarks
