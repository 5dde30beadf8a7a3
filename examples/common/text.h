#pragma once

// Text as a model sees it: bytes, and the numbers that stand for them.

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace unroll::examples {

/// The content of files, and of all files in folders, in the order of their paths, one after another. In
/// folders, hidden files and files that hold zero bytes are passed over. Throws Error when a path is missing,
/// unreadable or empty, or when nothing is left.
std::string read_text(const std::vector<std::filesystem::path>& paths);

/// The sources and documents of the tree that this program was built from. Throws Error when it is gone.
std::string read_repository();

/// Sixteen digits that differ between different texts (FNV-1a, 64 bits).
std::string fingerprint(std::string_view text);

/// A number for every byte that occurs in a text, in the bytes' order. Characters of several bytes, as in
/// UTF-8, are sequences to be learned like any other.
class Vocabulary {
 public:
  explicit Vocabulary(std::string_view text);

  std::int32_t size() const { return static_cast<std::int32_t>(bytes_.size()); }
  bool contains(char byte) const { return ids_[static_cast<unsigned char>(byte)] >= 0; }
  char byte(std::int32_t id) const { return bytes_[static_cast<std::size_t>(id)]; }
  /// Throws Error, naming the character, when the text has one that is not in the vocabulary.
  std::vector<std::int32_t> encode(std::string_view text) const;

  /// "[10,32,33]": the bytes as JSON, for a weight file's metadata, and back. Throws Error when it is not that.
  std::string to_json() const;
  static Vocabulary from_json(std::string_view json);

 private:
  std::string bytes_;
  std::vector<std::int32_t> ids_;
};

}  // namespace unroll::examples
