#include <autograd/file.h>
#include <autograd/safetensors.h>

#include <doctest/doctest.h>
#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <bit>
#include <cmath>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

using namespace unroll;

namespace fs = std::filesystem;

namespace {

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

  fs::path operator/(const char* name) const { return path_ / name; }
  const fs::path& path() const { return path_; }
  std::size_t files() const {
    return static_cast<std::size_t>(std::distance(fs::directory_iterator(path_), fs::directory_iterator()));
  }

 private:
  fs::path path_;
};

std::string content_of(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

/// The bytes of a file with the given header and data; `length` replaces the header's true length.
std::string file_of(std::string_view header, std::string_view data = {}, std::uint64_t length = 0) {
  if (length == 0) length = header.size();
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  return bytes + std::string(header) + std::string(data);
}

template <class T>
std::string bytes_of(std::initializer_list<T> values) {
  std::string bytes(values.size() * sizeof(T), '\0');
  if (values.size() > 0) std::memcpy(bytes.data(), std::data(values), bytes.size());
  return bytes;
}

TensorFile parse(std::string_view bytes) { return parse_safetensors(std::as_bytes(std::span(bytes)), "weights"); }

template <class F>
std::string error_of(F&& f) {
  try {
    f();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

bool contains(std::string_view text, std::string_view part) { return text.find(part) != text.npos; }

/// One line, without control characters.
bool one_line(std::string_view text) {
  for (char c : text)
    if (static_cast<unsigned char>(c) < 0x20) return false;
  return !text.empty();
}

bool same(const Tensor& a, const Tensor& b) {
  return a.dtype() == b.dtype() && a.shape() == b.shape() &&
         (a.empty() || std::memcmp(a.raw(), b.raw(), static_cast<std::size_t>(a.size()) * size_of(a.dtype())) == 0);
}

bool same(const TensorFile& a, const TensorFile& b) {
  if (a.metadata != b.metadata || a.tensors.size() != b.tensors.size()) return false;
  for (const auto& [name, tensor] : a.tensors)
    if (!b.tensors.contains(name) || !same(tensor, b.tensors.at(name))) return false;
  return true;
}

TensorFile example() {
  TensorFile file;
  file.tensors.emplace("weight_ih_l0", Tensor({3, 2}, {1, 2, 3, 4, 5, -6.5}));
  file.tensors.emplace("bias", Tensor({3}, {0.1, -0.2, 1e-300}, float64));
  file.tensors.emplace("scalar", Tensor::scalar(7));
  file.tensors.emplace("nothing", Tensor({0, 4}));
  file.tensors.emplace("six", Tensor::full({1, 2, 1, 2, 1, 2}, 3, float64));
  file.tensors.emplace("odd", Tensor({1}, {-0.0}));
  file.tensors.emplace("not finite", Tensor({3}, {INFINITY, -INFINITY, NAN}));
  file.tensors.emplace("naïve \"name\" \\ \n", Tensor({1}, {1.0}));
  file.tensors.emplace("", Tensor({1}, {2.0}));
  file.metadata = {{"format", "pt"}, {"step", "12"}, {"", "line\nline \"quoted\" ü"}};
  return file;
}

}  // namespace

TEST_CASE("safetensors: what is written is read back, bit for bit") {
  Folder folder;
  const TensorFile file = example();
  write_safetensors(folder / "a.safetensors", file);
  CHECK(same(read_safetensors(folder / "a.safetensors"), file));
  CHECK(same(parse(content_of(folder / "a.safetensors")), file));

  write_safetensors(folder / "b.safetensors", file);
  CHECK(content_of(folder / "a.safetensors") == content_of(folder / "b.safetensors"));
  CHECK(folder.files() == 2);

  write_safetensors(folder / "empty", TensorFile{});
  CHECK(same(read_safetensors(folder / "empty"), TensorFile{}));
  CHECK(content_of(folder / "empty") == file_of("{}      "));
}

TEST_CASE("safetensors: the bytes that are written") {
  Folder folder;
  TensorFile file;
  file.tensors.emplace("b", Tensor({2, 1}, {1, 2}));
  file.tensors.emplace("a", Tensor({1}, {3.0}));
  file.tensors.emplace("c", Tensor({1}, {4.0}, float64));
  file.metadata = {{"format", "pt"}};
  write_safetensors(folder / "f", file);
  std::string header = R"({"__metadata__":{"format":"pt"},)"
                       R"("c":{"dtype":"F64","shape":[1],"data_offsets":[0,8]},)"
                       R"("a":{"dtype":"F32","shape":[1],"data_offsets":[8,12]},)"
                       R"("b":{"dtype":"F32","shape":[2,1],"data_offsets":[12,20]}})";
  header.resize((header.size() + 7) / 8 * 8, ' ');
  CHECK(content_of(folder / "f") == file_of(header, bytes_of({4.0}) + bytes_of({3.0f, 1.0f, 2.0f})));
}

TEST_CASE("safetensors: views are written from where they are, also those that are not contiguous") {
  Folder folder;
  const Tensor matrix({2, 3}, {1, 2, 3, 4, 5, 6});
  Layout transposed(Shape{3, 2});
  transposed.strides = {1, 3};
  const NamedTensor tensors[] = {{"t", TensorView(matrix.raw(), float32, transposed)}, {"m", matrix.view()}};
  write_safetensors(folder / "f", tensors);
  const TensorFile read = read_safetensors(folder / "f");
  CHECK(same(read.tensors.at("t"), matrix.transposed()));
  CHECK(same(read.tensors.at("m"), matrix));
}

TEST_CASE("safetensors: every element type") {
  struct Row {
    const char* dtype;
    std::string data;
    DType becomes;
    std::vector<double> values;
  };
  using u16 = std::uint16_t;
  const Row rows[] = {
      {"F32", bytes_of({1.5f, -0.1f}), float32, {1.5, static_cast<double>(-0.1f)}},
      {"F64", bytes_of({1.5, -0.1}), float64, {1.5, -0.1}},
      // 1, -2, the largest, the smallest normal and subnormal, infinity
      {"F16",
       bytes_of<u16>({0x3C00, 0xC000, 0x7BFF, 0x0400, 0x0001, 0x7C00}),
       float32,
       {1, -2, 65504, 0x1p-14, 0x1p-24, INFINITY}},
      {"BF16", bytes_of<u16>({0x3F80, 0xC000, 0x4049, 0xFF80}), float32, {1, -2, 3.140625, -INFINITY}},
      {"BOOL", bytes_of<std::uint8_t>({0, 1}), float64, {0, 1}},
      {"U8", bytes_of<std::uint8_t>({0, 255}), float64, {0, 255}},
      {"I8", bytes_of<std::int8_t>({-128, 127}), float64, {-128, 127}},
      {"U16", bytes_of<u16>({65535, 1}), float64, {65535, 1}},
      {"I16", bytes_of<std::int16_t>({-32768, 1}), float64, {-32768, 1}},
      {"U32", bytes_of<std::uint32_t>({4294967295u, 1}), float64, {4294967295.0, 1}},
      {"I32", bytes_of<std::int32_t>({INT32_MIN, 1}), float64, {-2147483648.0, 1}},
      {"U64", bytes_of<std::uint64_t>({UINT64_MAX, 1}), float64, {0x1p64, 1}},
      {"I64", bytes_of<std::int64_t>({INT64_MIN, (std::int64_t{1} << 53) - 1}), float64, {-0x1p63, 0x1p53 - 1}},
  };
  for (const Row& row : rows) {
    CAPTURE(row.dtype);
    const std::string header = fmt::format(R"({{"x":{{"dtype":"{}","shape":[{}],"data_offsets":[0,{}]}}}})", row.dtype,
                                           row.values.size(), row.data.size());
    const TensorFile file = parse(file_of(header, row.data));
    CHECK(file.tensors.at("x").dtype() == row.becomes);
    CHECK(file.tensors.at("x").to_vector() == row.values);
  }
  const TensorFile nan =
      parse(file_of(R"({"x":{"dtype":"F16","shape":[1],"data_offsets":[0,2]}})", bytes_of<u16>({0x7E00})));
  CHECK(std::isnan(nan.tensors.at("x").item()));
}

TEST_CASE("safetensors: a converted tensor larger than the reader's buffer") {
  std::string data;
  const Index n = 100'001;
  for (Index i = 0; i < n; ++i) data += bytes_of({static_cast<std::int32_t>(i * 7)});
  const std::string header =
      fmt::format(R"({{"x":{{"dtype":"I32","shape":[{}],"data_offsets":[0,{}]}}}})", n, data.size());
  const std::vector<double> values = parse(file_of(header, data)).tensors.at("x").to_vector();
  bool right = true;
  for (std::size_t i = 0; i < values.size(); ++i) right &= values[i] == static_cast<double>(i * 7);
  CHECK(right);
}

TEST_CASE("safetensors: what other writers do is read too") {
  // Fields and tensors in any order, spaces, tensors without elements anywhere, no padding.
  const TensorFile file = parse(file_of(R"({ "b" : { "data_offsets" : [4, 8], "shape" : [], "dtype" : "F32" },
    "e":{"dtype":"F64","shape":[0],"data_offsets":[4,4]},
    "z":{"dtype":"F64","shape":[3,0],"data_offsets":[0,0]}, "__metadata__" : {},
    "a":{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]}}  )",
                                        bytes_of({1.0f, 2.0f})));
  CHECK(file.tensors.size() == 4);
  CHECK(file.tensors.at("a").item() == 1);
  CHECK(file.tensors.at("b").item() == 2);
  CHECK(file.tensors.at("b").shape() == Shape{});
  CHECK(file.tensors.at("z").shape() == Shape{3, 0});
}

