#include <autograd/error.h>

namespace unroll::detail {

std::string short_location(Source where) {
  std::string_view file = where.file;
  if (auto slash = file.find_last_of('/'); slash != std::string_view::npos) file.remove_prefix(slash + 1);
  return fmt::format("{}:{}", file, where.line);
}

void throw_error(std::string message) { throw Error(message); }

void throw_error(std::string message, Source where) {
  if (where.line == 0) throw_error(std::move(message));
  throw Error(fmt::format("{} ({})", message, short_location(where)));
}

}  // namespace unroll::detail
