#pragma once

// How every example meets its user: one line for an error, one signal to stop, one line of JSON at the end.

#include <oneapi/tbb/global_control.h>
#include <nlohmann/json.hpp>

#include <filesystem>
#include <functional>
#include <string>

namespace CLI {  // its headers take seconds to compile
class App;
}

namespace unroll::examples {

/// What a program returns: all well; an error; a wrong command line; stopped by a signal, as a shell has it.
inline constexpr int exit_ok = 0, exit_error = 1, exit_usage = 2, exit_stopped = 130;

/// Parses the command line and runs `body`. Whatever goes wrong becomes one line on standard error,
/// "NAME: what was wrong", with NAME the app's, and an exit code that is not 0.
int run_example(CLI::App& app, int argc, char** argv, const std::function<int()>& body);

/// A path in quotes, for a message that stays on one line.
std::string quoted(const std::filesystem::path& path);

/// Limits oneTBB to `count` threads as long as the result lives; 0: one for each core.
tbb::global_control use_threads(int count);

/// As long as it lives, the first Ctrl-C (or SIGTERM) is only noted, so that a trainer can finish its step and
/// save. A second one ends the program at once.
class StopSignal {
 public:
  StopSignal();
  ~StopSignal();
  StopSignal(const StopSignal&) = delete;
  StopSignal& operator=(const StopSignal&) = delete;
  bool requested() const;
};

/// Prints the result of a run, for programs to read: one line of JSON, the last on standard output.
void print_result(const nlohmann::ordered_json& result);

}  // namespace unroll::examples
