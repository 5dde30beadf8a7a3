// How long the compiler takes for a user's file: its own commands for those in compile/, run anew.

#include <autograd/error.h>
#include <tests/benchmarks/contenders.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

namespace unroll::benchmarks {

Contenders compilations() {
  namespace fs = std::filesystem;
  const fs::path list = fs::path(UNROLL_BUILD_DIR) / "compile_commands.json";
  std::ifstream in(list);
  if (!in) fail("compile: cannot read {}; configure with the preset \"benchmarks\"", list.string());
  std::map<std::string, Contender> found;
  for (const auto& entry : nlohmann::json::parse(in)) {
    const fs::path file = entry.at("file").get<std::string>(), directory = entry.at("directory").get<std::string>();
    if (file.parent_path().filename() != "compile") continue;
    const std::string given = entry.at("command").get<std::string>(), output = " -o ";
    const std::size_t at = given.find(output) + output.size();
    fs::create_directories((directory / given.substr(at, given.find(' ', at) - at)).parent_path());
    const std::string command = fmt::format("cd '{}' && {}", directory.string(), given);
    auto run = [command] {
      if (std::system(command.c_str()) != 0) fail("compile: this command failed: {}", command);
    };
    const std::string name = file.stem().string();
    found.emplace(name, Contender{.name = name, .run = run, .result = nullptr, .settle_ms = 0});
  }
  Contenders all;
  for (const char* name : {"unroll", "libtorch", "eigen"})
    if (const auto at = found.find(name); at != found.end()) all.push_back(at->second);
  return all;
}

}  // namespace unroll::benchmarks
