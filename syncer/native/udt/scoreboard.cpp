#include "scoreboard.hpp"

#include <algorithm>
#include <bit>

namespace longhaul::udt {

Scoreboard::Scoreboard(size_t packets)
    : capacity_(std::bit_ceil(std::max<size_t>(packets, 64))),
      mask_(capacity_ - 1),
      records_(std::make_unique_for_overwrite<Transmission[]>(capacity_)),
      lost_(capacity_),
      arrived_(capacity_) {}

std::optional<PacketNumber> Scoreboard::first_lost() const {
  if (lost_.empty()) return std::nullopt;
  lost_hint_ = lost_.first_member(std::max(lost_hint_, acknowledged_), next_new_);
  return lost_hint_;
}

std::optional<PacketNumber> Scoreboard::highest_in_flight() const {
  for (PacketNumber number = next_new_ - 1; number >= acknowledged_; --number)
    if (at(number).state == State::kInFlight) return number;
  return std::nullopt;
}

void Scoreboard::on_sent(PacketNumber number, Micros now) {
  Transmission& record = at(number);
  if (in_flight_ == 0) first_sent_at_ = delivered_at_ = now;
  if (number == next_new_) {
    ++next_new_;
    record = Transmission{};
  } else if (record.state == State::kLost) {
    lost_.erase(number);
  } else if (record.state == State::kInFlight) {
    --in_flight_;  // a probe takes the place of the transmission before it
  } else {
    arrived_.erase(number);  // or of one that was presumed to have arrived
  }
  record.state = State::kInFlight;
  record.sent_at = now;
  record.delivered_at = delivered_at_;
  record.first_sent_at = first_sent_at_;
  record.delivered = delivered_;
  record.lost = lost_total_;
  record.in_flight = static_cast<int32_t>(in_flight_);
  record.application_limited = application_limited_until_ > delivered_;
  if (record.times < 255) ++record.times;
  ++in_flight_;
}

void Scoreboard::mark_application_limited() { application_limited_until_ = std::max<int64_t>(delivered_ + in_flight_, 1); }

void Scoreboard::begin_feedback(Micros now, Micros clock) {
  clock_ = std::max(clock, delivered_at_);
  feedback_ = Feedback{};
  feedback_.now = now;
  sample_ = Sample{};
}

void Scoreboard::acknowledge(PacketNumber number) {
  number = std::min(number, next_new_);
  for (; acknowledged_ < number; ++acknowledged_)
    if (!arrived_.erase(acknowledged_)) mark_delivered(acknowledged_);
  arrived_end_ = std::max(arrived_end_, acknowledged_);
}

void Scoreboard::deliver(PacketNumber first, PacketNumber end) {
  end = std::min(end, next_new_);
  first = arrived_.first_absent(std::max(first, acknowledged_), end);
  while (first < end) {
    arrived_.insert(first);
    mark_delivered(first);
    first = arrived_.first_absent(first + 1, end);
  }
  arrived_end_ = std::max(arrived_end_, end);
}

void Scoreboard::mark_delivered(PacketNumber number) {
  Transmission& record = at(number);
  if (record.state == State::kDelivered) return;
  if (record.state == State::kInFlight) {
    --in_flight_;
  } else {
    lost_.erase(number);
    ++spurious_total_;
  }
  record.state = State::kDelivered;
  if (record.counted) return;
  record.counted = true;
  ++delivered_;
  ++feedback_.newly_delivered;
  delivered_at_ = clock_;
  if (record.sent_at >= sample_.sent_at)
    sample_ = Sample{record.sent_at, record.delivered_at,  record.first_sent_at,      record.delivered,
                     record.lost,    record.in_flight, record.application_limited};
}

void Scoreboard::mark_lost(PacketNumber number) {
  at(number).state = State::kLost;
  --in_flight_;
  lost_.insert(number);
  lost_hint_ = std::min(lost_hint_, number);
  ++lost_total_;
  ++feedback_.newly_lost;
  feedback_.largest_lost = std::max(feedback_.largest_lost, number);
}

void Scoreboard::lose_reported(PacketNumber first, PacketNumber end, Micros fresh_after) {
  first = std::max(first, acknowledged_);
  end = std::min(end, next_new_);
  for (PacketNumber number = first; number < end; ++number) {
    const Transmission& record = at(number);
    if (record.sent_at > fresh_after || record.abandoned) continue;
    if (record.state == State::kInFlight) mark_lost(number);
    if (record.state == State::kDelivered) take_back(number);  // it was presumed, before the peer spoke our extensions
  }
}

void Scoreboard::lose_tail(PacketNumber first, Micros sent_before) {
  // In the order in which they were sent, but for a probe now and then, which ends the search no more than one turn early.
  for (PacketNumber number = std::max(first, acknowledged_); number < next_new_; ++number) {
    if (at(number).state != State::kInFlight) continue;
    if (at(number).sent_at >= sent_before) return;
    mark_lost(number);
  }
}

void Scoreboard::take_nak(PacketNumber first, PacketNumber end, Micros fresh_after) {
  first = std::max(first, acknowledged_);
  end = std::min(end, next_new_);
  for (PacketNumber number = first; number < end; ++number) {
    const Transmission& record = at(number);
    if (record.state == State::kInFlight && (record.times == 1 || record.sent_at <= fresh_after)) mark_lost(number);
    if (record.state == State::kDelivered && !record.abandoned && record.sent_at <= fresh_after) take_back(number);
  }
  // What showed the gap is behind it. All before arrived_end_ was presumed already.
  end = std::min(end + 1, next_new_);
  for (PacketNumber number = std::max(arrived_end_, acknowledged_); number < end; ++number)
    if (at(number).state == State::kInFlight && at(number).times == 1) deliver(number, number + 1);
  arrived_end_ = std::max(arrived_end_, end);
}

void Scoreboard::lose_presumed(Micros sent_before) {
  const bool original = at(acknowledged_).times == 1;
  int64_t left = presumed_wrongly_;
  for (PacketNumber number = acknowledged_; number < arrived_end_ && left > 0; ++number) {
    const Transmission& record = at(number);
    const bool presumed = record.state == State::kDelivered && !record.abandoned && record.sent_at < sent_before;
    if (original && !(presumed && record.times == 1)) return;
    if (!presumed || (record.times == 1) != original) continue;
    take_back(number);
    --left;
  }
}

void Scoreboard::take_back(PacketNumber number) {
  arrived_.erase(number);
  at(number).state = State::kInFlight;
  ++in_flight_;
  mark_lost(number);
}

void Scoreboard::look_for_stale_holes(Micros sent_before) {
  if (!has_holes()) return;
  for (PacketNumber number = acknowledged_; number < next_new_; ++number) {
    const Transmission& record = at(number);
    if (record.state == State::kInFlight && record.sent_at < sent_before) deliver(number, number + 1);
  }
  const Transmission& hole = at(acknowledged_);
  if (hole.state != State::kDelivered || hole.abandoned || hole.sent_at >= sent_before) return;
  const Micros patience = feedback_.now - sent_before;
  presumed_wrongly_ = feedback_.now - stopped_at_ > 3 * patience ? 8 : std::min<int64_t>(2 * presumed_wrongly_, 1024);
  stopped_at_ = feedback_.now;
  lose_presumed(sent_before);
}

void Scoreboard::abandon(PacketNumber first, PacketNumber end) {
  for (PacketNumber number = std::max(first, acknowledged_); number < end; ++number) {
    Transmission& record = at(number);
    if (number == next_new_) {
      ++next_new_;
      record = Transmission{};
    } else if (record.state == State::kInFlight) {
      --in_flight_;
    } else if (record.state == State::kLost) {
      lost_.erase(number);
    }
    record.state = State::kDelivered;
    record.abandoned = true;
    arrived_.insert(number);
  }
}

Feedback Scoreboard::end_feedback(Micros now) {
  Feedback feedback = feedback_;
  feedback.now = now;
  feedback.acknowledged = acknowledged_;
  feedback.next_new = next_new_;
  feedback.delivered = delivered_;
  feedback.in_flight = in_flight_;
  if (application_limited_until_ != 0 && delivered_ > application_limited_until_) application_limited_until_ = 0;
  if (sample_.sent_at >= 0) {
    first_sent_at_ = sample_.sent_at;
    Micros sending = sample_.sent_at - sample_.first_sent_at;
    Micros arriving = delivered_at_ - sample_.delivered_at;
    feedback.sample_interval = std::max(sending, arriving);
    feedback.sample_delivered = delivered_ - sample_.delivered;
    feedback.prior_delivered = sample_.delivered;
    feedback.prior_in_flight = sample_.in_flight;
    feedback.sample_lost = lost_total_ - sample_.lost;
    feedback.application_limited = sample_.application_limited;
    if (feedback.sample_interval > 0)
      feedback.delivery_rate =
          static_cast<double>(feedback.sample_delivered) * 1e6 / static_cast<double>(feedback.sample_interval);
  }
  return feedback;
}

}  // namespace longhaul::udt
