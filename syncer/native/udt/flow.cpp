#include "flow.hpp"

#include <algorithm>
#include <cstdio>
#include <utility>

namespace longhaul::udt {
namespace {

constexpr Micros kBlackHoleInterval = 500'000;
constexpr int64_t kBlackHolePackets = 5;  // that were sent and brought the peer no further
constexpr size_t kWritableShare = 16;  // of the send buffer, that an event loop is told of room

}  // namespace

Flow::Flow(const Settings& settings_given, SocketKind kind_given, const Path& path_given)
    : settings(settings_given), kind(kind_given), path(path_given) {}

size_t Flow::packets_of(size_t bytes, uint32_t mss) {
  const size_t payload = mss - ip_header(false) - kUdpHeader - kHeaderSize;
  // Windows travel in packets: enough for the fewest that are of use, and for the most that the numbers can tell apart.
  return std::clamp<size_t>((bytes + payload - 1) / payload, 32, size_t{1} << 24);
}

Offer Flow::offer(const Settings& settings, SocketKind kind, const SocketAddress& peer) {
  Offer offer;
  offer.kind = kind;
  // A packet that the first hop can't carry is never offered; what a later one can't carry is found out on the way.
  offer.mss = settings.mss;
  if (const auto mtu = UdpChannel::path_mtu(peer)) offer.mss = std::max(std::min(offer.mss, *mtu), kSmallestMss);
  offer.flow_window = static_cast<uint32_t>(packets_of(settings.receive_buffer_bytes, settings.mss));
  offer.rendezvous = settings.rendezvous;
  offer.peer_ip = peer.handshake_words();
  return offer;
}

void Flow::start(uint32_t initial_sequence, Micros now) {
  Offer own = offer(settings, kind, path.peer);
  own.socket_id = id;
  own.initial_sequence = initial_sequence;
  connector.emplace(own, now, settings.connect_timeout);
}

void Flow::establish(const Agreement& agreement, Micros rtt, Micros now) {
  ConnectionSettings own;
  own.agreement = agreement;
  own.ipv6 = path.peer.over_ipv6();
  own.send_packets = packets_of(settings.send_buffer_bytes, agreement.mss);
  // As was announced, whatever the packet size that was agreed on.
  own.receive_packets = packets_of(settings.receive_buffer_bytes, settings.mss);
  own.dead_after = settings.dead_after;
  own.initial_rtt = rtt;
  own.extensions = settings.extensions;
  const double packet_bits = static_cast<double>((agreement.mss + kLinkHeader) * 8);
  own.control.kind = settings.control;
  own.control.packet_bits = packet_bits;
  own.control.rate = settings.rate_bps / packet_bits;
  own.control.ceiling = settings.ceiling_bps / packet_bits;
  own.control.initial_rtt = rtt;
  own.control.seed = (uint64_t{agreement.own_initial} << 32 | agreement.own_socket_id) + 1;
  connection = std::make_unique<Connection>(own, now);
}

void Flow::take(const PacketView& packet, Micros now) {
  if (packet.is_control && packet.control.type == ControlType::kHandshake) {
    const auto said = connector ? parse_handshake(packet.body) : std::nullopt;
    if (!said) return;
    connector->on_handshake(*said, now);
    check_connector(now);
    handshakes_unanswered_ = 0;
    return;
  }
  if (connection) connection->on_packet(packet, now);
}

void Flow::check_connector(Micros now) {
  if (connection || failure || !connector) return;
  switch (connector->state()) {
    case Connector::State::kTrying:
      break;
    case Connector::State::kConnected: {
      const Micros rtt = handshakes_unanswered_ == 1 ? std::max<Micros>(now - handshake_sent_at_, 1) : 0;
      establish(connector->agreement(), rtt, now);
      break;
    }
    case Connector::State::kRefused:
      // Not the number of a closed port: here somebody answered.
      fail(Error(ErrorKind::kRefused, path.peer.text() + ": " + connector->reason(), ECONNABORTED));
      break;
    case Connector::State::kTimedOut:
      fail(Error(ErrorKind::kTimedOut, path.peer.text() + ": " + connector->reason()));
      break;
  }
}

void Flow::poll_connector(Micros now, Outbox& outbox) {
  while (auto message = connector->poll(now)) {
    uint8_t* out = outbox.control_room(kHeaderSize + kHandshakeSize);
    if (out == nullptr) return;
    write_header(ControlHeader{ControlType::kHandshake, 0, 0, 0, message->destination}, out);
    write_handshake(message->handshake, out + kHeaderSize);
    outbox.add_control(kHeaderSize + kHandshakeSize);
    handshake_sent_at_ = now;
    ++handshakes_unanswered_;
  }
  check_connector(now);
}

// A path that swallows large packets without a word: handshakes, keep-alives and small packets pass, the one that all
// waits for never does. The peer lives, so nothing else would end the wait.
void Flow::check_black_hole(Micros now) {
  if (now < black_hole_check_at_) return;
  black_hole_check_at_ = now + kBlackHoleInterval;
  const Statistics so_far = connection->statistics(now);
  const bool waits = so_far.in_flight_packets > 0;
  if (!waits || so_far.bytes_delivered != black_hole_bytes_) {
    black_hole_bytes_ = so_far.bytes_delivered;
    black_hole_sent_ = so_far.packets_sent;
    black_hole_since_ = now;
    return;
  }
  const bool peer_lives = !connection->peer_gone() && so_far.last_heard_ago < settings.dead_after;
  const int64_t in_vain = so_far.packets_sent - black_hole_sent_;
  if (!peer_lives || in_vain < kBlackHolePackets || now - black_hole_since_ < 2 * settings.dead_after) return;
  fail(Error(ErrorKind::kSystem,
             path.peer.text() + ": the peer answers, but " + std::to_string(in_vain) +
                 " data packets brought it no further: the way there may carry less than IP packets of " +
                 std::to_string(connection->agreement().mss) + " bytes; connect again with a smaller mss",
             EMSGSIZE));
}

void Flow::emit(Micros now, Outbox& outbox) {
  if (connector && !failure && !closed) poll_connector(now, outbox);
  if (connection && !failure && !closed) check_black_hole(now);
  if (connection) connection->emit(now, outbox);
  scheduled = next_deadline();
  wake_queued = false;
}

bool Flow::gone() const {
  if (connection) return connection->closed();
  return closed;
}

void Flow::fail(const Error& error) {
  if (failure || closed) return;
  failure = error;
  if (connection) connection->close();
}

Micros Flow::next_deadline() const {
  Micros next = connection ? connection->next_deadline() : kNever;
  if (connector && !failure && !closed) next = std::min(next, connector->next_deadline());
  return next;
}

bool Flow::can_read_or_fails() const {
  if (failure || closed) return true;
  return connection && (connection->can_read() || connection->at_end());
}

bool Flow::can_write_or_fails() const {
  if (failure || closed) return true;
  if (!connection) return false;
  if (ended) return connection->finished() || connection->peer_gone();
  return connection->peer_gone() ||
         connection->free_packets() >= std::max<size_t>(connection->send_capacity() / kWritableShare, 1);
}

bool Flow::enough_to_read() const {
  if (failure || closed) return true;
  if (!connection) return false;
  if (connection->peer_state() != PeerState::kOpen) return true;
  return kind == SocketKind::kStream ? connection->readable_bytes() >= read_wanted : connection->can_read();
}

bool Flow::enough_room() const {
  if (failure || closed) return true;
  return connection && (connection->peer_gone() || connection->free_packets() >= write_wanted);
}

bool Flow::worth_telling() {
  if (!connection || failure || closed || connection->peer_gone()) return true;
  const bool just_established = !std::exchange(establishment_told_, true);
  const bool delivered = connection->free_packets() == connection->send_capacity();
  return just_established || delivered || connection->unsent_packets() < unsent_wanted;
}

Flow::Notices Flow::settle() {
  if (readiness_used_) {
    readiness_.readable.set(can_read_or_fails());
    readiness_.writable.set(can_write_or_fails());
  }
  return {read_wanted > 0 && enough_to_read(), write_wanted > 0 && enough_room(), watchers > 0 && worth_telling()};
}

void Flow::notify(const Notices& notices) {
  if (notices.reader) reader.notify_all();
  if (notices.writer) writer.notify_all();
  if (notices.watchers) watcher.notify_all();
}

int Flow::readable_descriptor() {
  readiness_used_ = true;
  settle();
  return readiness_.readable.descriptor();
}

int Flow::writable_descriptor() {
  readiness_used_ = true;
  settle();
  return readiness_.writable.descriptor();
}

Error Flow::broken_error() const {
  if (closed) return {ErrorKind::kClosed, "the socket was closed at this end"};
  if (failure) return *failure;
  if (!connection) return {ErrorKind::kNotConnected, "the socket is not connected"};
  switch (connection->peer_state()) {
    case PeerState::kSilent: {
      char time[32];
      std::snprintf(time, sizeof time, "%.1f s", static_cast<double>(settings.dead_after) / 1e6);
      return {ErrorKind::kSilent, path.peer.text() + ": nothing was heard of the peer for " + time};
    }
    case PeerState::kBroken:
      return {ErrorKind::kBroken, path.peer.text() + ": the peer closed the connection before all of it had arrived"};
    case PeerState::kEnded:
    case PeerState::kOpen:
      break;
  }
  return {ErrorKind::kBroken, path.peer.text() + ": the peer closed the connection"};
}

}  // namespace longhaul::udt
