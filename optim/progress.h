#pragma once

#include <autograd/shape.h>

#include <chrono>
#include <string>
#include <string_view>

namespace unroll {

namespace detail {
/// "1:02:03" or "2:03".
std::string clock_text(double seconds);
}  // namespace detail

/// How far a run is, on standard error: on a terminal one line that is written over, ten times a second at
/// most; elsewhere a plain line every ten seconds. Also the run's stop-watch.
class Progress {
 public:
  /// From step `done` to step `total`, each of which handles `units` (characters, say).
  Progress(Index done, Index total, double units, std::string_view unit);
  /// Ends the live line, so that what is printed next has a line of its own.
  ~Progress() { finish(); }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// False, at next to no cost, when it is too early to show something new.
  bool due() const;
  /// "step 120/2500  DETAILS  70.1k chars/s  1:10 left".
  void show(Index step, std::string_view details);
  void finish();

  double seconds() const;
  double units_per_second(Index step) const;

 private:
  using Clock = std::chrono::steady_clock;
  Index done_, total_;
  double units_;
  std::string unit_;
  bool live_, open_ = false;
  Clock::time_point start_ = Clock::now(), next_ = start_;
};

}  // namespace unroll
