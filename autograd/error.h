#pragma once

#include <autograd/source.h>

#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <string_view>

namespace unroll {

/// What Unroll throws: one line that says what was wrong, where, and what to do about it.
class Error : public std::runtime_error {
 public:
  explicit Error(const std::string& message) : std::runtime_error(message) {}
};

namespace detail {

/// "my_model.cpp:41": the file without its folders, for a message has to fit on one line.
std::string short_location(Source where);

[[noreturn]] void throw_error(std::string message);
[[noreturn]] void throw_error(std::string message, Source where);

}  // namespace detail

/// Throws an Error with the formatted text.
template <class... Args>
[[noreturn]] void fail(fmt::format_string<Args...> text, Args&&... args) {
  detail::throw_error(fmt::format(text, std::forward<Args>(args)...));
}

/// Throws an Error with the formatted text and the user's line: "... (my_model.cpp:41)".
template <class... Args>
[[noreturn]] void fail_at(Source where, fmt::format_string<Args...> text, Args&&... args) {
  detail::throw_error(fmt::format(text, std::forward<Args>(args)...), where);
}

}  // namespace unroll
