#include "connection.hpp"

#include <algorithm>

namespace longhaul::udt {

namespace {

constexpr uint32_t kMessageMask = 0x1fffffff;
constexpr int kMostHellos = 8;  // a plain UDT4 peer answers none

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

bool Connection::message_fits_ever(size_t size) const {
  size_t packets = std::min<size_t>(send_.capacity(), settings_.agreement.peer_window);
  return size > 0 && size <= packets * send_.payload();
}

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
