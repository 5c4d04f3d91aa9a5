// A connection's way in: what each packet of the peer means.
#include "connection.hpp"

#include <algorithm>

namespace longhaul::udt {

namespace {

constexpr Micros kAck2Interval = 20'000;
constexpr Micros kOutdated = 100'000;
constexpr Micros kShortestReordering = 1'000;
constexpr Micros kSlowestAck = 100'000;  // libudt's ACKs are that far apart at low rates
constexpr Micros kDeliveredRatePeriod = 200'000;

}  // namespace

void Connection::on_packet(const PacketView& packet, Micros now) {
  if (closed_) return;
  last_heard_at_ = now;
  if (!packet.is_control) {
    on_data(packet, now);
    return;
  }
  switch (packet.control.type) {
    case ControlType::kAck:
      on_ack(packet, now);
      break;
    case ControlType::kAck2:
      on_ack2(packet, now);
      break;
    case ControlType::kNak:
      on_nak(packet, now);
      break;
    case ControlType::kShutdown:
      on_shutdown();
      break;
    case ControlType::kDropRequest:
      on_drop_request(packet, now);
      break;
    case ControlType::kKeepAlive:
      // It may be waiting for room, and what told it of that was lost.
      if (acknowledger_.arrived() > 0) acknowledger_.tell_now();
      break;
    case ControlType::kUser:
      if (!settings_.extensions) break;
      if (packet.control.subtype == static_cast<uint16_t>(Extension::kHello)) on_hello(packet);
      if (packet.control.subtype == static_cast<uint16_t>(Extension::kReport)) on_report(packet, now);
      if (packet.control.subtype == static_cast<uint16_t>(Extension::kEnd)) on_end(packet);
      break;
    case ControlType::kHandshake:
    case ControlType::kCongestionWarning:
    case ControlType::kPeerError:
      break;
  }
}

void Connection::on_data(const PacketView& packet, Micros now) {
  PacketNumber number = peer_number(packet.data.sequence);
  if (number < receive_.acknowledged() - 4 * static_cast<PacketNumber>(receive_.capacity())) return;
  if (peer_end_ && number >= *peer_end_) return;
  PacketNumber highest = receive_.highest();
  ReceiveBuffer::Arrival arrival = receive_.store(number, packet.data, packet.body);
  if (arrival == ReceiveBuffer::Arrival::kBeyond) return;
  if (arrival == ReceiveBuffer::Arrival::kNew) {
    counted_.bytes_received += static_cast<int64_t>(packet.body.size());
    check_end();
  }
  acknowledger_.on_arrival(number, highest, arrival, packet.data.timestamp, now);
  if (!extended()) acknowledger_.observe_speed(packet.data.sequence, now);
}


void Connection::on_ack(const PacketView& packet, Micros now) {
  std::optional<Ack> ack = parse_ack(packet.body);
  if (!ack) return;
  PacketNumber number = own_number(ack->sequence);
  if (number > scoreboard_.next_new()) return;
  ++counted_.acknowledgements_received;
  scoreboard_.begin_feedback(now, now);
  Micros rtt = 0;
  if (!ack->light) {
    ack2_due_ = packet.control.info;
    ack2_at_ = now;
    set_window(number, ack->available_packets);
    rtt = std::min<Micros>(ack->rtt_us, 60'000'000);
    peer_receive_rate_ = ack->receive_rate;
    peer_capacity_ = ack->link_capacity;
  }
  last_ack_at_ = now;
  scoreboard_.acknowledge(number);
  conclude_feedback(now, rtt);
}

void Connection::look_for_stale_holes(Micros now) {
  // An ACK is about what was sent a round trip before it came; and one would have come, if it had more to say.
  Micros patience = round_trip_.smoothed() + 4 * round_trip_.variance() + Acknowledger::kInterval;
  scoreboard_.begin_feedback(now, now);
  scoreboard_.look_for_stale_holes(std::max(last_ack_at_, now - kSlowestAck) - patience);
  if (scoreboard_.has_feedback()) conclude_feedback(now, 0);
  stale_check_at_ = now + Acknowledger::kInterval;
}

void Connection::on_ack2(const PacketView& packet, Micros now) {
  std::optional<Micros> rtt = acknowledger_.on_ack2(packet.control.info, now);
  if (!rtt) return;
  // Who sends data himself has better samples.
  if (scoreboard_.next_new() == 0 || !extended()) round_trip_.sample(*rtt, now);
  acknowledger_.set_round_trip(round_trip_.smoothed(), round_trip_.variance());
}

void Connection::on_nak(const PacketView& packet, Micros now) {
  ++counted_.loss_reports_received;
  scoreboard_.begin_feedback(now, now);
  // What was sent again less than a round trip ago is not what the peer misses.
  Micros fresh = now - (round_trip_.smoothed() - round_trip_.smoothed() / 8);
  LossReader reader(packet.body);
  while (std::optional<LossRange> range = reader.next()) {
    PacketNumber first = own_number(range->first);
    PacketNumber last = own_number(range->last);
    if (first > last || last >= scoreboard_.next_new()) break;
    scoreboard_.take_nak(first, last + 1, fresh);
  }
  conclude_feedback(now, 0);
}

void Connection::on_hello(const PacketView& packet) {
  std::optional<Hello> hello = parse_hello(packet.body);
  if (!hello) return;
  peer_hello_seen_ = true;
  if (hello->heard) {
    peer_heard_hello_ = true;
    hellos_left_ = 0;
  } else {
    hello_answer_due_ = true;
  }
}

void Connection::on_report(const PacketView& packet, Micros now) {
  std::optional<Report> report = parse_report(packet.body);
  if (!report) return;
  if (any_report_ && static_cast<int32_t>((report->number - last_report_) << 1) <= 0) return;
  PacketNumber acknowledged = own_number(report->acknowledged);
  PacketNumber known_from = own_number(report->known_from);
  PacketNumber known_to = own_number(report->known_to);
  if (acknowledged > known_from || known_from > known_to || known_to > scoreboard_.next_new() ||
      acknowledged < scoreboard_.acknowledged())
    return;
  peer_hello_seen_ = true;
  any_report_ = true;
  last_report_ = report->number;
  ++counted_.acknowledgements_received;
  if (!ack2_due_ && now >= ack2_at_ + kAck2Interval) {
    ack2_due_ = report->number;
    ack2_at_ = now;
  }
  conclude_feedback(now, take_in(*report, acknowledged, known_from, known_to, now));
  set_window(acknowledged, report->available_packets);
  if (report->ended && own_end_ && acknowledged >= *own_end_) own_end_arrived_ = true;
}

Micros Connection::take_in(const Report& report, PacketNumber acknowledged, PacketNumber known_from,
                           PacketNumber known_to, Micros now) {
  uint64_t arrivals = report.arrived + report.duplicates;
  bool something_came = arrivals != reported_arrivals_;
  reported_arrivals_ = arrivals;
  Micros rtt = 0;
  Micros clock = now;
  forward_delay_.reset();
  if (something_came) {
    auto age = static_cast<int32_t>(stamp(now) - report.echo);
    rtt = age - static_cast<Micros>(report.echo_held_us);
    if (age < 0 || rtt <= 0) rtt = 0;
    Micros echo = now - std::max<Micros>(age, 0);
    // A packet that the network kept for long, or somebody replays, says nothing of the path as it is now.
    bool outdated = echo < newest_echo_ - std::max(round_trip_.smoothed(), kOutdated);
    if (outdated) rtt = 0;
    newest_echo_ = std::max(newest_echo_, echo);
    if (!peer_clock_known_) {
      peer_clock_ = report.arrival_clock_us;
      peer_clock_offset_ = now - peer_clock_;
      peer_clock_known_ = true;
    }
    peer_clock_ += static_cast<int32_t>(report.arrival_clock_us - static_cast<uint32_t>(peer_clock_));
    peer_clock_offset_ = std::min(peer_clock_offset_, now - peer_clock_);
    clock = peer_clock_ + peer_clock_offset_;
    if (!outdated) forward_delay_ = peer_clock_ - echo;
  }
  scoreboard_.begin_feedback(now, clock);
  scoreboard_.acknowledge(acknowledged);
  // What is missing is lost if something that was sent later arrived: later by more than the path reorders.
  Micros most = round_trip_.smoothed();
  Micros reordering = std::max(std::min(most / 8, kShortestReordering),
                               std::min<Micros>(report.reordering_us + report.reordering_us / 4, most));
  Micros sent_before = newest_echo_ - reordering;
  PacketNumber cursor = known_from;
  LossReader missing(report.missing);
  while (std::optional<LossRange> range = missing.next()) {
    PacketNumber first = own_number(range->first);
    PacketNumber last = own_number(range->last);
    if (first < cursor || last < first || last >= known_to) return rtt;
    scoreboard_.deliver(cursor, first);
    scoreboard_.lose_reported(first, last + 1, sent_before - 1);
    cursor = last + 1;
  }
  if (missing.malformed()) return rtt;
  scoreboard_.deliver(cursor, known_to);
  if (report.last_part) scoreboard_.lose_tail(known_to, sent_before);
  return rtt;
}

void Connection::on_end(const PacketView& packet) {
  std::optional<End> end = parse_end(packet.body);
  if (!end) return;
  PacketNumber number = peer_number(end->end);
  if (number < receive_.highest() || (peer_end_ && number != *peer_end_)) return;
  peer_end_ = number;
  check_end();
  acknowledger_.tell_now();
}

void Connection::check_end() {
  if (peer_state_ != PeerState::kOpen || !peer_end_ || receive_.acknowledged() < *peer_end_) return;
  peer_state_ = PeerState::kEnded;
  acknowledger_.tell_now();
}

void Connection::on_drop_request(const PacketView& packet, Micros now) {
  std::optional<LossRange> range = parse_drop_request(packet.body);
  if (!range || settings_.agreement.kind != SocketKind::kDatagram) return;
  PacketNumber first = peer_number(range->first);
  PacketNumber last = peer_number(range->last);
  if (last < first || last - first >= static_cast<PacketNumber>(receive_.capacity())) return;
  // libudt names one too many: see emit_drop_requests.
  if (!extended() && last > first) --last;
  if (last >= receive_.base() + static_cast<PacketNumber>(receive_.capacity())) return;
  PacketNumber highest = receive_.highest();
  receive_.drop(first, last, packet.control.info);
  if (first > highest) acknowledger_.on_gap_before_drop(highest, first, packet.control.timestamp, now);
  acknowledger_.on_dropped(first, last);
}

void Connection::on_shutdown() {
  peer_gone_ = true;
  if (peer_state_ != PeerState::kOpen) return;
  // A plain peer does not say where its stream ends.
  bool whole = extended() ? false : receive_.acknowledged() == receive_.highest();
  peer_state_ = whole ? PeerState::kEnded : PeerState::kBroken;
}

void Connection::set_window(PacketNumber acknowledged, uint32_t available) {
  window_end_ = std::max(window_end_, acknowledged + static_cast<PacketNumber>(available));
}

void Connection::conclude_feedback(Micros now, Micros rtt) {
  if (rtt > 0) {
    round_trip_.sample(rtt, now);
    acknowledger_.set_round_trip(round_trip_.smoothed(), round_trip_.variance());
  }
  send_.release_to(scoreboard_.acknowledged());
  Feedback feedback = scoreboard_.end_feedback(now);
  feedback.rtt = rtt;
  feedback.smoothed_rtt = round_trip_.smoothed();
  feedback.forward_delay = forward_delay_;
  feedback.peer_receive_rate = peer_receive_rate_;
  feedback.peer_capacity = peer_capacity_;
  forward_delay_.reset();
  if (feedback.newly_delivered > 0) {
    backoff_ = 0;
    progress_at_ = now;
  }
  if (now - delivered_mark_at_ >= kDeliveredRatePeriod) {
    double rate = static_cast<double>(scoreboard_.delivered() - delivered_mark_) * 1e6 /
                  static_cast<double>(now - delivered_mark_at_);
    delivered_rate_ = delivered_rate_ == 0 ? rate : delivered_rate_ * 0.7 + rate * 0.3;
    delivered_mark_ = scoreboard_.delivered();
    delivered_mark_at_ = now;
  }
  control_->on_feedback(feedback);
}

}  // namespace longhaul::udt
