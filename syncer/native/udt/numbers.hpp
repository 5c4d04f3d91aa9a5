// Time and packet numbers.
#pragma once

#include <cstdint>
#include <limits>

namespace longhaul::udt {

// Microseconds of a monotonic clock. Every time in the protocol core is an argument; the core never reads a clock.
using Micros = int64_t;
constexpr Micros kNever = std::numeric_limits<Micros>::max();

// A packet's place in its direction of a connection, counted from the first data packet; never wraps. On the wire stand
// its low 31 bits plus the initial sequence number (draft-gg-udt-03, 3.1).
using PacketNumber = int64_t;
constexpr uint32_t kSequenceMask = 0x7fffffffu;

constexpr uint32_t to_wire(uint32_t initial, PacketNumber number) {
  return (initial + static_cast<uint32_t>(static_cast<uint64_t>(number))) & kSequenceMask;
}

// The packet number nearest to `near` that has this wire sequence; negative for one before the first packet.
constexpr PacketNumber from_wire(uint32_t initial, uint32_t sequence, PacketNumber near) {
  uint32_t ahead = (sequence - to_wire(initial, near)) & kSequenceMask;
  int64_t offset = ahead < 0x40000000u ? int64_t{ahead} : int64_t{ahead} - 0x80000000ll;
  return near + offset;
}

}  // namespace longhaul::udt