// More malformed files: test_corpus.cpp.
TEST_CASE("safetensors: the header has a limit") {
  // On a file that is long enough; its 100 MB are never written.
  Folder folder;
  write_file_atomically(folder / "long", file_of("{", "", 100'000'001));
  fs::resize_file(folder / "long", 100'000'100);
  const std::string message = error_of([&] { read_safetensors(folder / "long"); });
  CHECK(contains(message, "a header of 100000001 bytes is larger than the limit of 100000000"));
}

TEST_CASE("safetensors: one tensor is read without the others") {
  Folder folder;
  const fs::path path = folder / "f";
  const TensorFile content = example();
  write_safetensors(path, content);
  const SafetensorsFile file(path);
  std::vector<std::string> names;
  for (const auto& [name, tensor] : content.tensors) {
    names.push_back(name);
    CHECK(same(file.tensor(name), tensor));
    CHECK(file.shape(name) == tensor.shape());
    CHECK(file.contains(name));
  }
  CHECK(file.names() == names);
  CHECK(file.metadata() == content.metadata);
  CHECK_FALSE(file.contains("other"));
  const std::string message = error_of([&] { file.tensor("o\n"); });
  CHECK(contains(message, "has no tensor \"o\\x0a\"; it has "));
  CHECK(contains(message, "weight_ih_l0"));
  CHECK(one_line(message));

  // Replaced as a whole, it is what it was for who has it open.
  write_safetensors(path, TensorFile{});
  CHECK(same(file.tensor("bias"), content.tensors.at("bias")));

  // Cut off by somebody else, it can still be read as far as it goes, and ends nothing.
  write_safetensors(path, content);
  const SafetensorsFile cut(path);
  fs::resize_file(path, fs::file_size(path) - 1);
  CHECK(same(cut.tensor("bias"), content.tensors.at("bias")));
  CHECK(contains(error_of([&] { cut.tensor("weight_ih_l0"); }), "became shorter"));
}

