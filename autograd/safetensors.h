#pragma once

#include <autograd/file.h>
#include <autograd/tensor.h>

#include <cstddef>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace unroll {

/// The content of a safetensors file: tensors by name, and text that goes with them.
struct TensorFile {
  std::map<std::string, Tensor> tensors;
  std::map<std::string, std::string> metadata;
};

/// A tensor to write, whose elements stay where they are.
struct NamedTensor {
  std::string_view name;
  TensorView tensor;
};

namespace detail {

struct Encoding;

/// What the header of a file says, checked.
struct SafetensorsHeader {
  struct Entry {
    const Encoding* encoding = nullptr;
    Shape shape;
    std::uint64_t begin = 0, end = 0;  ///< in the data, in bytes
  };
  std::map<std::string, Entry, std::less<>> tensors;
  std::map<std::string, std::string> metadata;
  std::uint64_t data = 0;  ///< where the data begin in the file
};

}  // namespace detail

/// An open file in the safetensors format, of which tensors are read one by one: opening it reads the header alone, and
/// `tensor` the elements of that tensor alone.
///
/// The format: 8 bytes, the length of the header, little-endian; the header,
/// a JSON object that gives each tensor's type, shape and place; the elements.
///
/// | in the file                              | becomes                                         |
/// | ---------------------------------------- | ----------------------------------------------- |
/// | F32, F64                                 | float32, float64, the same bits                 |
/// | F16, BF16                                | float32, exactly                                |
/// | BOOL, I8, U8, I16, U16, I32, U32         | float64, exactly                                |
/// | I64, U64                                 | float64, rounded to even above 2^53             |
///
/// The file is not trusted. Before any element is read, the header is checked: it lies within the file and
/// has at most 100 MB; it is one JSON object, nested no deeper than the format needs, in which no name
/// occurs twice; every tensor has exactly a known type, a shape of at most `max_rank` sizes whose product
/// fits, and a range of as many bytes as that makes; and the ranges cover the data from its first byte
/// to its last without a gap or an overlap. Memory is in proportion to the file: at most 8 bytes for
/// each of its data.
///
/// The file is read and not mapped into memory, because a mapped file that another program cuts off ends the process
/// (SIGBUS), where a read throws. One that is replaced as a whole, as `write_safetensors` does, stays what it was for
/// who has it open.
///
/// Throws Error, in one line with the file's name, the tensor's name and what to do, when the file cannot
/// be read or fails a check.
/// Source: the format's description in the repository huggingface/safetensors, README, "Format".
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::filesystem::path& path);

  /// The tensors' names, sorted.
  std::vector<std::string> names() const;
  bool contains(std::string_view name) const { return header_.tensors.contains(name); }
  const std::map<std::string, std::string>& metadata() const { return header_.metadata; }
  /// The shape of a tensor, without reading it. Throws Error, listing the names, when there is none.
  const Shape& shape(std::string_view name) const { return entry(name).shape; }
  /// Reads a tensor. Throws Error like `shape`, and when the file has become shorter since.
  Tensor tensor(std::string_view name) const;

 private:
  const detail::SafetensorsHeader::Entry& entry(std::string_view name) const;

  std::string name_;
  detail::InputFile file_;
  detail::SafetensorsHeader header_;
};

/// Reads all of a SafetensorsFile. Throws Error like it.
TensorFile read_safetensors(const std::filesystem::path& path);
/// Reads the same from memory. `name` stands for the file in messages.
TensorFile parse_safetensors(std::span<const std::byte> bytes, std::string_view name);

/// Writes a safetensors file, all or nothing (see `write_file_atomically`): float64 tensors first and
/// then float32, so that each is aligned, and by name within a type. The same content gives the same bytes.
/// Throws Error when a name occurs twice, is "__metadata__" or is not UTF-8, when metadata are not UTF-8,
/// when the header would be larger than `read_safetensors` accepts, or when the file cannot be written.
void write_safetensors(const std::filesystem::path& path, const TensorFile& content);
/// The same from tensors that are elsewhere: nothing is copied but views that are not contiguous.
void write_safetensors(const std::filesystem::path& path, std::span<const NamedTensor> tensors,
                       const std::map<std::string, std::string>& metadata = {});

}  // namespace unroll
