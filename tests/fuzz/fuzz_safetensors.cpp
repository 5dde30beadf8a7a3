// libFuzzer's entry: whatever the bytes, they are read or refused with an Error of one line.

#include <autograd/safetensors.h>

#include <cstdlib>
#include <cstring>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    unroll::parse_safetensors(std::as_bytes(std::span(data, size)), "fuzz");
  } catch (const unroll::Error& error) {
    if (std::strchr(error.what(), '\n') != nullptr || std::strlen(error.what()) > 2000) std::abort();
  }
  return 0;
}
