// A connection's way out: its timers, and what is sent when.
#include "connection.hpp"

#include <algorithm>
#include <cstring>

namespace longhaul::udt {

namespace {

constexpr Micros kHelloInterval = 250'000;
constexpr Micros kKeepAlive = 1'000'000;
constexpr Micros kLongestProbeTimeout = 1'000'000;
constexpr int kTimeoutAfterProbes = 3;

}  // namespace

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

}  // namespace longhaul::udt
