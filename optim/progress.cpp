#include <optim/progress.h>

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cmath>

namespace unroll {

std::string detail::clock_text(double seconds) {
  const auto s = static_cast<long long>(std::lround(std::max(seconds, 0.0)));
  if (s >= 3600) return fmt::format("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60);
  return fmt::format("{}:{:02}", s / 60, s % 60);
}

Progress::Progress(Index done, Index total, double units, std::string_view unit)
    : done_(done), total_(total), units_(units), unit_(unit), live_(::isatty(STDERR_FILENO) == 1) {
  next_ += std::chrono::seconds(live_ ? 0 : 10);
}

bool Progress::due() const { return Clock::now() >= next_; }

void Progress::show(Index step, std::string_view details) {
  const double per_second = units_per_second(step);
  const double left = per_second > 0 ? static_cast<double>(total_ - step) * units_ / per_second : 0;
  std::string line = fmt::format("step {}/{}  {}  {:.1f}k {}/s  {} left", step, total_, details, per_second / 1000,
                                 unit_, detail::clock_text(left));
  if (live_) {
    // A line that wraps could not be written over.
    struct winsize window {};
    if (::ioctl(STDERR_FILENO, TIOCGWINSZ, &window) == 0 && window.ws_col > 1)
      line.resize(std::min<std::size_t>(line.size(), window.ws_col - 1U));
    fmt::print(stderr, "\r\x1b[K{}", line);
    open_ = true;
  } else {
    fmt::print(stderr, "{}\n", line);
  }
  next_ = Clock::now() + (live_ ? std::chrono::milliseconds(100) : std::chrono::seconds(10));
}

void Progress::finish() {
  if (open_) fmt::print(stderr, "\n");
  open_ = false;
}

double Progress::seconds() const { return std::chrono::duration<double>(Clock::now() - start_).count(); }

double Progress::units_per_second(Index step) const {
  const double elapsed = seconds();
  return elapsed > 0 ? static_cast<double>(step - done_) * units_ / elapsed : 0;
}

}  // namespace unroll
