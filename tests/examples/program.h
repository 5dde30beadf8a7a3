#pragma once

// Runs a program as a user would, and looks at what it says and leaves behind.

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace unroll::tests {

namespace fs = std::filesystem;

/// A folder that exists as long as the object.
class Folder {
 public:
  Folder() {
    std::string name = (fs::temp_directory_path() / "unroll-test-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("no temporary folder");
    path_ = name;
  }
  ~Folder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  const fs::path& path() const { return path_; }
  std::string operator/(const std::string& name) const { return (path_ / name).string(); }
  std::string write(const std::string& name, const std::string& content) const {
    fs::create_directories((path_ / name).parent_path());
    std::ofstream(path_ / name, std::ios::binary) << content;
    return *this / name;
  }

 private:
  fs::path path_;
};

inline std::string content_of(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

struct Outcome {
  int code;  ///< the exit code, or minus the signal that ended it
  std::string out, err;
  std::string program;  ///< its name

  /// The last line of standard output.
  std::string last_line() const {
    const std::size_t end = out.size() < 2 ? out.npos : out.rfind('\n', out.size() - 2);
    return out.substr(end == out.npos ? 0 : end + 1);
  }
};

/// A started program.
class Program {
 public:
  /// `prepare` runs in the new process, before the program does.
  Program(
      const std::string& file, const std::vector<std::string>& arguments, const std::function<void()>& prepare = [] {})
      : name_(fs::path(file).filename()) {
    std::vector<char*> argv = {const_cast<char*>(file.c_str())};
    for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
    argv.push_back(nullptr);
    const std::string out = folder_ / "out", err = folder_ / "err";
    pid_ = fork();
    if (pid_ < 0) throw std::runtime_error("fork failed");
    if (pid_ == 0) {
      dup2(open(out.c_str(), O_WRONLY | O_CREAT, 0600), STDOUT_FILENO);
      dup2(open(err.c_str(), O_WRONLY | O_CREAT, 0600), STDERR_FILENO);
      prepare();
      execv(file.c_str(), argv.data());
      _exit(127);
    }
  }
  ~Program() {
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      waitpid(pid_, nullptr, 0);
    }
  }
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  void signal(int number) const { ::kill(pid_, number); }
  Outcome wait() {
    int status = 0;
    waitpid(pid_, &status, 0);
    pid_ = -1;
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status), content_of(folder_ / "out"),
            content_of(folder_ / "err"), name_};
  }

 private:
  std::string name_;
  Folder folder_;
  pid_t pid_;
};

/// Bad input ends a program with an error and one clear line, in which `because` occurs.
inline void check_refused(const Outcome& outcome, const std::string& because) {
  CHECK(outcome.code > 0);
  CHECK(outcome.out == "");
  CHECK(outcome.err.starts_with(outcome.program + ": "));
  CHECK(std::ranges::count(outcome.err, '\n') == 1);
  CHECK(outcome.err.ends_with('\n'));
  CHECK_MESSAGE(outcome.err.find(because) != std::string::npos, outcome.err);
}

/// Waits until `condition` holds, for at most a minute.
inline bool wait_until(const std::function<bool()>& condition) {
  for (int i = 0; i < 6000; ++i) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return false;
}

}  // namespace unroll::tests
