// A set of packet numbers within a sliding window: a ring of bits, so that nothing is allocated per packet.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "numbers.hpp"

namespace longhaul::udt {

// Holds numbers of any window of `capacity`; members that leave the window must be erased before the ring comes round.
class PacketSet {
 public:
  explicit PacketSet(size_t capacity)
      : words_(std::bit_ceil(capacity < 64 ? size_t{64} : capacity) / 64), mask_(words_.size() * 64 - 1) {}

  bool contains(PacketNumber number) const { return (word(number) >> (number & 63)) & 1; }

  // False if it was a member already.
  bool insert(PacketNumber number) {
    uint64_t& bits = word(number);
    uint64_t bit = uint64_t{1} << (number & 63);
    bool added = !(bits & bit);
    bits |= bit;
    count_ += added;
    return added;
  }

  // False if it was no member.
  bool erase(PacketNumber number) {
    uint64_t& bits = word(number);
    uint64_t bit = uint64_t{1} << (number & 63);
    bool removed = bits & bit;
    bits &= ~bit;
    count_ -= removed;
    return removed;
  }

  size_t size() const { return count_; }
  bool empty() const { return count_ == 0; }

  // The first member, or the first number that is none, in [from, to); `to` if there is none.
  PacketNumber first_member(PacketNumber from, PacketNumber to) const { return first(from, to, 0); }
  PacketNumber first_absent(PacketNumber from, PacketNumber to) const { return first(from, to, ~uint64_t{0}); }

 private:
  uint64_t& word(PacketNumber number) { return words_[(static_cast<uint64_t>(number) & mask_) / 64]; }
  uint64_t word(PacketNumber number) const { return words_[(static_cast<uint64_t>(number) & mask_) / 64]; }

  PacketNumber first(PacketNumber from, PacketNumber to, uint64_t invert) const {
    while (from < to) {
      uint64_t bits = (word(from) ^ invert) >> (from & 63);
      if (bits) {
        PacketNumber found = from + std::countr_zero(bits);
        return found < to ? found : to;
      }
      from += 64 - (from & 63);
    }
    return to;
  }

  std::vector<uint64_t> words_;
  uint64_t mask_;
  size_t count_ = 0;
};

}  // namespace longhaul::udt
