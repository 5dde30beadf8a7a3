#include <autograd/error.h>
#include <autograd/file.h>
#include <examples/common/console.h>

#include <fmt/format.h>
#include <oneapi/tbb/info.h>
#include <CLI/CLI.hpp>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <new>

namespace unroll::examples {

namespace {

volatile std::sig_atomic_t stop_requested = 0;

int report(const CLI::App& app, std::string message, int code) {
  std::ranges::replace(message, '\n', ' ');
  fmt::print(stderr, "{}: {}\n", app.get_name(), message);
  return code;
}

}  // namespace

int run_example(CLI::App& app, int argc, char** argv, const std::function<int()>& body) {
  try {
    app.parse(argc, argv);
    const int code = body();
    // A result that could not be written is not a success.
    if (std::fflush(stdout) != 0) fail("cannot write to standard output: {}", std::strerror(errno));
    return code;
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);  // --help
    return report(app, fmt::format("{} (--help explains the options)", error.what()), exit_usage);
  } catch (const std::bad_alloc&) {
    return report(app, "not enough memory; choose smaller sizes", exit_error);
  } catch (const std::exception& error) {
    return report(app, error.what(), exit_error);
  }
}

std::string quoted(const std::filesystem::path& path) { return unroll::detail::in_quotes(path.native()); }

tbb::global_control use_threads(int count) {
  if (count == 0) count = tbb::info::default_concurrency();
  return {tbb::global_control::max_allowed_parallelism, static_cast<std::size_t>(count)};
}

StopSignal::StopSignal() {
  stop_requested = 0;
  struct sigaction action {};
  action.sa_handler = [](int) { stop_requested = 1; };
  action.sa_flags = SA_RESTART | SA_RESETHAND;
  for (int signal : {SIGINT, SIGTERM}) sigaction(signal, &action, nullptr);
}

StopSignal::~StopSignal() {
  for (int signal : {SIGINT, SIGTERM}) ::signal(signal, SIG_DFL);
}

bool StopSignal::requested() const { return stop_requested != 0; }

void print_result(const nlohmann::ordered_json& result) { fmt::print("{}\n", result.dump()); }

}  // namespace unroll::examples
