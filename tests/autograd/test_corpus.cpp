// Every file in tests/fuzz/corpus/ is read or refused, as its name says, in memory in proportion to its size.

#include <autograd/safetensors.h>

#include <doctest/doctest.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <vector>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(__GLIBC__)
#define UNROLL_COUNTS_ALLOCATIONS 0  // the sanitizers replace malloc themselves
#elif defined(__has_feature)
#define UNROLL_COUNTS_ALLOCATIONS !(__has_feature(address_sanitizer) || __has_feature(thread_sanitizer))
#else
#define UNROLL_COUNTS_ALLOCATIONS 1
#endif

namespace {

std::atomic<bool> counting{false};
std::atomic<std::size_t> allocated{0};  ///< bytes in all, also those that were freed since

[[maybe_unused]] void count(std::size_t bytes) {
  if (counting) allocated += bytes;
}

}  // namespace

#if UNROLL_COUNTS_ALLOCATIONS
// operator new calls malloc, and tensors take their memory by aligned_alloc.
extern "C" {
void* __libc_malloc(std::size_t);
void* __libc_memalign(std::size_t, std::size_t);
void* malloc(std::size_t size) {
  count(size);
  return __libc_malloc(size);
}
void* aligned_alloc(std::size_t alignment, std::size_t size) {
  count(size);
  return __libc_memalign(alignment, size);
}
}
#endif

using namespace unroll;

namespace {

namespace fs = std::filesystem;

/// What the error for a file must say; for a good file, nothing.
const std::map<std::string, std::vector<std::string>> expected = {
    {"length_missing", {"it has 0 bytes"}},
    {"length_cut", {"it has 7 bytes"}},
    {"length_zero", {"does not begin with '{'"}},
    {"length_beyond_file", {"a header of 3 bytes is longer than the file, which has 10"}},
    {"length_largest", {"a header of 18446744073709551615 bytes is longer"}},
    {"length_wraps", {"is longer than the file"}},
    {"length_negative", {"is longer than the file"}},
    {"json_space_first", {"does not begin with '{'"}},
    {"json_byte_order_mark", {"does not begin with '{'"}},
    {"json_array", {"does not begin with '{'"}},
    {"json_cut", {"not valid JSON at its byte"}},
    {"json_text_after", {"not valid JSON at its byte 4"}},
    {"json_control_character", {"not valid JSON"}},
    {"json_zero_byte", {"not valid JSON at its byte 3"}},
    {"json_zero_byte_inside", {"not valid JSON at its byte 3"}},
    {"json_not_utf8", {"not valid JSON"}},
    {"json_single_quotes", {"not valid JSON"}},
    {"json_comment", {"not valid JSON"}},
    {"json_trailing_comma", {"not valid JSON"}},
    {"json_number_infinite", {"not valid JSON"}},
    {"json_number_huge_exponent", {"not valid JSON"}},
    {"json_not_a_number", {"not valid JSON"}},
    {"entry_number", {"tensor \"a\"", "is a number and not an object"}},
    {"entry_null", {"tensor \"a\"", "is null and not an object"}},
    {"entry_array", {"tensor \"a\"", "is an array and not an object"}},
    {"entry_array_deep", {"tensor \"a\"", "is an array and not an object"}},
    {"entry_object_deep", {"tensor \"a\"", "unknown field \"a\""}},
    {"shape_array_deep", {"tensor \"a\"", "shape holds an array"}},
    {"shape_object", {"shape is an object"}},
    {"shape_string", {"shape is a string"}},
    {"shape_number", {"shape is a number"}},
    {"shape_of_strings", {"shape holds a string"}},
    {"shape_of_booleans", {"shape holds a boolean"}},
    {"shape_of_objects", {"shape holds an object"}},
    {"shape_of_nulls", {"shape holds null"}},
    {"dtype_number", {"dtype is a number"}},
    {"dtype_array", {"dtype is an array"}},
    {"offsets_null", {"data_offsets is null"}},
    {"fields_missing", {"tensor \"a\"", "dtype is missing"}},
    {"dtype_missing", {"dtype is missing"}},
    {"shape_missing", {"shape is missing"}},
    {"offsets_missing", {"data_offsets is missing"}},
    {"dtype_twice", {"dtype occurs twice"}},
    {"shape_twice", {"shape occurs twice"}},
    {"offsets_twice", {"data_offsets occurs twice"}},
    {"field_unknown", {"unknown field \"extra\""}},
    {"name_twice", {"tensor \"a\"", "the name occurs twice"}},
    {"name_twice_escaped", {"tensor \"a\"", "the name occurs twice"}},
    {"name_of_two_lines", {"tensor \"a\\x0ab\\x00\""}},
    {"dtype_unknown", {"tensor \"a\"", "dtype \"F8_E4M3\" is not supported", "F32, F64, F16, BF16"}},
    {"dtype_lower_case", {"dtype \"f32\" is not supported"}},
    {"dtype_empty", {"dtype \"\" is not supported"}},
    {"shape_negative", {"shape holds -2", "negative"}},
    {"shape_fraction", {"shape holds \"2.0\"", "whole numbers"}},
    {"shape_above_64_bits", {"at most 64 bits"}},
    {"shape_of_64_bits", {"63 bits"}},
    {"shape_bytes_wrap", {"63 bits"}},
    {"shape_product_wraps_to_0", {"shape [4294967296, 4294967296]", "63 bits"}},
    {"shape_product_wraps_to_0_later", {"63 bits"}},
    {"shape_product_wraps_to_8", {"63 bits"}},
    {"shape_huge", {"makes 9223372036854775807"}},
    {"shape_huge_beside_0", {"63 bits"}},
    {"shape_rank", {"more than 6 sizes"}},
    {"offsets_none", {"data_offsets holds 0 numbers"}},
    {"offsets_one", {"data_offsets holds 1 numbers"}},
    {"offsets_three", {"data_offsets holds more than two"}},
    {"offsets_negative", {"data_offsets holds -8"}},
    {"offsets_fraction", {"data_offsets holds \"8.5\""}},
    {"offsets_backwards", {"end before they begin"}},
    {"offsets_backwards_wrap", {"end before they begin"}},
    {"offsets_huge", {"end after the file's 8 bytes"}},
    {"offsets_beyond_file", {"tensor \"a\"", "end after the file's 8 bytes"}},
    {"offsets_beyond_file_shifted", {"end after the file's 8 bytes"}},
    {"offsets_beyond_cut_file", {"end after the file's 7 bytes"}},
    {"offsets_fewer_than_shape", {"shape [2] of F32 makes 8 bytes", "data_offsets [0, 4] hold 4"}},
    {"offsets_for_no_elements", {"makes 0 bytes"}},
    {"gap_first", {"gap of 4 bytes"}},
    {"gap_last", {"4 bytes after the last tensor"}},
    {"gap_all", {"8 bytes after the last tensor"}},
    {"gap_between", {"tensor \"b\"", "gap of 4 bytes"}},
    {"overlap_whole", {"tensor \"b\"", "overlap"}},
    {"overlap_part", {"tensor \"b\"", "overlap"}},
    {"overlap_nothing", {"tensor \"b\"", "overlap"}},
    {"metadata_array", {"__metadata__ is an array and not an object"}},
    {"metadata_string", {"__metadata__ is a string and not an object"}},
    {"metadata_of_number", {"__metadata__ holds a number"}},
    {"metadata_of_negative", {"__metadata__ holds a number"}},
    {"metadata_of_fraction", {"__metadata__ holds a number"}},
    {"metadata_of_null", {"__metadata__ holds null"}},
    {"metadata_of_object", {"__metadata__ holds an object"}},
    {"metadata_of_array", {"__metadata__ holds an array"}},
    {"metadata_key_twice", {"__metadata__ has the key \"a\" twice"}},
    {"metadata_twice", {"__metadata__ occurs twice"}},
};

}  // namespace

