#include <autograd/error.h>
#include <examples/common/console.h>
#include <examples/common/folder.h>

#include <cstdio>

namespace unroll::examples {

namespace fs = std::filesystem;

void make_folder(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (!error && !fs::is_directory(folder, error)) error = std::make_error_code(std::errc::not_a_directory);
  if (error) fail("the folder {} cannot be made: {}; choose another --out", quoted(folder), error.message());
}

void set_earlier_run_aside(const fs::path& folder, const std::vector<fs::path>& names) {
  std::error_code error;
  std::vector<fs::path> found;
  for (const fs::path& name : names)
    if (fs::exists(folder / name, error)) found.push_back(name);
  if (found.empty()) return;
  fs::path aside;
  for (int i = 1; aside.empty() || fs::exists(aside, error); ++i) aside = folder / fmt::format("earlier-{}", i);
  make_folder(aside);
  for (const fs::path& name : found) {
    fs::rename(folder / name, aside / name, error);
    if (error) fail("{} cannot be moved to {}: {}", quoted(folder / name), quoted(aside), error.message());
  }
  fmt::print(stderr, "{} holds an earlier run; its files are now in {} (to go on with a run: --resume)\n",
             quoted(folder), quoted(aside));
}

}  // namespace unroll::examples
