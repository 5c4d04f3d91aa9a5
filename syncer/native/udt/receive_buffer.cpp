#include "receive_buffer.hpp"

#include <algorithm>
#include <cstring>

namespace longhaul::udt {

ReceiveBuffer::ReceiveBuffer(size_t packets, size_t payload)
    : capacity_(std::max<size_t>(packets, 2)),
      payload_(payload),
      memory_(std::make_unique_for_overwrite<uint8_t[]>(capacity_ * payload)),
      packets_(std::make_unique_for_overwrite<Packet[]>(capacity_)),
      present_(capacity_) {}

ReceiveBuffer::Arrival ReceiveBuffer::store(PacketNumber number, const DataHeader& header, Bytes payload) {
  if (number >= base_ + static_cast<PacketNumber>(capacity_) || payload.size() > payload_) return Arrival::kBeyond;
  if (number < acknowledged_ || !present_.insert(number)) return Arrival::kDuplicate;
  Packet& packet = packets_[index(number)];
  packet.size = static_cast<uint32_t>(payload.size());
  packet.message = header.message;
  packet.boundary = header.boundary;
  packet.in_order = header.in_order;
  packet.consumed = false;
  if (!payload.empty()) std::memcpy(memory_.get() + index(number) * payload_, payload.data(), payload.size());
  highest_ = std::max(highest_, number + 1);
  advance_acknowledged();
  return Arrival::kNew;
}

void ReceiveBuffer::drop(PacketNumber first, PacketNumber last, uint32_t message) {
  first = std::max(first, base_);
  last = std::min(last, base_ + static_cast<PacketNumber>(capacity_) - 1);
  // The sender names what it does not know to have arrived; what did is of no use either.
  auto belongs = [&](PacketNumber at) {
    return is_there(at) && packets_[index(at)].message == message && !packets_[index(at)].consumed;
  };
  while (first > base_ && belongs(first - 1)) --first;
  while (last + 1 < highest_ && belongs(last + 1)) ++last;
  for (PacketNumber number = first; number <= last; ++number) {
    Packet& packet = packets_[index(number)];
    if (is_there(number)) {
      // Part of a message that will never be whole.
      if (packet.message == message) packet.consumed = true;
      continue;
    }
    packet = Packet{0, 0, Boundary::kMiddle, false, true};
    present_.insert(number);
    highest_ = std::max(highest_, number + 1);
  }
  advance_acknowledged();
  advance_base();
}

void ReceiveBuffer::advance_acknowledged() {
  while (acknowledged_ < highest_ && present_.contains(acknowledged_)) {
    present_.erase(acknowledged_);
    readable_bytes_ += packets_[index(acknowledged_)].size;
    ++acknowledged_;
  }
}

ReceiveBuffer::Claim ReceiveBuffer::claim(size_t bytes) const {
  return {base_, head_offset_, std::min(bytes, readable_bytes_)};
}

void ReceiveBuffer::copy_out(const Claim& claim, uint8_t* out) const {
  size_t offset = claim.offset;
  size_t left = claim.bytes;
  for (PacketNumber number = claim.first; left > 0; ++number, offset = 0) {
    size_t part = std::min(left, packets_[index(number)].size - offset);
    std::memcpy(out, memory_.get() + index(number) * payload_ + offset, part);
    out += part;
    left -= part;
  }
}

void ReceiveBuffer::release(const Claim& claim) {
  readable_bytes_ -= claim.bytes;
  head_offset_ += claim.bytes;
  while (base_ < acknowledged_ && head_offset_ >= packets_[index(base_)].size) {
    head_offset_ -= packets_[index(base_)].size;
    ++base_;
  }
}

std::optional<ReceiveBuffer::MessageSpan> ReceiveBuffer::find_message() const {
  bool all_before_complete = true;  // no message before this one is still to come
  for (PacketNumber number = base_; number < highest_;) {
    if (!is_there(number)) {
      all_before_complete = false;
      number = present_.first_member(std::max(number + 1, acknowledged_), highest_);
      continue;
    }
    const Packet& head = packets_[index(number)];
    if (head.consumed || !(static_cast<uint8_t>(head.boundary) & static_cast<uint8_t>(Boundary::kFirst))) {
      if (!head.consumed) all_before_complete = false;
      ++number;
      continue;
    }
    PacketNumber last = number;
    auto belongs = [&](PacketNumber at) {
      const Packet& packet = packets_[index(at)];
      return is_there(at) && !packet.consumed && packet.message == head.message;
    };
    while (last < highest_ && belongs(last) &&
           !(static_cast<uint8_t>(packets_[index(last)].boundary) & static_cast<uint8_t>(Boundary::kLast)))
      ++last;
    bool complete = last < highest_ && belongs(last);
    if (complete && (all_before_complete || !head.in_order)) return MessageSpan{number, last};
    if (!complete) all_before_complete = false;
    number = complete ? last + 1 : std::max(last, number + 1);
  }
  return std::nullopt;
}

std::optional<size_t> ReceiveBuffer::read_message(std::span<uint8_t> out) {
  std::optional<MessageSpan> found = find_message();
  if (!found) return std::nullopt;
  size_t size = 0;
  for (PacketNumber number = found->first; number <= found->last; ++number) {
    Packet& packet = packets_[index(number)];
    if (size < out.size()) {
      size_t part = std::min<size_t>(packet.size, out.size() - size);
      std::memcpy(out.data() + size, memory_.get() + index(number) * payload_, part);
    }
    size += packet.size;
    packet.consumed = true;
  }
  advance_base();
  return size;
}

void ReceiveBuffer::advance_base() {
  while (base_ < acknowledged_ && packets_[index(base_)].consumed) {
    readable_bytes_ -= packets_[index(base_)].size;
    ++base_;
  }
}

}  // namespace longhaul::udt
