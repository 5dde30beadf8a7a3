#pragma once

#include <autograd/config.h>

namespace unroll {

/// A line of the user's program. Every public function that records something takes one as its last,
/// defaulted argument, so that a node, an error or a profile can name the line that asked for it.
///
/// `std::source_location` would do, but Clang 14 does not offer it; the built-ins below are the same
/// in GCC and Clang.
struct Source {
  const char* file = "";
  int line = 0;

  /// The line of the outermost call whose default argument this is.
  static constexpr Source here(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
    return {file, line};
  }
};

}  // namespace unroll
