#include <optim/checkpoint.h>

#include <autograd/file.h>
#include <optim/checksum.h>

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <charconv>

namespace unroll {

namespace fs = std::filesystem;

namespace {

/// The part of a file that is the checkpoint's own.
constexpr const char* own = "checkpoint";
constexpr const char* checksum_key = "checkpoint.checksum";

/// The texts whose names begin with `prefix`, without it.
std::map<std::string, std::string> with_prefix(const std::map<std::string, std::string>& all,
                                               const std::string& prefix) {
  std::map<std::string, std::string> found;
  for (auto at = all.lower_bound(prefix); at != all.end() && at->first.starts_with(prefix); ++at)
    found.emplace(at->first.substr(prefix.size()), at->second);
  return found;
}

std::string quoted(const fs::path& path) { return detail::in_quotes(path.native()); }

/// The text under a name. Throws Error when there is none.
const std::string& text_of(const std::map<std::string, std::string>& texts, const std::string& name) {
  const auto found = texts.find(name);
  if (found == texts.end()) fail("{} is missing", name.empty() ? "the value" : name);
  return found->second;
}

/// A number that is all of a text. Throws Error when it is not.
template <class T>
T number_from(std::string_view text) {
  T number{};
  const char* end = text.data() + text.size();
  const auto [at, error] = std::from_chars(text.data(), end, number);
  if (error != std::errc() || at != end) fail("{} is not a number that fits", detail::in_quotes(text, 40));
  return number;
}

/// Of everything in a file, so that no digit of a step count can change unseen either.
std::string checksum_of(const TensorFile& file) {
  std::uint64_t hash = 0;
  auto add = [&](std::span<const std::byte> bytes) { hash = detail::xxh64(bytes, hash); };
  auto add_text = [&](std::string_view text) { add(std::as_bytes(std::span(text))); };
  for (const auto& [key, value] : file.metadata) {
    add_text(key);
    add_text(value);
  }
  for (const auto& [name, tensor] : file.tensors) {
    add_text(name);
    add_text(fmt::format("{} {}", tensor.dtype(), tensor.shape()));
    add({static_cast<const std::byte*>(tensor.raw()),
         static_cast<std::size_t>(tensor.size()) * size_of(tensor.dtype())});
  }
  return fmt::format("{:016x}", hash);
}

/// A file that is as it was written. Throws Error when it is not.
TensorFile read_whole(const fs::path& path) {
  TensorFile file = read_safetensors(path);
  const auto checksum = file.metadata.extract(checksum_key);
  if (checksum.empty()) fail("{} is not a checkpoint", quoted(path));
  if (checksum.mapped() != checksum_of(file)) fail("{} is damaged: its checksum is wrong", quoted(path));
  return file;
}

/// The entries "PART.NAME" of a file, by part and by name.
std::map<std::string, TensorFile> split(TensorFile file) {
  std::map<std::string, TensorFile> parts;
  auto distribute = [&](auto& entries, auto member) {
    for (auto& [key, value] : entries) {
      const std::size_t dot = std::min(key.find('.'), key.size());
      (parts[key.substr(0, dot)].*member).emplace(key.substr(std::min(dot + 1, key.size())), std::move(value));
    }
  };
  distribute(file.tensors, &TensorFile::tensors);
  distribute(file.metadata, &TensorFile::metadata);
  return parts;
}

void move_file(const fs::path& from, const fs::path& to) {
  std::error_code error;
  fs::rename(from, to, error);
  if (error && error != std::errc::no_such_file_or_directory)
    fail("{} cannot be moved to {}: {}; make its place free", quoted(from), quoted(to), error.message());
}

}  // namespace

std::string detail::to_text(const Generator& generator) {
  return fmt::format("{} {} {}", generator.seed(), generator.stream(), generator.position());
}

Generator detail::generator_from(const std::map<std::string, std::string>& texts, const std::string& name) {
  const std::string& text = text_of(texts, name);
  const char *at = text.data(), *end = at + text.size();
  std::array<std::uint64_t, 3> numbers{};
  for (std::uint64_t& number : numbers) {
    const auto [next, error] = std::from_chars(at, end, number);
    if (error != std::errc()) fail("{} holds {}, which is not three numbers", name, in_quotes(text, 80));
    at = next == end ? next : next + 1;
  }
  if (at != end) fail("{} holds {}, which is more than three numbers", name, in_quotes(text, 80));
  return Generator(numbers[0], numbers[1], numbers[2]);
}

Checkpoint::Checkpoint(fs::path path, Options options) : path_(std::move(path)), options_(std::move(options)) {
  if (options_.keep < 1) fail("Checkpoint: keep is {}; it must be at least 1", options_.keep);
}

std::vector<fs::path> Checkpoint::files() const {
  auto beside = [&](std::string_view what) {
    return fs::path(path_).replace_filename(
        fmt::format("{}.{}{}", path_.stem().native(), what, path_.extension().native()));
  };
  std::vector<fs::path> files{beside("next"), path_};
  for (Index i = 1; i < options_.keep; ++i) files.push_back(beside(fmt::to_string(i)));
  return files;
}

bool Checkpoint::exists() const {
  std::error_code error;
  return std::ranges::any_of(files(), [&](const fs::path& file) { return fs::exists(file, error); });
}

void Checkpoint::add_part(Part part) {
  if (part.name.empty() || part.name == own || part.name.find('.') != std::string::npos)
    fail("Checkpoint: a part cannot be named \"{}\"; a name is not empty, not \"{}\", and has no dot", part.name, own);
  if (std::ranges::find(parts_, part.name, &Part::name) != parts_.end())
    fail("Checkpoint: two parts are named \"{}\"; give each a name of its own", part.name);
  parts_.push_back(std::move(part));
}

void Checkpoint::add(const std::string& name, std::map<std::string, Tensor>& tensors) {
  add_part({name,
            [&tensors] {
              return TensorFile{tensors, {}};
            },
            [&tensors](const TensorFile& file) { tensors = file.tensors; }});
}

void Checkpoint::add(const std::string& name, Generator& generator) {
  add_part({name,
            [&generator] {
              return TensorFile{{}, {{"", detail::to_text(generator)}}};
            },
            [&generator](const TensorFile& file) { generator = detail::generator_from(file.metadata, ""); }});
}

void Checkpoint::add(const std::string& name, Index& number) {
  add_part({name,
            [&number] {
              return TensorFile{{}, {{"", fmt::to_string(number)}}};
            },
            [&number](const TensorFile& file) { number = number_from<Index>(text_of(file.metadata, "")); }});
}

void Checkpoint::add(const std::string& name, double& number) {
  // fmt writes as many digits as it takes to read the same bits back.
  add_part({name,
            [&number] {
              return TensorFile{{}, {{"", fmt::to_string(number)}}};
            },
            [&number](const TensorFile& file) { number = number_from<double>(text_of(file.metadata, "")); }});
}

void Checkpoint::add(const std::string& name, std::string& text) {
  add_part({name,
            [&text] {
              return TensorFile{{}, {{"", text}}};
            },
            [&text](const TensorFile& file) { text = text_of(file.metadata, ""); }});
}

void Checkpoint::save() const {
  TensorFile file, about;
  auto put = [&file](const std::string& part, TensorFile content) {
    auto key = [&](const std::string& name) { return name.empty() ? part : part + "." + name; };
    for (auto& [name, tensor] : content.tensors) file.tensors.emplace(key(name), std::move(tensor));
    for (auto& [name, text] : content.metadata) file.metadata.emplace(key(name), std::move(text));
  };
  about.metadata["program"] = options_.program;
  for (const auto& [name, value] : settings_) about.metadata["setting." + name] = value;
  for (const Part& part : parts_) {
    about.metadata["part." + part.name] = "";
    put(part.name, part.save());
  }
  put(own, std::move(about));
  file.metadata[checksum_key] = checksum_of(file);

  const std::vector<fs::path> by_age = files();
  write_safetensors(by_age[0], file);
  std::error_code error;
  if (fs::exists(path_, error))
    for (std::size_t i = by_age.size() - 1; i > 1; --i) move_file(by_age[i - 1], by_age[i]);
  move_file(by_age[0], path_);
}

Checkpoint::Content Checkpoint::read() const {
  std::vector<std::string> reasons;
  for (const fs::path& file : files()) {
    std::error_code error;
    if (file != path_ && !fs::exists(file, error)) continue;
    try {
      Content content{{file, ""}, {}, split(read_whole(file))};
      if (!reasons.empty())
        content.source.note = fmt::format("{}; going on from {}", fmt::join(reasons, "; "), quoted(file));
      content.settings = with_prefix(content.parts[own].metadata, "setting.");
      return content;
    } catch (const Error& error) {
      reasons.emplace_back(error.what());
    }
  }
  fail("there is no good checkpoint: {}", fmt::join(reasons, "; "));
}

void Checkpoint::check_fits(const Content& content) const {
  const std::string file = quoted(content.source.file);
  const std::map<std::string, std::string>& about = content.parts.at(own).metadata;
  if (const std::string& program = text_of(about, "program"); program != options_.program)
    fail("{} is a checkpoint of {} and not of {}", file, detail::in_quotes(program, 100), options_.program);
  for (const auto& [name, value] : fixed_)
    if (auto saved = content.settings.find(name); saved == content.settings.end() || saved->second != value)
      fail("cannot go on from {}: the {} is not the same as in that run; start a new one", file, name);
  const std::map<std::string, std::string> saved = with_prefix(about, "part.");
  std::vector<std::string> faults;
  for (const Part& part : parts_)
    if (!saved.contains(part.name)) faults.push_back(fmt::format("{} is missing", part.name));
  for (const auto& [name, nothing] : saved)
    if (std::ranges::find(parts_, name, &Part::name) == parts_.end())
      faults.push_back(fmt::format("{} is unexpected", name));
  if (!faults.empty()) fail("cannot go on from {}: {}; add the parts that were saved", file, fmt::join(faults, "; "));
}

Checkpoint::Source Checkpoint::load() {
  Content content = read();
  check_fits(content);
  std::vector<TensorFile> before;
  for (const Part& part : parts_) before.push_back(part.save());
  std::size_t loaded = 0;
  auto put_back = [&] {
    for (std::size_t i = 0; i < loaded; ++i) parts_[i].load(before[i]);
  };
  try {
    for (; loaded < parts_.size(); ++loaded) parts_[loaded].load(content.parts[parts_[loaded].name]);
  } catch (const Error& error) {
    put_back();
    fail("cannot go on from {}: {}: {}", quoted(content.source.file), parts_[loaded].name, error.what());
  } catch (...) {
    put_back();
    throw;
  }
  return content.source;
}

}  // namespace unroll