TEST_CASE("safetensors: of a file larger than the memory, a tensor is read at once") {
  Folder folder;
  constexpr std::uint64_t large = std::uint64_t{1} << 38;
  const std::string header = fmt::format(R"({{"last":{{"dtype":"F32","shape":[2],"data_offsets":[{0},{1}]}},)"
                                         R"("large":{{"dtype":"U8","shape":[{0}],"data_offsets":[0,{0}]}}}})",
                                         large, large + 8);
  write_file_atomically(folder / "f", file_of(header));
  fs::resize_file(folder / "f", 8 + header.size() + large + 8);  // all zeros, and none on the disk
  CHECK(SafetensorsFile(folder / "f").tensor("last").to_vector() == std::vector<double>{0, 0});
}

TEST_CASE("safetensors: a cut or damaged file is read or refused, never believed blindly") {
  Folder folder;
  TensorFile file;
  file.tensors.emplace("a", Tensor({2, 3}, {1, 2, 3, 4, 5, 6}));
  file.tensors.emplace("b", Tensor({1}, {1.0}, float64));
  file.metadata = {{"k", "v"}};
  write_safetensors(folder / "f", file);
  const std::string good = content_of(folder / "f");
  const std::size_t data = good.size() - 32;

  for (std::size_t length = 0; length < good.size(); ++length) {
    // A copy of just that size, so that a sanitizer sees a read past its end.
    const std::vector<char> cut(good.begin(), good.begin() + static_cast<std::ptrdiff_t>(length));
    CHECK(error_of([&] { parse({cut.data(), cut.size()}); }) != "no error");
  }
  CHECK(error_of([&] { parse(good + "x"); }) != "no error");

  // Every byte of the header replaced by every value: an Error of one line, or a file of the same size.
  for (std::size_t at = 0; at < data; ++at) {
    bool fine = true;
    for (int value = 0; value < 256; ++value) {
      std::string bad = good;
      bad[at] = static_cast<char>(value);
      try {
        std::size_t elements = 0;
        for (const auto& [name, tensor] : parse(bad).tensors) elements += static_cast<std::size_t>(tensor.size());
        fine &= elements <= 32;
      } catch (const Error& error) {
        fine &= one_line(error.what()) && contains(error.what(), "\"weights\"");
      }
    }
    CAPTURE(at);
    CHECK(fine);
  }
}

