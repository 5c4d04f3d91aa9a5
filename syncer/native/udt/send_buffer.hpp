// What the application gave and the peer has not acknowledged: a ring of packets, each with room for its header in front.
//
// A packet's header and payload are contiguous, and neighbours stand side by side, so that a run of full packets is one
// piece of memory for the kernel.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "numbers.hpp"
#include "packet.hpp"

namespace longhaul::udt {

class SendBuffer {
 public:
  // `payload`: bytes of a full packet's payload.
  SendBuffer(size_t packets, size_t payload);

  struct Packet {
    uint32_t size;  // of the payload
    uint32_t message;
    Boundary boundary;
    bool in_order;
    Micros expires_at;
  };

  // Packets that the application fills next, the first from `offset` on.
  struct Claim {
    PacketNumber first = 0;
    size_t offset = 0;
    size_t bytes = 0;
  };

  PacketNumber first() const { return first_; }  // the oldest that is kept
  PacketNumber end() const { return end_; }      // behind the last that may be sent
  // Like end(), but for a last packet that the application is continuing just now.
  PacketNumber sendable_end() const { return tail_claimed_ ? end_ - 1 : end_; }
  size_t used_packets() const { return static_cast<size_t>(end_ - first_); }
  size_t free_packets() const { return capacity_ - used_packets() - claimed_; }
  size_t capacity() const { return capacity_; }
  size_t payload() const { return payload_; }
  size_t stride() const { return kHeaderSize + payload_; }

  // Room for up to `bytes` more of a stream. Continues the last packet if that is not full and not before `unsent`.
  Claim claim(size_t bytes, PacketNumber unsent);
  // Copies `data` (claim.bytes of it) into the claimed packets; needs no lock.
  void fill(const Claim& claim, const uint8_t* data);
  void commit(const Claim& claim, uint32_t message);

  // A whole message, copied. The caller has checked the room.
  void append_message(std::span<const uint8_t> message, uint32_t number, bool in_order, Micros expires_at);

  uint8_t* at(PacketNumber number) { return memory_.get() + index(number) * stride(); }
  const Packet& packet(PacketNumber number) const { return packets_[index(number)]; }
  void release_to(PacketNumber number);  // all before it were acknowledged
  size_t bytes_from(PacketNumber number) const;  // payload in [number, end)
  int64_t bytes_written() const { return bytes_written_; }

 private:
  size_t index(PacketNumber number) const { return static_cast<uint64_t>(number) % capacity_; }

  size_t capacity_;
  size_t payload_;
  // Neither is touched before it is used: a large buffer costs memory only as it fills.
  std::unique_ptr<uint8_t[]> memory_;
  std::unique_ptr<Packet[]> packets_;
  PacketNumber first_ = 0;
  PacketNumber end_ = 0;
  size_t claimed_ = 0;
  bool tail_claimed_ = false;
  int64_t bytes_written_ = 0;
};

}  // namespace longhaul::udt
