#include <autograd/error.h>
#include <autograd/file.h>
#include <examples/common/console.h>
#include <examples/common/text.h>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <set>

namespace unroll::examples {

namespace fs = std::filesystem;

namespace {

std::string read_file(const fs::path& path) {
  unroll::detail::InputFile file(path, "reading the text");
  std::string bytes(file.size(), '\0');
  file.read(std::as_writable_bytes(std::span(bytes)), 0);
  return bytes;
}

/// Every regular file below a folder; `wanted` decides on the names of files and of folders on the way.
template <class Wanted>
void list_files(const fs::path& folder, Wanted&& wanted, std::set<fs::path>& files) {
  for (auto at = fs::recursive_directory_iterator(folder); at != fs::recursive_directory_iterator(); ++at) {
    const bool is_folder = at->is_directory();
    if (!wanted(at->path(), is_folder)) {
      if (is_folder) at.disable_recursion_pending();
    } else if (at->is_regular_file()) {
      files.insert(at->path());
    }
  }
}

bool hidden(const fs::path& path) { return path.filename().native().starts_with('.'); }

}  // namespace

std::string read_text(const std::vector<fs::path>& paths) {
  std::set<fs::path> files, named;
  for (const fs::path& path : paths) {
    std::error_code error;
    if (fs::is_directory(path, error)) {
      try {
        list_files(
            path, [](const fs::path& p, bool) { return !hidden(p); }, files);
      } catch (const fs::filesystem_error& e) {
        fail("reading the text: {} cannot be listed: {}", quoted(e.path1().empty() ? path : e.path1()),
             e.code().message());
      }
    } else {
      files.insert(path);
      named.insert(path);
    }
  }
  std::string text;
  for (const fs::path& file : files) {
    const std::string bytes = read_file(file);
    if (named.contains(file) && bytes.empty()) fail("reading the text: {} is empty", quoted(file));
    if (named.contains(file) || bytes.find('\0') == bytes.npos) text += bytes;
  }
  if (text.empty()) fail("reading the text: there is none in {}", quoted(paths.empty() ? fs::path() : paths.front()));
  return text;
}

std::string read_repository() {
  const fs::path root = UNROLL_SOURCE_DIR;
  std::error_code error;
  if (!fs::is_regular_file(root / "CMakeLists.txt", error))
    fail("the source tree {} that this program was built from is gone; give it a text with --data", quoted(root));
  std::set<fs::path> files;
  list_files(
      root,
      [](const fs::path& path, bool is_folder) {
        const std::string name = path.filename().string(), extension = path.extension().string();
        if (is_folder) return !hidden(path) && !name.starts_with("build") && name != "runs";
        constexpr std::array wanted = {".h", ".cpp", ".md", ".cmake"};
        return !hidden(path) && (std::ranges::find(wanted, extension) != wanted.end() || name == "CMakeLists.txt");
      },
      files);
  return read_text({files.begin(), files.end()});
}

std::string fingerprint(std::string_view text) {
  std::uint64_t hash = 0xcbf29ce484222325;
  for (char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return fmt::format("{:016x}", hash);
}

Vocabulary::Vocabulary(std::string_view text) : ids_(256, -1) {
  for (char c : text) ids_[static_cast<unsigned char>(c)] = 0;
  for (std::size_t byte = 0; byte < ids_.size(); ++byte) {
    if (ids_[byte] < 0) continue;
    ids_[byte] = size();
    bytes_ += static_cast<char>(byte);
  }
}

std::vector<std::int32_t> Vocabulary::encode(std::string_view text) const {
  std::vector<std::int32_t> ids;
  ids.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (!contains(text[i])) {
      // The whole character, where it is one of several bytes.
      std::size_t begin = i, end = i + 1;
      auto continues = [&](std::size_t at) { return (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80; };
      while (begin > 0 && continues(begin)) --begin;
      while (end < text.size() && continues(end)) ++end;
      fail("the character {} does not occur in the text that the model was trained on",
           unroll::detail::in_quotes(text.substr(begin, end - begin)));
    }
    ids.push_back(ids_[static_cast<unsigned char>(text[i])]);
  }
  return ids;
}

std::string Vocabulary::to_json() const {
  return nlohmann::json(std::vector<unsigned char>(bytes_.begin(), bytes_.end())).dump();
}

Vocabulary Vocabulary::from_json(std::string_view text) {
  const nlohmann::json json = nlohmann::json::parse(text, nullptr, false);
  std::string bytes;
  if (json.is_array())
    for (const auto& byte : json)
      if (byte.is_number_unsigned() && byte.get<std::uint64_t>() < 256)
        bytes += static_cast<char>(byte.get<std::uint64_t>());
  Vocabulary vocabulary(bytes);
  if (bytes.empty() || !json.is_array() || vocabulary.bytes_ != bytes || json.size() != bytes.size())
    fail("the vocabulary is damaged");
  return vocabulary;
}

}  // namespace unroll::examples