TEST_CASE("safetensors: a file that cannot be read is named with the system's reason") {
  Folder folder;
  auto read = [&](const fs::path& path) {
    const std::string message = error_of([&] { read_safetensors(path); });
    CHECK(contains(message, "read_safetensors: \"" + folder.path().string()));
    CHECK(one_line(message));
    return message;
  };
  CHECK(contains(read(folder / "missing.safetensors"), "No such file or directory"));
  fs::create_directory(folder / "sub");
  CHECK(contains(read(folder / "sub"), "is a folder"));
  write_file_atomically(folder / "file", "text");
  CHECK(contains(read(folder / "file" / "below"), "Not a directory"));
  REQUIRE(mkfifo((folder / "pipe").c_str(), 0600) == 0);
  CHECK(contains(read(folder / "pipe"), "not a regular file"));
  fs::create_symlink("loop", folder / "loop");
  CHECK(contains(read(folder / "loop"), "cannot be opened"));
  CHECK(contains(read(folder / "a\nb"), "/a\\x0ab\""));
}

TEST_CASE("safetensors: what the format cannot hold is refused before anything is written") {
  Folder folder;
  const fs::path path = folder / "f";
  const Tensor t({1}, {1.0});
  const NamedTensor twice[] = {{"a", t.view()}, {"b", t.view()}, {"a", t.view()}};
  CHECK(contains(error_of([&] { write_safetensors(path, twice); }), "two tensors have the name \"a\""));
  const NamedTensor reserved[] = {{"__metadata__", t.view()}};
  CHECK(contains(error_of([&] { write_safetensors(path, reserved); }), "not a tensor's name"));
  const NamedTensor binary[] = {{"\xff", t.view()}};
  CHECK(contains(error_of([&] { write_safetensors(path, binary); }), "not UTF-8"));
  CHECK(contains(error_of([&] { write_safetensors(path, {}, {{"k", "\xff"}}); }), "not UTF-8"));
  CHECK(folder.files() == 0);
}

