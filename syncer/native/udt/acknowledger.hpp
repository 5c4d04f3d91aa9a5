// The receiving side's decisions: what is missing, and when to say so. Pure.
//
// To our own peers it sends reports (all it knows, in one message); to plain UDT4 peers ACKs, light ACKs and NAKs. Losses
// are told again until they are filled, since either message may be lost itself. On a path that reorders, a gap has to
// last as long as packets come late before a plain peer is told of it: that peer would send them again at once.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "arrival_speed.hpp"
#include "numbers.hpp"
#include "packet.hpp"
#include "receive_buffer.hpp"

namespace longhaul::udt {

class Acknowledger {
 public:
  static constexpr Micros kInterval = 10'000;       // UDT4's SYN: one full ACK at most so often
  static constexpr Micros kShortestInterval = 1'000;
  static constexpr int64_t kLightEvery = 64;        // packets between light ACKs
  static constexpr size_t kRememberedAcks = 256;
  static constexpr int kMostParts = 8;  // of a report in one turn

  // A data packet came. `stamp`: its time stamp; `beyond_highest`: the highest that had arrived before it, plus one.
  void on_arrival(PacketNumber number, PacketNumber highest_before, ReceiveBuffer::Arrival arrival, uint32_t stamp,
                  Micros now);
  // The same packet, if the peer is a plain one.
  void observe_speed(uint32_t sequence, Micros now) { speed_.on_arrival(sequence, now); }
  void on_dropped(PacketNumber first, PacketNumber last);  // the sender gives these up
  // A drop request tells of packets beyond the highest that arrived: [first, end) before them are missing.
  void on_gap_before_drop(PacketNumber first, PacketNumber end, uint32_t stamp, Micros now);
  // The peer acknowledged an acknowledgement: a round-trip sample, if that is known.
  std::optional<Micros> on_ack2(uint32_t number, Micros now);
  void set_round_trip(Micros rtt, Micros variance) {
    rtt_ = rtt;
    rtt_variance_ = variance;
  }
  void tell_now() { urgent_ = true; }
  // There is room again for a peer that may have none: told until something arrives.
  void window_opened() { urgent_ = starved_ = true; }

  // To an extended peer.
  Micros report_deadline() const;
  // Fills in all but the missing ranges, which are written to `list`. A list with no room for all of them makes this one
  // of several parts: take the next at once, up to kMostParts in a turn; what is still left comes first in the next turn.
  Report take_report(const ReceiveBuffer& buffer, uint32_t peer_initial, bool ended, uint8_t* list, size_t list_capacity,
                     size_t& list_size, Micros now);

  // To a plain peer.
  Micros ack_deadline(const ReceiveBuffer& buffer) const;
  bool light_ack_due(const ReceiveBuffer& buffer) const { return buffer.acknowledged() - light_told_ >= kLightEvery; }
  Ack take_ack(const ReceiveBuffer& buffer, uint32_t peer_initial, bool light, uint32_t& number, Micros now);
  Micros nak_deadline() const;
  // Writes the losses that are due; returns the bytes written (0: none).
  size_t take_losses(uint32_t peer_initial, uint8_t* list, size_t capacity, Micros now);

  int64_t missing_packets() const { return missing_; }
  int64_t duplicates() const { return duplicates_; }
  int64_t arrived() const { return arrived_; }
  Micros reordering() const { return reordering_[0] > reordering_[1] ? reordering_[0] : reordering_[1]; }

 private:
  struct Gap {
    PacketNumber first;
    PacketNumber last;
    Micros noticed_at;
    uint32_t stamp_after;  // time stamp of the packet that showed the gap
    Micros told_at;        // 0: not yet told
    uint32_t times_told;
  };

  void fill(PacketNumber number, uint32_t stamp, Micros now);
  void remember(uint32_t number, Micros now);
  Micros due_at(const Gap& gap) const;
  Micros repeat_after(const Gap& gap) const;
  void note_reordering(Micros lateness, Micros now);

  std::vector<Gap> gaps_;  // ascending; at most one for every second packet of the receive buffer
  int64_t missing_ = 0;
  int64_t arrived_ = 0;
  int64_t duplicates_ = 0;
  Micros rtt_ = 100'000;
  Micros rtt_variance_ = 50'000;
  std::array<Micros, 2> reordering_{0, 0};  // the most of this and the last period
  Micros reordering_since_ = 0;

  // reports
  uint32_t next_number_ = 1;
  PacketNumber told_to_ = 0;  // where the last part of a report ended that was not the last
  Micros last_told_at_ = 0;
  int64_t unreported_ = 0;  // packets (also duplicates) since the last report
  bool new_gap_ = false;
  bool urgent_ = false;
  bool starved_ = false;
  uint32_t last_stamp_ = 0;
  Micros last_arrival_at_ = 0;

  // ACKs
  PacketNumber full_told_ = 0;
  PacketNumber confirmed_ = 0;  // an ACK2 came for an ACK up to here
  PacketNumber light_told_ = 0;
  ArrivalSpeed speed_;
  struct Remembered {
    uint32_t number = 0;
    Micros at = 0;
    PacketNumber acknowledged = 0;
  };
  std::array<Remembered, kRememberedAcks> remembered_{};
};

}  // namespace longhaul::udt
