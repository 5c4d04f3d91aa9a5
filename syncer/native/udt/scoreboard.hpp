// What became of every packet that was sent: in flight, arrived, or lost. Pure.
//
// Loss is decided by time, as in RACK (RFC 8985): a transmission is lost when one that was sent later (by more than the
// reordering that the path shows) is known to have arrived. This finds lost retransmissions as well as lost originals.
// A plain UDT4 peer tells less: its NAKs are believed, and a hole that stays longer than its retransmission takes is lost
// again.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

#include "congestion.hpp"
#include "numbers.hpp"
#include "packet_set.hpp"

namespace longhaul::udt {

class Scoreboard {
 public:
  explicit Scoreboard(size_t packets);

  PacketNumber acknowledged() const { return acknowledged_; }
  PacketNumber next_new() const { return next_new_; }
  int64_t in_flight() const { return in_flight_; }
  int64_t delivered() const { return delivered_; }
  int64_t lost_total() const { return lost_total_; }
  int64_t spurious_total() const { return spurious_total_; }
  // The lowest packet that is to be sent again.
  std::optional<PacketNumber> first_lost() const;
  std::optional<PacketNumber> highest_in_flight() const;
  bool was_sent_before(PacketNumber number) const { return number < next_new_; }
  Micros sent_at(PacketNumber number) const { return at(number).sent_at; }

  // A packet goes out: the next new one, or one that was sent before.
  void on_sent(PacketNumber number, Micros now);
  // Nothing more to send although there is room: delivery rate samples from here on say nothing of the path.
  void mark_application_limited();

  // One message of the receiver is taken in between begin and end; everything in between is told to the feedback.
  // `clock`: time of delivery as the receiver tells it, or now.
  void begin_feedback(Micros now, Micros clock);
  void acknowledge(PacketNumber number);                        // all before it arrived
  void deliver(PacketNumber first, PacketNumber end);           // [first, end) arrived
  // The receiver misses [first, end): lost, but for what was sent after `fresh_after`.
  void lose_reported(PacketNumber first, PacketNumber end, Micros fresh_after);
  // Nothing from `first` on arrived, although what was sent at `sent_before` did: what was sent before that is lost.
  void lose_tail(PacketNumber first, Micros sent_before);

  // Of a plain UDT4 peer, which says once what it misses, and else only up to where it has all.
  //
  // A NAK: [first, end) is lost, but for what was sent again after `fresh_after`; and as each gap is told of at once, all
  // else that was sent once and before `end` is presumed to have arrived. Call it for each of a NAK's ranges.
  void take_nak(PacketNumber first, PacketNumber end, Micros fresh_after);
  // There are holes. What was sent before `sent_before` is in flight no more: it is presumed to have arrived as well, if
  // nothing is told of it. But the packet at which the ACKs stand is lost, whatever was presumed of it, and with it others
  // behind it of which no more is known, the more the oftener this happens in a row (they were lost together, or their NAK
  // was).
  void look_for_stale_holes(Micros sent_before);
  // There is a hole: something behind what the ACKs say is known, or presumed, to have arrived.
  bool has_holes() const { return acknowledged_ < arrived_end_; }

  // The sender gives up [first, end), which may begin with the next new one: neither delivered nor lost.
  void abandon(PacketNumber first, PacketNumber end);
  bool is_abandoned(PacketNumber number) const { return at(number).abandoned; }
  // The receiver waits for a packet that was given up: it has to be told (again).
  bool waits_for_abandoned() const { return acknowledged_ < next_new_ && at(acknowledged_).abandoned; }
  bool has_feedback() const { return feedback_.newly_delivered > 0 || feedback_.newly_lost > 0; }
  Feedback end_feedback(Micros now);

 private:
  enum class State : uint8_t { kInFlight, kLost, kDelivered };

  // Without initial values, so that memory for packets that are never sent is never touched.
  struct Transmission {
    Micros sent_at;
    Micros delivered_at;   // when the newest delivery before it was made
    Micros first_sent_at;  // when the packet of that delivery was sent
    int64_t delivered;
    int64_t lost;
    int32_t in_flight;
    State state;
    uint8_t times;  // transmissions, saturating
    bool application_limited;
    bool abandoned;
    bool counted;  // in delivered_
  };
  Transmission& at(PacketNumber number) { return records_[static_cast<uint64_t>(number) & mask_]; }
  const Transmission& at(PacketNumber number) const { return records_[static_cast<uint64_t>(number) & mask_]; }
  void mark_delivered(PacketNumber number);
  void mark_lost(PacketNumber number);
  void lose_presumed(Micros sent_before);
  void take_back(PacketNumber number);  // that it arrived: it is lost

  size_t capacity_;
  uint64_t mask_;
  std::unique_ptr<Transmission[]> records_;  // a record is valid from its packet's first transmission on
  PacketSet lost_;
  PacketSet arrived_;  // beyond acknowledged_
  PacketNumber acknowledged_ = 0;
  PacketNumber next_new_ = 0;
  PacketNumber arrived_end_ = 0;  // behind the highest that is known to have arrived
  int64_t presumed_wrongly_ = 8;  // packets that were taken back when the ACKs last stood at a stale hole
  Micros stopped_at_ = 0;         // when that was
  mutable PacketNumber lost_hint_ = 0;  // no lost packet before it
  int64_t in_flight_ = 0;
  int64_t delivered_ = 0;
  int64_t lost_total_ = 0;
  int64_t spurious_total_ = 0;
  Micros delivered_at_ = 0;
  Micros first_sent_at_ = 0;
  int64_t application_limited_until_ = 0;  // in terms of delivered_

  // of the feedback under way
  Micros clock_ = 0;
  Feedback feedback_;
  struct Sample {
    Micros sent_at = -1;
    Micros delivered_at = 0;
    Micros first_sent_at = 0;
    int64_t delivered = 0;
    int64_t lost = 0;
    int64_t in_flight = 0;
    bool application_limited = false;
  } sample_;
};

}  // namespace longhaul::udt