TEST_CASE("file: a write replaces the content, and nothing else") {
  Folder folder;
  const fs::path path = folder / "f";
  write_file_atomically(path, "first");
  CHECK(content_of(path) == "first");
  write_file_atomically(path, "2nd");
  CHECK(content_of(path) == "2nd");
  write_file_atomically(path, "");
  CHECK(fs::file_size(path) == 0);
  const std::string a = "one, ", b = "two";
  const std::span<const std::byte> parts[] = {std::as_bytes(std::span(a)), {}, std::as_bytes(std::span(b))};
  write_file_atomically(path, parts);
  CHECK(content_of(path) == "one, two");
  CHECK(folder.files() == 1);

  // Somebody who has the old file open goes on reading the old content.
  std::ifstream open(path);
  write_file_atomically(path, "new");
  std::string old(8, ' ');
  open.read(old.data(), 8);
  CHECK(old == "one, two");

  fs::permissions(path, fs::perms::owner_read | fs::perms::owner_write);
  write_file_atomically(path, "secret");
  CHECK(fs::status(path).permissions() == (fs::perms::owner_read | fs::perms::owner_write));

  // Through a symbolic link, also to a file that does not exist yet.
  fs::create_directory(folder / "sub");
  fs::create_symlink("sub/there", folder / "link");
  write_file_atomically(folder / "link", "1");
  CHECK(content_of(folder / "sub" / "there") == "1");
  write_file_atomically(folder / "link", "2");
  CHECK(content_of(folder / "sub" / "there") == "2");
  CHECK(fs::is_symlink(folder / "link"));
  fs::create_symlink(folder / "link", folder / "sub" / "chain");
  write_file_atomically(folder / "sub" / "chain", "through");
  CHECK(fs::is_symlink(folder / "sub" / "chain"));
  CHECK(fs::is_symlink(folder / "link"));
  CHECK(content_of(folder / "sub" / "there") == "through");
  CHECK(folder.files() == 3);

  // A name as long as the file system allows, and one without a folder.
  const std::string longest(255, 'n');
  write_file_atomically(folder / longest.c_str(), "x");
  CHECK(content_of(folder / longest.c_str()) == "x");
  const fs::path before = fs::current_path();
  fs::current_path(folder.path());
  write_file_atomically("plain", "x");
  fs::current_path(before);
  CHECK(content_of(folder / "plain") == "x");
}

TEST_CASE("file: a write that cannot begin says why and leaves nothing behind") {
  Folder folder;
  auto write = [&](const fs::path& path) {
    const std::string message = error_of([&] { write_file_atomically(path, "new"); });
    CHECK(message.starts_with("cannot write "));
    CHECK(one_line(message));
    return message;
  };
  write_file_atomically(folder / "file", "old");
  CHECK(contains(write(folder / "missing" / "f"), "No such file or directory"));
  CHECK(contains(write(folder / "file" / "f"), "Not a directory"));
  fs::create_directory(folder / "sub");
  CHECK(contains(write(folder / "sub"), "it is a folder"));
  CHECK(contains(write((folder / "new").string() + "/"), "does not name a file"));
  CHECK(contains(write(""), "does not name a file"));
  CHECK(contains(write(folder / std::string(256, 'n').c_str()), "File name too long"));
  // A device or a pipe must not be replaced by a file.
  REQUIRE(mkfifo((folder / "pipe").c_str(), 0600) == 0);
  CHECK(contains(write(folder / "pipe"), "not a regular file"));
  CHECK(fs::is_fifo(folder / "pipe"));
  CHECK(content_of(folder / "file") == "old");
  CHECK(folder.files() == 3);
  CHECK(fs::is_empty(folder / "sub"));
}

TEST_CASE("safetensors: a write cut off half-way leaves the previous file whole and no temporary") {
  Folder folder;
  const fs::path path = folder / "model.safetensors";
  const TensorFile first = example();
  write_safetensors(path, first);
  TensorFile second;
  second.tensors.emplace("large", Tensor({100'000}));

  // No file may grow beyond 64 KiB: the write of 400 kB is cut off, as by a full disk.
  rlimit before{};
  REQUIRE(getrlimit(RLIMIT_FSIZE, &before) == 0);
  rlimit limit = before;
  limit.rlim_cur = 65536;
  auto* previous = std::signal(SIGXFSZ, SIG_IGN);
  REQUIRE(setrlimit(RLIMIT_FSIZE, &limit) == 0);
  const std::string message = error_of([&] { write_safetensors(path, second); });
  setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, previous);

  CHECK(message.starts_with("cannot write "));
  CHECK(contains(message, "model.safetensors"));
  CHECK(contains(message, "File too large"));
  CHECK(contains(message, "unchanged"));
  CHECK(one_line(message));
  CHECK(same(read_safetensors(path), first));
  CHECK(folder.files() == 1);

  write_safetensors(path, second);
  CHECK(same(read_safetensors(path), second));
}
