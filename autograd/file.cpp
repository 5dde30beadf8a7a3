#include <autograd/error.h>
#include <autograd/file.h>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <system_error>

namespace unroll {

namespace {

namespace fs = std::filesystem;

std::string reason(int error) { return std::generic_category().message(error); }

/// What to do about a system's error, for the end of a message.
const char* advice(int error) {
  switch (error) {
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
      return "make room or choose another disk";
    case ENOENT:
    case ENOTDIR:
      return "create the folder or correct the path";
    case EACCES:
    case EPERM:
    case EROFS:
      return "choose a place that you may write to";
    case ENAMETOOLONG:
      return "choose a shorter name";
    default:
      return "check the path and the disk";
  }
}

/// A file descriptor, closed at the end of its scope.
class Descriptor {
 public:
  explicit Descriptor(int descriptor) : descriptor_(descriptor) {}
  ~Descriptor() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;

  int get() const { return descriptor_; }

 private:
  int descriptor_;
};

/// True when the open file is the one that the folder has under the name.
bool is_named(int file, int folder, const std::string& name) {
  struct stat open {
  }, named{};
  return ::fstat(file, &open) == 0 && ::fstatat(folder, name.c_str(), &named, AT_SYMLINK_NOFOLLOW) == 0 &&
         open.st_dev == named.st_dev && open.st_ino == named.st_ino;
}

constexpr std::string_view temporary_prefix = ".unroll-", temporary_suffix = ".tmp";

/// Removes temporary files whose writers are gone.
void remove_abandoned(const fs::path& path, int folder) {
  std::error_code error;
  for (fs::directory_iterator at(path, error), end; !error && at != end; at.increment(error)) {
    const std::string name = at->path().filename().native();
    if (!name.starts_with(temporary_prefix) || !name.ends_with(temporary_suffix)) continue;
    const Descriptor file(::openat(folder, name.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
    // A writer may have renamed its file since, and another one taken the name.
    if (file.get() >= 0 && ::flock(file.get(), LOCK_EX | LOCK_NB) == 0 && is_named(file.get(), folder, name))
      ::unlinkat(folder, name.c_str(), 0);
  }
}

/// A new, uniquely named file in an open folder, removed at the end of its scope unless it was renamed. It is locked
/// until then, for `remove_abandoned` to see that it is in use.
class TemporaryFile {
 public:
  /// `created()` is false, and errno set, when the folder refused it.
  TemporaryFile(int folder, mode_t mode) : folder_(folder), file_(create(mode)) {}
  ~TemporaryFile() {
    if (created_ && !renamed_) ::unlinkat(folder_, name_.c_str(), 0);
  }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;

  bool created() const { return created_; }

  /// The following return false and set errno when they fail.
  bool write(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      constexpr std::size_t largest = std::size_t{1} << 30;  // Linux writes no more than 2 GiB at a time
      const ssize_t written = ::write(file_.get(), bytes.data(), std::min(bytes.size(), largest));
      if (written < 0 && errno == EINTR) continue;
      if (written == 0) errno = EIO;
      if (written <= 0) return false;
      bytes = bytes.subspan(static_cast<std::size_t>(written));
    }
    return true;
  }
  bool flush() { return ::fsync(file_.get()) == 0; }
  bool rename_to(const std::string& name) {
    renamed_ = ::renameat(folder_, name_.c_str(), folder_, name.c_str()) == 0;
    return renamed_;
  }

 private:
  int create(mode_t mode) {
    // A name may be taken: by another thread, or by what a process with the same number left when it was killed.
    for (int attempt = 0; attempt < 1000; ++attempt) {
      name_ = fmt::format("{}{}-{}{}", temporary_prefix, ::getpid(), attempt, temporary_suffix);
      const int file = ::openat(folder_, name_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
      if (file < 0 && errno != EEXIST) return file;
      if (file < 0) continue;
      ::flock(file, LOCK_EX);  // where locks are not supported, nobody gets one to remove it either
      created_ = is_named(file, folder_, name_);
      if (created_) return file;
      ::close(file);  // removed before it was locked
    }
    return -1;
  }

  int folder_;
  std::string name_;
  bool created_ = false;
  bool renamed_ = false;
  Descriptor file_;
};

[[noreturn]] void fail_write(const fs::path& path, int error) {
  fail("cannot write {}: {}; {} (what was there before is unchanged)", detail::in_quotes(path.native()), reason(error),
       advice(error));
}

}  // namespace

void write_file_atomically(const fs::path& path, std::span<const std::span<const std::byte>> parts) {
  fs::path target = path;
  struct stat before {};
  const bool exists = ::stat(path.c_str(), &before) == 0;
  if (!exists && errno != ENOENT) fail_write(path, errno);
  // A rename would put a file in the place of a device or a pipe.
  if (exists && !S_ISREG(before.st_mode))
    fail("cannot write {}: it is {}; choose the name of a file", detail::in_quotes(path.native()),
         S_ISDIR(before.st_mode) ? "a folder" : "not a regular file");
  // The end of a chain of links, which need not exist (so `fs::canonical` would not do).
  std::error_code error;
  constexpr int most_links = 40;  // as in Linux
  for (int i = 0; i < most_links && fs::is_symlink(fs::symlink_status(target, error)); ++i) {
    target = target.parent_path() / fs::read_symlink(target, error);
    if (error) fail_write(path, error.value());
  }
  if (target.filename().empty()) fail("cannot write {}: it does not name a file", detail::in_quotes(path.native()));

  const fs::path parent = target.has_parent_path() ? target.parent_path() : fs::path(".");
  const Descriptor folder(::open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (folder.get() < 0) fail_write(path, errno);
  const mode_t mode = exists ? before.st_mode & 0777 : 0666;
  remove_abandoned(parent, folder.get());
  {
    TemporaryFile file(folder.get(), mode);
    if (!file.created()) fail_write(path, errno);
    for (std::span<const std::byte> part : parts)
      if (!file.write(part)) fail_write(path, errno);
    if (!file.flush() || !file.rename_to(target.filename().native())) fail_write(path, errno);
  }
  // EINVAL: a file system that does not flush folders.
  if (::fsync(folder.get()) != 0 && errno != EINVAL)
    fail("{} was written, but its folder could not be flushed: {}; check the disk, for the file may be lost in a crash",
         detail::in_quotes(path.native()), reason(errno));
}

void write_file_atomically(const fs::path& path, std::string_view text) {
  const std::array parts = {std::as_bytes(std::span(text))};
  write_file_atomically(path, parts);
}

namespace detail {

std::string in_quotes(std::string_view text, std::size_t longest) {
  std::string out = "\"";
  std::size_t length = text.size();
  if (length > longest) {
    length = longest;
    while (length > 0 && (static_cast<unsigned char>(text[length]) & 0xC0) == 0x80) --length;  // inside a character
  }
  for (char c : text.substr(0, length)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7F)
      fmt::format_to(std::back_inserter(out), "\\x{:02x}", byte);
    else
      out += c;
  }
  return out + (length < text.size() ? "...\"" : "\"");
}

InputFile::InputFile(const fs::path& path, std::string_view function)
    : what_(fmt::format("{}: {}", function, in_quotes(path.native()))),
      // Without O_NONBLOCK, opening a named pipe would wait for somebody to write to it.
      descriptor_(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {
  struct stat status {};
  if (descriptor_ < 0 || ::fstat(descriptor_, &status) != 0) {
    const int error = errno;
    if (descriptor_ >= 0) ::close(descriptor_);
    fail("{} cannot be opened: {}; check the path and its permissions", what_, reason(error));
  }
  if (!S_ISREG(status.st_mode)) {
    ::close(descriptor_);
    fail("{} is {}; give the path of a file", what_, S_ISDIR(status.st_mode) ? "a folder" : "not a regular file");
  }
  size_ = static_cast<std::uint64_t>(status.st_size);
}

InputFile::~InputFile() { ::close(descriptor_); }

void InputFile::read(std::span<std::byte> to, std::uint64_t offset) const {
  while (!to.empty()) {
    constexpr std::size_t largest = std::size_t{1} << 30;
    const ssize_t count = ::pread(descriptor_, to.data(), std::min(to.size(), largest), static_cast<::off_t>(offset));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail("{} cannot be read: {}; check the disk", what_, reason(errno));
    if (count == 0) fail("{} became shorter while it was read; try again when nobody writes to it", what_);
    to = to.subspan(static_cast<std::size_t>(count));
    offset += static_cast<std::uint64_t>(count);
  }
}

}  // namespace detail
}  // namespace unroll
