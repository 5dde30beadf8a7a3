#pragma once

#include <filesystem>
#include <vector>

namespace unroll::examples {

/// Makes a folder and those it is in. Throws Error, with the reason, when that fails.
void make_folder(const std::filesystem::path& folder);

/// Moves what an earlier run left in a folder into a new folder `earlier-N` inside it, with a line that says so:
/// a new run takes its place, and nothing is lost. Throws Error.
void set_earlier_run_aside(const std::filesystem::path& folder, const std::vector<std::filesystem::path>& names);

}  // namespace unroll::examples
