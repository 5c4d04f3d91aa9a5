// Numbers as they stand in a datagram: network byte order, any alignment.
#pragma once

#include <cstddef>
#include <cstdint>

namespace longhaul::udt {

constexpr uint32_t read_u32(const uint8_t* at) {
  return uint32_t{at[0]} << 24 | uint32_t{at[1]} << 16 | uint32_t{at[2]} << 8 | uint32_t{at[3]};
}

constexpr uint64_t read_u64(const uint8_t* at) { return uint64_t{read_u32(at)} << 32 | read_u32(at + 4); }

constexpr void write_u32(uint8_t* at, uint32_t value) {
  at[0] = static_cast<uint8_t>(value >> 24);
  at[1] = static_cast<uint8_t>(value >> 16);
  at[2] = static_cast<uint8_t>(value >> 8);
  at[3] = static_cast<uint8_t>(value);
}

constexpr void write_u64(uint8_t* at, uint64_t value) {
  write_u32(at, static_cast<uint32_t>(value >> 32));
  write_u32(at + 4, static_cast<uint32_t>(value));
}

}  // namespace longhaul::udt
