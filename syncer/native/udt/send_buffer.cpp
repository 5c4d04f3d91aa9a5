#include "send_buffer.hpp"

#include <algorithm>
#include <cstring>

namespace longhaul::udt {

SendBuffer::SendBuffer(size_t packets, size_t payload)
    : capacity_(std::max<size_t>(packets, 2)),
      payload_(payload),
      memory_(std::make_unique_for_overwrite<uint8_t[]>(capacity_ * (kHeaderSize + payload))),
      packets_(std::make_unique_for_overwrite<Packet[]>(capacity_)) {}

SendBuffer::Claim SendBuffer::claim(size_t bytes, PacketNumber unsent) {
  Claim claim{end_, 0, 0};
  size_t room = 0;
  if (end_ > first_ && end_ - 1 >= unsent && packet(end_ - 1).size < payload_) {
    claim.first = end_ - 1;
    claim.offset = packet(end_ - 1).size;
    room = payload_ - claim.offset;
  }
  size_t tail_room = room;
  room += free_packets() * payload_;
  claim.bytes = std::min(bytes, room);
  if (claim.bytes == 0) return claim;
  tail_claimed_ = claim.first < end_;
  if (claim.bytes > tail_room) claimed_ = (claim.bytes - tail_room + payload_ - 1) / payload_;
  return claim;
}

void SendBuffer::fill(const Claim& claim, const uint8_t* data) {
  size_t offset = claim.offset;
  size_t left = claim.bytes;
  for (PacketNumber number = claim.first; left > 0; ++number, offset = 0) {
    size_t part = std::min(left, payload_ - offset);
    std::memcpy(at(number) + kHeaderSize + offset, data, part);
    data += part;
    left -= part;
  }
}

void SendBuffer::commit(const Claim& claim, uint32_t message) {
  size_t offset = claim.offset;
  size_t left = claim.bytes;
  for (PacketNumber number = claim.first; left > 0; ++number, offset = 0) {
    size_t part = std::min(left, payload_ - offset);
    Packet& packet = packets_[index(number)];
    if (offset == 0) packet = Packet{0, message, Boundary::kOnly, true, kNever};
    packet.size = static_cast<uint32_t>(offset + part);
    end_ = std::max(end_, number + 1);
    left -= part;
  }
  bytes_written_ += static_cast<int64_t>(claim.bytes);
  claimed_ = 0;
  tail_claimed_ = false;
}

void SendBuffer::append_message(std::span<const uint8_t> message, uint32_t number, bool in_order, Micros expires_at) {
  size_t done = 0;
  do {
    size_t part = std::min(message.size() - done, payload_);
    std::memcpy(at(end_) + kHeaderSize, message.data() + done, part);
    bool first = done == 0;
    done += part;
    bool last = done == message.size();
    auto boundary = static_cast<Boundary>((first ? 2 : 0) | (last ? 1 : 0));
    packets_[index(end_)] = Packet{static_cast<uint32_t>(part), number, boundary, in_order, expires_at};
    ++end_;
  } while (done < message.size());
  bytes_written_ += static_cast<int64_t>(message.size());
}

void SendBuffer::release_to(PacketNumber number) { first_ = std::max(first_, std::min(number, end_)); }

size_t SendBuffer::bytes_from(PacketNumber number) const {
  size_t bytes = 0;
  for (number = std::max(number, first_); number < end_; ++number) bytes += packet(number).size;
  return bytes;
}

}  // namespace longhaul::udt
