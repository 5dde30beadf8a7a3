#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace unroll {

/// Writes the parts, one after another, as the whole content of a file, all or nothing: to a temporary
/// file in the same folder, which is flushed to the disk and then renamed to `path`. Whoever opens `path`,
/// at any moment and after any failure, finds either what was there before or all of the new content.
/// A file that is replaced keeps its permissions, and a symbolic link its place: the file that it names
/// is replaced. Temporary files that killed programs have left in the folder are removed: ours by their name,
/// `.unroll-NUMBER-NUMBER.tmp`, and left because nobody holds the lock that a living writer has on its own.
///
/// Throws Error, with the path and the system's reason, when `path` names something else than a file, the
/// folder is missing or cannot be written to, or the disk is full; then nothing is left behind. Only when
/// flushing the folder fails, after the rename, is the new file in place, and the message says so.
void write_file_atomically(const std::filesystem::path& path, std::span<const std::span<const std::byte>> parts);
void write_file_atomically(const std::filesystem::path& path, std::string_view text);

namespace detail {

/// Text from elsewhere (a path, a name in a file) in quotes, for a message that stays on one line: control
/// characters as \x0a, and at most about `longest` bytes.
std::string in_quotes(std::string_view text, std::size_t longest = 1000);

/// A file to read from.
class InputFile {
 public:
  /// Throws Error, with `function`, the path and the system's reason, unless it is a readable regular file.
  InputFile(const std::filesystem::path& path, std::string_view function);
  ~InputFile();
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  /// The size in bytes when it was opened.
  std::uint64_t size() const { return size_; }
  /// The bytes from `offset` on; from several threads, if wanted. Throws Error when they cannot be read or the file
  /// ends before them.
  void read(std::span<std::byte> to, std::uint64_t offset) const;

 private:
  std::string what_;
  int descriptor_;
  std::uint64_t size_ = 0;
};

}  // namespace detail

}  // namespace unroll
