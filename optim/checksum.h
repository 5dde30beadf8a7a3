#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace unroll::detail {

/// XXH64: 64 bits that differ, but for a chance of 2^-64, when a byte does. Several gigabytes a second.
/// Source: Collet, "xxHash fast digest algorithm", the format's specification 0.2.0, section "XXH64 algorithm".
std::uint64_t xxh64(std::span<const std::byte> bytes, std::uint64_t seed = 0);

}  // namespace unroll::detail
