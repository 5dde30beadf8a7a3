#include <optim/checksum.h>

#include <array>
#include <bit>
#include <cstring>

namespace unroll::detail {

std::uint64_t xxh64(std::span<const std::byte> bytes, std::uint64_t seed) {
  constexpr std::uint64_t p1 = 0x9E3779B185EBCA87, p2 = 0xC2B2AE3D27D4EB4F, p3 = 0x165667B19E3779F9,
                          p4 = 0x85EBCA77C2B2AE63, p5 = 0x27D4EB2F165667C5;
  const std::byte *at = bytes.data(), *end = at + bytes.size();
  auto next = [&]<class T>(T value) -> std::uint64_t {
    std::memcpy(&value, at, sizeof(T));
    at += sizeof(T);
    return value;
  };
  auto round = [](std::uint64_t lane, std::uint64_t input) { return std::rotl(lane + input * p2, 31) * p1; };

  std::uint64_t hash = seed + p5;
  if (bytes.size() >= 32) {
    std::array<std::uint64_t, 4> lanes{seed + p1 + p2, seed + p2, seed, seed - p1};
    while (end - at >= 32)
      for (std::uint64_t& lane : lanes) lane = round(lane, next(std::uint64_t{}));
    hash = std::rotl(lanes[0], 1) + std::rotl(lanes[1], 7) + std::rotl(lanes[2], 12) + std::rotl(lanes[3], 18);
    for (std::uint64_t lane : lanes) hash = (hash ^ round(0, lane)) * p1 + p4;
  }
  hash += bytes.size();
  while (end - at >= 8) hash = std::rotl(hash ^ round(0, next(std::uint64_t{})), 27) * p1 + p4;
  if (end - at >= 4) hash = std::rotl(hash ^ (next(std::uint32_t{}) * p1), 23) * p2 + p3;
  while (at < end) hash = std::rotl(hash ^ (next(std::uint8_t{}) * p5), 11) * p1;
  hash = (hash ^ (hash >> 33)) * p2;
  hash = (hash ^ (hash >> 29)) * p3;
  return hash ^ (hash >> 32);
}

}  // namespace unroll::detail
