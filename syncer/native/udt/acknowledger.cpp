#include "acknowledger.hpp"

#include <algorithm>

namespace longhaul::udt {

namespace {
constexpr Micros kReorderingMemory = 10'000'000;
constexpr Micros kStarvedRepeat = 100'000;
}  // namespace

void Acknowledger::on_arrival(PacketNumber number, PacketNumber highest_before, ReceiveBuffer::Arrival arrival,
                              uint32_t stamp, Micros now) {
  ++unreported_;
  last_stamp_ = stamp;
  last_arrival_at_ = now;
  starved_ = false;
  if (arrival == ReceiveBuffer::Arrival::kDuplicate) {
    ++duplicates_;
    return;
  }
  ++arrived_;
  if (number > highest_before) {
    gaps_.push_back({highest_before, number - 1, now, stamp, 0, 0});
    missing_ += number - highest_before;
    new_gap_ = true;
  } else if (number < highest_before) {
    fill(number, stamp, now);
  }
}

void Acknowledger::fill(PacketNumber number, uint32_t stamp, Micros now) {
  auto gap = std::lower_bound(gaps_.begin(), gaps_.end(), number,
                              [](const Gap& left, PacketNumber right) { return left.last < right; });
  if (gap == gaps_.end() || number < gap->first) return;
  --missing_;
  // Sent before the packet that showed the gap: an original that was overtaken, not one sent again.
  if (static_cast<int32_t>(stamp - gap->stamp_after) <= 0) note_reordering(now - gap->noticed_at, now);
  if (gap->first == gap->last) {
    gaps_.erase(gap);
  } else if (number == gap->first) {
    ++gap->first;
  } else if (number == gap->last) {
    --gap->last;
  } else {
    Gap upper = *gap;
    upper.first = number + 1;
    gap->last = number - 1;
    gaps_.insert(gap + 1, upper);
  }
}

void Acknowledger::note_reordering(Micros lateness, Micros now) {
  if (now - reordering_since_ > kReorderingMemory) {
    reordering_ = {0, reordering_[0]};
    reordering_since_ = now;
  }
  reordering_[0] = std::max(reordering_[0], lateness + 1);
}

void Acknowledger::on_dropped(PacketNumber first, PacketNumber last) {
  std::vector<Gap> kept;
  missing_ = 0;
  for (const Gap& gap : gaps_) {
    if (gap.first < first) {
      Gap lower = gap;
      lower.last = std::min(gap.last, first - 1);
      kept.push_back(lower);
    }
    if (gap.last > last) {
      Gap upper = gap;
      upper.first = std::max(gap.first, last + 1);
      kept.push_back(upper);
    }
  }
  gaps_ = std::move(kept);
  for (const Gap& gap : gaps_) missing_ += gap.last - gap.first + 1;
  urgent_ = true;
}

void Acknowledger::on_gap_before_drop(PacketNumber first, PacketNumber end, uint32_t stamp, Micros now) {
  gaps_.push_back({first, end - 1, now, stamp, 0, 0});
  missing_ += end - first;
}

std::optional<Micros> Acknowledger::on_ack2(uint32_t number, Micros now) {
  Remembered& remembered = remembered_[number % kRememberedAcks];
  if (remembered.number != number || remembered.at == 0) return std::nullopt;
  Micros rtt = now - remembered.at;
  remembered.at = 0;
  confirmed_ = std::max(confirmed_, remembered.acknowledged);
  return rtt;
}

void Acknowledger::remember(uint32_t number, Micros now) {
  remembered_[number % kRememberedAcks] = {number, now, 0};
}

Micros Acknowledger::report_deadline() const {
  Micros interval = std::clamp(rtt_ / 8, kShortestInterval, kInterval);
  Micros deadline = kNever;
  if (urgent_) return 0;
  if (unreported_ > 0) deadline = last_told_at_ + (new_gap_ ? interval / 2 : interval);
  if (missing_ > 0) deadline = std::min(deadline, last_told_at_ + std::max(rtt_ / 2, 2 * interval));
  if (starved_) deadline = std::min(deadline, last_told_at_ + kStarvedRepeat);
  return deadline;
}

Report Acknowledger::take_report(const ReceiveBuffer& buffer, uint32_t peer_initial, bool ended, uint8_t* list,
                                 size_t list_capacity, size_t& list_size, Micros now) {
  Report report;
  PacketNumber known_from = std::max(told_to_, buffer.acknowledged());
  PacketNumber known_to = buffer.highest();
  LossWriter writer(list, list_capacity);
  auto gap = std::lower_bound(gaps_.begin(), gaps_.end(), known_from,
                              [](const Gap& left, PacketNumber right) { return left.last < right; });
  for (; gap != gaps_.end(); ++gap) {
    if (!writer.add({to_wire(peer_initial, gap->first), to_wire(peer_initial, gap->last)})) {
      known_to = gap->first;
      break;
    }
  }
  list_size = writer.size();
  report.last_part = gap == gaps_.end();
  told_to_ = report.last_part ? 0 : known_to;
  report.number = next_number_++ & kSequenceMask;
  report.acknowledged = to_wire(peer_initial, buffer.acknowledged());
  report.known_from = to_wire(peer_initial, known_from);
  report.known_to = to_wire(peer_initial, known_to);
  report.arrived = static_cast<uint64_t>(arrived_);
  report.duplicates = static_cast<uint32_t>(duplicates_);
  report.echo = last_stamp_;
  report.echo_held_us = static_cast<uint32_t>(std::min<Micros>(now - last_arrival_at_, 0x7fffffff));
  report.arrival_clock_us = static_cast<uint32_t>(last_arrival_at_);
  report.available_packets = static_cast<uint32_t>(buffer.available());
  report.reordering_us = static_cast<uint32_t>(std::min<Micros>(reordering(), 0x7fffffff));
  report.ended = ended;
  remember(report.number, now);
  last_told_at_ = now;
  unreported_ = 0;
  new_gap_ = urgent_ = false;
  return report;
}

Micros Acknowledger::ack_deadline(const ReceiveBuffer& buffer) const {
  if (urgent_) return last_told_at_ + kShortestInterval;
  Micros deadline = kNever;
  if (buffer.acknowledged() > full_told_) deadline = last_told_at_ + kInterval;
  // The peer has not said that it heard the last one: it may be lost.
  else if (buffer.acknowledged() > confirmed_) deadline = last_told_at_ + rtt_ + 4 * rtt_variance_ + kInterval;
  if (starved_) deadline = std::min(deadline, last_told_at_ + kStarvedRepeat);
  return deadline;
}

Ack Acknowledger::take_ack(const ReceiveBuffer& buffer, uint32_t peer_initial, bool light, uint32_t& number,
                           Micros now) {
  Ack ack;
  ack.sequence = to_wire(peer_initial, buffer.acknowledged());
  ack.light = light;
  light_told_ = buffer.acknowledged();
  if (light) {
    number = 0;
    return ack;
  }
  number = next_number_++ & kSequenceMask;
  ack.rtt_us = static_cast<uint32_t>(rtt_);
  ack.rtt_variance_us = static_cast<uint32_t>(rtt_variance_);
  // UDT4 never announces less than two: a closed window that nothing reopens would be for ever.
  ack.available_packets = static_cast<uint32_t>(std::max<size_t>(buffer.available(), 2));
  ack.receive_rate = static_cast<uint32_t>(speed_.rate());
  ack.link_capacity = static_cast<uint32_t>(speed_.capacity());
  full_told_ = buffer.acknowledged();
  remember(number, now);
  remembered_[number % kRememberedAcks].acknowledged = full_told_;
  last_told_at_ = now;
  urgent_ = false;
  return ack;
}

Micros Acknowledger::repeat_after(const Gap& gap) const {
  return rtt_ + 4 * rtt_variance_ + kInterval * static_cast<Micros>(std::min<uint32_t>(gap.times_told, 10));
}

Micros Acknowledger::due_at(const Gap& gap) const {
  if (gap.told_at == 0) return gap.noticed_at + std::min(reordering() + reordering() / 4, rtt_);
  return gap.told_at + repeat_after(gap);
}

Micros Acknowledger::nak_deadline() const {
  Micros deadline = kNever;
  for (const Gap& gap : gaps_) deadline = std::min(deadline, due_at(gap));
  return deadline;
}

size_t Acknowledger::take_losses(uint32_t peer_initial, uint8_t* list, size_t capacity, Micros now) {
  LossWriter writer(list, capacity);
  for (Gap& gap : gaps_) {
    if (due_at(gap) > now) continue;
    if (!writer.add({to_wire(peer_initial, gap.first), to_wire(peer_initial, gap.last)})) break;
    gap.told_at = now;
    ++gap.times_told;
  }
  return writer.size();
}

}  // namespace longhaul::udt
