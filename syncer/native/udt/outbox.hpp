// Where a connection puts the datagrams that are to be sent now.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace longhaul::udt {

struct Datagram {
  const uint8_t* data = nullptr;
  size_t size = 0;
};

// Data packets are views into the send buffer; they stay valid until the connection is next given a packet. Consecutive
// full packets stand side by side in memory, so that neighbours can be sent as one segmented write.
class Outbox {
 public:
  static constexpr size_t kDatagrams = 512;
  static constexpr size_t kControlBytes = 16 * 1024;

  bool full() const { return count_ == kDatagrams; }
  bool empty() const { return count_ == 0; }
  std::span<const Datagram> datagrams() const { return {list_.data(), count_}; }
  void clear() { count_ = used_ = 0; }

  void add(const uint8_t* data, size_t size) { list_[count_++] = {data, size}; }

  // Room for a control packet of at most `size` bytes; nullptr if there is none. `add_control` says how much it became.
  uint8_t* control_room(size_t size) {
    return full() || used_ + size > kControlBytes ? nullptr : control_.data() + used_;
  }
  void add_control(size_t size) {
    add(control_.data() + used_, size);
    used_ += size;
  }

 private:
  std::array<Datagram, kDatagrams> list_;
  std::array<uint8_t, kControlBytes> control_;
  size_t count_ = 0;
  size_t used_ = 0;
};

}  // namespace longhaul::udt
