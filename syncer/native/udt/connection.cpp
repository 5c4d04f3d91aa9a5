#include "connection.hpp"

#include <algorithm>
#include <cstring>

namespace longhaul::udt {

namespace {

constexpr uint32_t kMessageMask = 0x1fffffff;
constexpr int kMostHellos = 8;  // a plain UDT4 peer answers none
constexpr Micros kHelloInterval = 250'000;
constexpr Micros kKeepAlive = 1'000'000;
constexpr Micros kAck2Interval = 20'000;
constexpr Micros kLongestProbeTimeout = 1'000'000;
constexpr Micros kOutdated = 100'000;
constexpr Micros kShortestReordering = 1'000;
constexpr Micros kSlowestAck = 100'000;  // libudt's ACKs are that far apart at low rates
constexpr int kTimeoutAfterProbes = 3;
constexpr Micros kDeliveredRatePeriod = 200'000;

size_t payload_of(uint32_t mss, bool ipv6) { return mss - ip_header(ipv6) - kUdpHeader - kHeaderSize; }

}  // namespace

// A plain UDT4 peer reckons with IPv4's header for IPv6 as well, hence the size of the receive buffer's packets.
Connection::Connection(const ConnectionSettings& settings, Micros now)
    : settings_(settings),
      started_at_(now),
      payload_size_(payload_of(settings.agreement.mss, settings.ipv6)),
      packet_bits_(static_cast<double>((settings.agreement.mss + kLinkHeader) * 8)),
      send_(settings.send_packets, payload_size_),
      scoreboard_(settings.send_packets),
      receive_(settings.receive_packets, payload_of(settings.agreement.mss, false)),
      round_trip_(settings.initial_rtt),
      control_(make_control(settings.control)),
      window_end_(settings.agreement.peer_window),
      progress_at_(now),
      last_sent_at_(now),
      last_data_sent_at_(now),
      last_heard_at_(now),
      hellos_left_(settings.extensions ? kMostHellos : 0),
      hello_at_(now),
      delivered_mark_at_(now) {
  if (settings.initial_rtt > 0) acknowledger_.set_round_trip(settings.initial_rtt, settings.initial_rtt / 2);
}

PacketNumber Connection::own_number(uint32_t sequence) const {
  return from_wire(settings_.agreement.own_initial, sequence, scoreboard_.acknowledged());
}

PacketNumber Connection::peer_number(uint32_t sequence) const {
  return from_wire(settings_.agreement.peer_initial, sequence, receive_.acknowledged());
}

// The network's side.

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

// Timers.

Micros Connection::probe_slack() const {
  // A probe that comes too early costs one packet: a variance that is not yet known need not be waited for.
  Micros spread = std::min(4 * round_trip_.variance(), round_trip_.smoothed() / 2);
  return std::max<Micros>(spread, 2'000) + Acknowledger::kInterval + 5'000;
}

Micros Connection::probe_timeout() const {
  Micros timeout = round_trip_.smoothed() + probe_slack();
  Micros longest = std::max(kLongestProbeTimeout, 2 * round_trip_.smoothed());
  return std::min(timeout << std::min(backoff_, 6), longest);
}

Micros Connection::stale_deadline() const {
  return !extended() && scoreboard_.has_holes() ? stale_check_at_ : kNever;
}

Micros Connection::probe_deadline() const {
  if (scoreboard_.in_flight() == 0 || probe_due_) return kNever;
  // As long as news of older packets comes in, that of the newest may be held up.
  return std::max(progress_at_ + probe_slack(), last_data_sent_at_ + probe_timeout());
}

Micros Connection::keep_alive_deadline() const {
  Micros interval = std::min(kKeepAlive, settings_.dead_after / 4);
  Micros deadline = last_sent_at_ + interval;
  // What else a plain peer hears (NAKs, say) it may leave unanswered: it is asked when it has been silent.
  return extended() ? deadline : std::min(deadline, std::max(last_heard_at_, asked_at_) + interval);
}

Micros Connection::end_repeat() const { return std::max<Micros>(round_trip_.smoothed() + 20'000, 50'000); }

void Connection::run_timers(Micros now) {
  if (peer_gone_) return;
  if (now - last_heard_at_ >= settings_.dead_after) {
    peer_gone_ = true;
    if (peer_state_ == PeerState::kOpen) peer_state_ = PeerState::kSilent;
    return;
  }
  if (now >= stale_deadline()) look_for_stale_holes(now);
  if (now >= probe_deadline()) {
    probe_due_ = true;
    ++counted_.probes;
    if (++backoff_ == kTimeoutAfterProbes) {
      ++counted_.timeouts;
      control_->on_timeout(now);
    }
  }
}

bool Connection::drop_due(Micros now) const { return scoreboard_.waits_for_abandoned() && now >= drop_at_; }

Micros Connection::data_deadline() const {
  if (probe_due_) return 0;
  bool lost = scoreboard_.first_lost().has_value();
  PacketNumber next = scoreboard_.next_new();
  bool fresh = next < send_.sendable_end() && next < window_end_;
  if (!lost && !fresh) return kNever;
  if (static_cast<double>(scoreboard_.in_flight()) >= control_->window()) return kNever;
  return pacer_.ready_at();
}

Micros Connection::acknowledgement_deadline() const {
  if (extended()) return acknowledger_.report_deadline();
  if (receive_.highest() == 0) return kNever;
  if (acknowledger_.light_ack_due(receive_)) return 0;
  return std::min(acknowledger_.ack_deadline(receive_), acknowledger_.nak_deadline());
}

Micros Connection::next_deadline() const {
  if (closed_) return shutdown_sent_ ? kNever : 0;
  if (peer_gone_) return kNever;
  Micros deadline = std::min({data_deadline(), probe_deadline(), stale_deadline(), acknowledgement_deadline(),
                              keep_alive_deadline(), last_heard_at_ + settings_.dead_after});
  if (hello_answer_due_ || ack2_due_) return 0;
  if (hellos_left_ > 0) deadline = std::min(deadline, hello_at_);
  if (own_end_ && !own_end_arrived_ && extended()) deadline = std::min(deadline, end_at_);
  if (scoreboard_.waits_for_abandoned()) deadline = std::min(deadline, drop_at_);
  return deadline;
}

// Sending.

void Connection::emit(Micros now, Outbox& outbox) {
  if (shutdown_sent_) return;
  run_timers(now);
  emit_control(now, outbox);
  if (!closed_ && !peer_gone_) emit_data(now, outbox);
}

template <typename Fill>
bool Connection::put_control(ControlHeader header, size_t most, Micros now, Outbox& outbox, Fill fill) {
  uint8_t* out = outbox.control_room(kHeaderSize + most);
  if (out == nullptr) return false;
  header.timestamp = stamp(now);
  header.destination = settings_.agreement.peer_socket_id;
  // The body first: what it says may go into the header.
  size_t size = fill(out + kHeaderSize, header);
  write_header(header, out);
  outbox.add_control(kHeaderSize + size);
  last_sent_at_ = now;
  return true;
}

void Connection::emit_control(Micros now, Outbox& outbox) {
  // libudt's receiver wants a word of body in every control packet.
  auto word = [](uint8_t* body, ControlHeader&) {
    std::memset(body, 0, 4);
    return size_t{4};
  };
  auto extension = [](Extension subtype) {
    return ControlHeader{ControlType::kUser, static_cast<uint16_t>(subtype), 0, 0, 0};
  };
  if (closed_) {
    // What arrived and is not acknowledged yet would be taken for lost by the peer.
    if (!peer_gone_ && acknowledger_.arrived() > 0) emit_acknowledgement(now, outbox);
    // The last chance to tell an end from a break.
    if (own_end_ && !own_end_arrived_ && settings_.extensions && !peer_gone_ &&
        scoreboard_.acknowledged() >= *own_end_)
      put_end(now, outbox);
    if (put_control({ControlType::kShutdown, 0, 0, 0, 0}, 4, now, outbox, word)) shutdown_sent_ = true;
    return;
  }
  if (peer_gone_) return;
  if (hello_answer_due_ || (hellos_left_ > 0 && now >= hello_at_)) {
    bool put = put_control(extension(Extension::kHello), kHelloSize, now, outbox, [&](uint8_t* body, ControlHeader&) {
      return write_hello(Hello{1, 0, peer_hello_seen_}, body);
    });
    if (put) {
      if (!hello_answer_due_) --hellos_left_;
      hello_answer_due_ = false;
      hello_at_ = now + kHelloInterval;
    }
  }
  if (drop_due(now)) emit_drop_requests(now, outbox);
  if (own_end_ && !own_end_arrived_ && extended() && now >= end_at_ && put_end(now, outbox))
    end_at_ = now + end_repeat();
  if (acknowledgement_deadline() <= now) emit_acknowledgement(now, outbox);
  if (ack2_due_ && put_control({ControlType::kAck2, 0, *ack2_due_, 0, 0}, 4, now, outbox, word)) ack2_due_.reset();
  if (now >= keep_alive_deadline()) {
    // A plain UDT4 peer says nothing to a keep-alive, and none of its own as long as it hears us; an ACK it answers.
    if (extended())
      put_control({ControlType::kKeepAlive, 0, 0, 0, 0}, 4, now, outbox, word);
    else
      put_ack(false, now, outbox);
    asked_at_ = now;
  }
}

void Connection::emit_drop_requests(Micros now, Outbox& outbox) {
  uint32_t initial = settings_.agreement.own_initial;
  PacketNumber number = std::max(drop_from_, scoreboard_.acknowledged());
  while (number < scoreboard_.next_new()) {
    PacketNumber first = number++;
    if (!scoreboard_.is_abandoned(first)) continue;
    uint32_t message = send_.packet(first).message;
    while (number < scoreboard_.next_new() && send_.packet(number).message == message) ++number;
    PacketNumber last = number - 1;
    auto put = [&](PacketNumber from) {
      return put_control({ControlType::kDropRequest, 0, message, 0, 0}, 8, now, outbox,
                         [&](uint8_t* body, ControlHeader&) {
                           return write_drop_request({to_wire(initial, from), to_wire(initial, last)}, body);
                         });
    };
    // A plain peer may be one of ours, and does not trust the last of several.
    bool in_two = !extended() && last > first;
    if (!put(first) || (in_two && !put(last))) {
      drop_from_ = first;
      return;
    }
  }
  drop_from_ = 0;
  drop_at_ = now + round_trip_.smoothed() + 20'000;
}

bool Connection::put_end(Micros now, Outbox& outbox) {
  ControlHeader header{ControlType::kUser, static_cast<uint16_t>(Extension::kEnd), 0, 0, 0};
  return put_control(header, 4, now, outbox, [&](uint8_t* body, ControlHeader&) {
    return write_end(End{to_wire(settings_.agreement.own_initial, *own_end_)}, body);
  });
}

void Connection::emit_acknowledgement(Micros now, Outbox& outbox) {
  if (!extended()) {
    emit_plain_acknowledgements(now, outbox);
    return;
  }
  ControlHeader header{ControlType::kUser, static_cast<uint16_t>(Extension::kReport), 0, 0, 0};
  bool whole = false;
  for (int part = 0; part < Acknowledger::kMostParts && !whole; ++part) {
    bool put = put_control(header, payload_size_, now, outbox, [&](uint8_t* body, ControlHeader&) {
      size_t list_size = 0;
      Report report =
          acknowledger_.take_report(receive_, settings_.agreement.peer_initial, peer_state_ == PeerState::kEnded,
                                    body + kReportSize, payload_size_ - kReportSize, list_size, now);
      whole = report.last_part;
      return write_report(report, body) + list_size;
    });
    if (!put) return;
    ++counted_.acknowledgements_sent;
  }
}

void Connection::put_ack(bool light, Micros now, Outbox& outbox) {
  uint32_t initial = settings_.agreement.peer_initial;
  bool put = put_control({ControlType::kAck, 0, 0, 0, 0}, 24, now, outbox, [&](uint8_t* body, ControlHeader& header) {
    return write_ack(acknowledger_.take_ack(receive_, initial, light, header.info, now), body);
  });
  if (put) ++counted_.acknowledgements_sent;
}

void Connection::emit_plain_acknowledgements(Micros now, Outbox& outbox) {
  uint32_t initial = settings_.agreement.peer_initial;
  bool full = closed_ || acknowledger_.ack_deadline(receive_) <= now;
  if (full || acknowledger_.light_ack_due(receive_)) put_ack(!full, now, outbox);
  if (acknowledger_.nak_deadline() <= now) {
    bool put = put_control({ControlType::kNak, 0, 0, 0, 0}, payload_size_, now, outbox,
                           [&](uint8_t* body, ControlHeader&) {
                             return acknowledger_.take_losses(initial, body, payload_size_, now);
                           });
    if (put) ++counted_.loss_reports_sent;
  }
}

std::optional<PacketNumber> Connection::next_to_send(Micros now) {
  while (true) {
    std::optional<PacketNumber> number = scoreboard_.first_lost();
    if (!number && scoreboard_.next_new() < send_.sendable_end() && scoreboard_.next_new() < window_end_)
      number = scoreboard_.next_new();
    if (!number || now < send_.packet(*number).expires_at) return number;
    give_up_message(*number);
  }
}

void Connection::give_up_message(PacketNumber number) {
  uint32_t message = send_.packet(number).message;
  PacketNumber first = number;
  PacketNumber end = number + 1;
  while (first > scoreboard_.acknowledged() && send_.packet(first - 1).message == message) --first;
  while (end < send_.end() && send_.packet(end).message == message) ++end;
  scoreboard_.abandon(first, end);
  // At once of this one; of those before it when it is their time again.
  drop_from_ = drop_at_ == 0 ? std::min(drop_from_, first) : first;
  drop_at_ = 0;
}

std::optional<PacketNumber> Connection::number_to_probe() const {
  // The highest one tells of all that is missing before it. But a plain peer says nothing to one that it has.
  bool outstanding = scoreboard_.acknowledged() < scoreboard_.next_new();
  if (!extended() && backoff_ % 2 == 0 && outstanding && !scoreboard_.waits_for_abandoned())
    return scoreboard_.acknowledged();
  return scoreboard_.highest_in_flight();
}

void Connection::emit_data(Micros now, Outbox& outbox) {
  pacer_.begin(now);
  while (!outbox.full()) {
    std::optional<PacketNumber> number = next_to_send(now);
    if (probe_due_) {
      if (!number) number = number_to_probe();
      probe_due_ = false;
      if (number) transmit(*number, now, outbox);
      continue;
    }
    if (!number) {
      // Nothing is held back by us: what is delivered from here on says nothing of the path.
      if (scoreboard_.next_new() == send_.end() &&
          static_cast<double>(scoreboard_.in_flight()) < control_->window())
        scoreboard_.mark_application_limited();
      pacer_.idle(now);
      break;
    }
    if (static_cast<double>(scoreboard_.in_flight()) >= control_->window()) {
      pacer_.idle(now);
      break;
    }
    if (!pacer_.may_send()) break;
    transmit(*number, now, outbox);
  }
}

void Connection::transmit(PacketNumber number, Micros now, Outbox& outbox) {
  const SendBuffer::Packet& packet = send_.packet(number);
  DataHeader header;
  header.sequence = to_wire(settings_.agreement.own_initial, number);
  header.boundary = packet.boundary;
  header.in_order = packet.in_order;
  header.message = packet.message;
  header.timestamp = stamp(now);
  header.destination = settings_.agreement.peer_socket_id;
  write_header(header, send_.at(number));
  outbox.add(send_.at(number), kHeaderSize + packet.size);

  bool again = scoreboard_.was_sent_before(number);
  control_->on_sent(now, number, scoreboard_.in_flight(), scoreboard_.in_flight() == 0);
  scoreboard_.on_sent(number, now);
  ++counted_.packets_sent;
  if (again)
    ++counted_.packets_retransmitted;
  else
    counted_.bytes_sent += packet.size;
  size_t on_wire = kLinkHeader + ip_header(settings_.ipv6) + kUdpHeader + kHeaderSize + packet.size;
  pacer_.charge(static_cast<double>(on_wire * 8) / packet_bits_, control_->rate());
  last_sent_at_ = last_data_sent_at_ = now;
}

// The application's side.

SendBuffer::Claim Connection::begin_write(size_t bytes) {
  if (own_end_ || closed_ || peer_gone_) return {};
  return send_.claim(bytes, scoreboard_.next_new());
}

void Connection::end_write(const SendBuffer::Claim& claim) {
  send_.commit(claim, next_message_);
  next_message_ = next_message_ % kMessageMask + 1;
}

ReceiveBuffer::Claim Connection::begin_read(size_t bytes) { return receive_.claim(bytes); }

void Connection::end_read(const ReceiveBuffer::Claim& claim) {
  size_t before = receive_.available();
  receive_.release(claim);
  // The peer was told of little room: tell it once there is plenty.
  size_t plenty = receive_.capacity() / 4;
  if (before < plenty && receive_.available() >= plenty) acknowledger_.window_opened();
}

bool Connection::message_fits_ever(size_t size) const { return size > 0 && size <= send_.capacity() * send_.payload(); }

bool Connection::write_message(std::span<const uint8_t> message, Micros now, Micros lifetime, bool in_order) {
  if (own_end_ || closed_ || peer_gone_) return false;
  if ((message.size() + send_.payload() - 1) / send_.payload() > send_.free_packets()) return false;
  send_.append_message(message, next_message_, in_order, lifetime < 0 ? kNever : now + lifetime);
  next_message_ = next_message_ % kMessageMask + 1;
  return true;
}

std::optional<size_t> Connection::read_message(std::span<uint8_t> out) {
  size_t before = receive_.available();
  std::optional<size_t> size = receive_.read_message(out);
  size_t plenty = receive_.capacity() / 4;
  if (before < plenty && receive_.available() >= plenty) acknowledger_.window_opened();
  return size;
}

bool Connection::can_write() const { return !own_end_ && !closed_ && !peer_gone_ && send_.free_packets() > 0; }

bool Connection::can_read() const {
  return settings_.agreement.kind == SocketKind::kStream ? receive_.readable_bytes() > 0 : receive_.has_message();
}

void Connection::finish(Micros now) {
  if (own_end_) return;
  own_end_ = send_.end();
  end_at_ = now;
}

bool Connection::finished() const {
  if (!own_end_ || scoreboard_.acknowledged() < *own_end_) return false;
  return own_end_arrived_ || !extended();
}

void Connection::close() { closed_ = true; }

void Connection::set_rate_bps(double bits_per_second) { control_->set_ceiling(bits_per_second / packet_bits_); }

Statistics Connection::statistics(Micros now) const {
  Statistics result = counted_;
  result.age = now - started_at_;
  result.packets_lost = scoreboard_.lost_total();
  result.packets_spurious = scoreboard_.spurious_total();
  result.packets_delivered = scoreboard_.delivered();
  result.packets_received = acknowledger_.arrived();
  result.packets_duplicate = acknowledger_.duplicates();
  result.packets_missing = acknowledger_.missing_packets();
  result.bytes_delivered = send_.bytes_written() - static_cast<int64_t>(send_.bytes_from(scoreboard_.acknowledged()));
  result.rtt = round_trip_.smoothed();
  result.rtt_variance = round_trip_.variance();
  result.min_rtt = round_trip_.least();
  result.target_bps = control_->rate() * packet_bits_;
  result.delivered_bps = now - delivered_mark_at_ > 2'000'000 ? 0 : delivered_rate_ * packet_bits_;
  result.window_packets = control_->window();
  result.in_flight_packets = scoreboard_.in_flight();
  result.unsent_packets = send_.end() - scoreboard_.next_new();
  result.send_buffer_packets = static_cast<int64_t>(send_.used_packets());
  result.receive_buffer_packets = receive_.highest() - receive_.base();
  result.last_heard_ago = now - last_heard_at_;
  result.extended_peer = extended();
  result.control = control_->name();
  result.control_state = control_->state();
  return result;
}

}  // namespace longhaul::udt
