// SipHash-2-4 (Aumasson, Bernstein: SipHash: a fast short-input PRF, 2012): a keyed hash whose values nobody predicts
// who does not know the key.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace longhaul::udt {

namespace siphash_detail {

constexpr uint64_t rotate(uint64_t value, int bits) { return value << bits | value >> (64 - bits); }

// `count` bytes, at most 8, the first one lowest.
constexpr uint64_t little_endian(const uint8_t* at, size_t count) {
  uint64_t value = 0;
  for (size_t i = 0; i < count; ++i) value |= uint64_t{at[i]} << (8 * i);
  return value;
}

struct Rounds {
  uint64_t v0, v1, v2, v3;

  constexpr void run(int rounds) {
    while (rounds-- > 0) {
      v0 += v1;
      v2 += v3;
      v1 = rotate(v1, 13) ^ v0;
      v3 = rotate(v3, 16) ^ v2;
      v0 = rotate(v0, 32);
      v2 += v1;
      v0 += v3;
      v1 = rotate(v1, 17) ^ v2;
      v3 = rotate(v3, 21) ^ v0;
      v2 = rotate(v2, 32);
    }
  }

  constexpr void absorb(uint64_t word) {
    v3 ^= word;
    run(2);
    v0 ^= word;
  }
};

}  // namespace siphash_detail

constexpr uint64_t siphash_2_4(const std::array<uint8_t, 16>& key, std::span<const uint8_t> message) {
  using namespace siphash_detail;
  const uint64_t k0 = little_endian(key.data(), 8), k1 = little_endian(key.data() + 8, 8);
  Rounds state{k0 ^ 0x736f6d6570736575u, k1 ^ 0x646f72616e646f6du, k0 ^ 0x6c7967656e657261u, k1 ^ 0x7465646279746573u};
  size_t at = 0;
  for (; message.size() - at >= 8; at += 8) state.absorb(little_endian(message.data() + at, 8));
  state.absorb(uint64_t{message.size() & 0xff} << 56 | little_endian(message.data() + at, message.size() - at));
  state.v2 ^= 0xff;
  state.run(4);
  return state.v0 ^ state.v1 ^ state.v2 ^ state.v3;
}

}  // namespace longhaul::udt
