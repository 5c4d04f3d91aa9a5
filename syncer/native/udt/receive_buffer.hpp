// What arrived and the application has not read: a ring of packets, and which of them are there.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "numbers.hpp"
#include "packet.hpp"
#include "packet_set.hpp"

namespace longhaul::udt {

class ReceiveBuffer {
 public:
  // `payload`: the most bytes that a packet can have.
  ReceiveBuffer(size_t packets, size_t payload);

  // Packets of a stream to be read, from `offset` of the first on.
  struct Claim {
    PacketNumber first = 0;
    size_t offset = 0;
    size_t bytes = 0;
  };

  enum class Arrival { kNew, kDuplicate, kBeyond };

  // Takes a copy. kBeyond: there is no room for that number, or it is larger than a packet can be.
  Arrival store(PacketNumber number, const DataHeader& header, Bytes payload);
  // The sender gives up this message: its packets count as arrived, without content.
  void drop(PacketNumber first, PacketNumber last, uint32_t message);

  PacketNumber base() const { return base_; }                  // the first that is not yet read
  PacketNumber acknowledged() const { return acknowledged_; }  // all before it arrived
  PacketNumber highest() const { return highest_; }            // behind the highest that arrived
  size_t capacity() const { return capacity_; }
  size_t available() const { return capacity_ - static_cast<size_t>(acknowledged_ - base_); }

  // Streams.
  size_t readable_bytes() const { return readable_bytes_; }
  Claim claim(size_t bytes) const;
  void copy_out(const Claim& claim, uint8_t* out) const;  // needs no lock
  void release(const Claim& claim);

  // Messages.
  bool has_message() const { return find_message().has_value(); }
  std::optional<size_t> read_message(std::span<uint8_t> out);

 private:
  struct Packet {
    uint32_t size;
    uint32_t message;
    Boundary boundary;
    bool in_order;
    bool consumed;  // read, or given up by the sender
  };
  struct MessageSpan {
    PacketNumber first;
    PacketNumber last;
  };

  size_t index(PacketNumber number) const { return static_cast<uint64_t>(number) % capacity_; }
  bool is_there(PacketNumber number) const { return number < acknowledged_ || present_.contains(number); }
  std::optional<MessageSpan> find_message() const;
  void advance_acknowledged();
  void advance_base();

  size_t capacity_;
  size_t payload_;
  // Neither is touched before it is used: a large buffer costs memory only as it fills.
  std::unique_ptr<uint8_t[]> memory_;
  std::unique_ptr<Packet[]> packets_;
  PacketSet present_;
  PacketNumber base_ = 0;
  PacketNumber acknowledged_ = 0;
  PacketNumber highest_ = 0;
  size_t head_offset_ = 0;  // bytes of the packet at base_ that were read
  size_t readable_bytes_ = 0;
};

}  // namespace longhaul::udt
