#pragma once

#include <autograd/tensor.h>

#include <cstddef>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>

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

/// Reads a file in the safetensors format: 8 bytes, the length of the header, little-endian; the header,
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
/// Throws Error, in one line with the file's name, the tensor's name and what to do, when the file cannot
/// be read or fails a check.
/// Source: the format's description in the repository huggingface/safetensors, README, "Format".
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