TEST_CASE("safetensors: a malformed file is refused with its fault, in one line and little memory") {
  std::size_t refused = 0;
  for (const auto& entry : fs::directory_iterator(UNROLL_SOURCE_DIR "/tests/fuzz/corpus")) {
    const std::string name = entry.path().filename().string();
    CAPTURE(name);
    std::ifstream in(entry.path(), std::ios::binary);
    // Of just the file's size, so that a sanitizer sees a read past its end.
    const std::vector<char> bytes{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
    std::string message;
    allocated = 0;
    counting = true;
    try {
      parse_safetensors(std::as_bytes(std::span(bytes)), "weights");
    } catch (const Error& error) {
      message = error.what();
    }
    counting = false;
    CHECK(allocated <= 8 * bytes.size() + 8192);  // the header's text, what it says, and the message
    if (name.starts_with("good_")) {
      CHECK(message == "");
      continue;
    }
    ++refused;
    CHECK(message.starts_with("read_safetensors: \"weights\""));
    CHECK(message.find('\n') == message.npos);
    CHECK(message.size() < 500);
    REQUIRE(expected.contains(name));
    for (const std::string& part : expected.at(name)) CHECK_MESSAGE(message.find(part) != message.npos, message);
  }
  CHECK(refused == expected.size());
}

#if UNROLL_COUNTS_ALLOCATIONS
TEST_CASE("the bytes are counted") {
  allocated = 0;
  counting = true;
  const Tensor tensor({1000});
  const std::vector<double> values(100);
  counting = false;
  CHECK(tensor.size() + static_cast<Index>(values.size()) == 1100);
  CHECK(allocated >= 4800);
}
#endif
