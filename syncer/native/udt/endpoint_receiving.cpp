// An endpoint's way in: whom each datagram is for, and what strangers want.
#include <algorithm>
#include <utility>

#include "clock.hpp"
#include "endpoint.hpp"
#include "errors.hpp"
#include "random_value.hpp"

namespace longhaul::udt {
namespace {

constexpr int kReadsPerTurn = 8;
constexpr Micros kTombstoneLife = 30'000'000;
constexpr Micros kTombstoneAnswerInterval = 100'000;
constexpr uint32_t kIdMask = 0x3fffffff;

}  // namespace

void Endpoint::receive() {
  for (int read = 0; more_to_read_ && read < kReadsPerTurn; ++read) {
    const Micros now = monotonic_now();
    size_t bytes = 0;
    more_to_read_ = channel_->receive([&](const UdpChannel::Received& received) {
      bytes += received.datagram.size();
      on_datagram(received, now);
    });
    if (bytes > 0) note_read(bytes, now);
    // Neighbours are often of one connection: its mutex is taken once for all of them.
    if (held_ != nullptr) std::exchange(held_, nullptr)->mutex.unlock();
  }
}

void Endpoint::on_datagram(const UdpChannel::Received& received, Micros now) {
  const auto packet = parse_packet(received.datagram);
  if (!packet) return;
  const uint32_t id = packet->destination();
  if (held_ == nullptr || held_->id != id) {
    if (held_ != nullptr) std::exchange(held_, nullptr)->mutex.unlock();
    if (id == 0) {
      on_unaddressed(*received.path, *packet, now);
      return;
    }
    const auto found = flows_.find(id);
    if (found == flows_.end()) {
      on_lost_packet(*received.path, id, *packet, now);
      return;
    }
    if (!(found->second->path.peer == received.path->peer)) return;
    touch(*found->second);
    found->second->mutex.lock();
    held_ = found->second.get();
  } else if (!(held_->path.peer == received.path->peer)) {
    return;
  }
  held_->take(*packet, now);
}

// A packet for a connection that is not here: if it was, its peer may have missed the end.
void Endpoint::on_lost_packet(const Path& path, uint32_t id, const PacketView& packet, Micros now) {
  const auto found = tombstones_.find(id);
  if (found == tombstones_.end()) return;
  Tombstone& grave = found->second;
  if (!(grave.peer == path.peer) || now - grave.buried_at > kTombstoneLife) return;
  if (packet.is_control &&
      (packet.control.type == ControlType::kShutdown || packet.control.type == ControlType::kHandshake)) {
    return;
  }
  if (now - grave.answered_at < kTombstoneAnswerInterval) return;
  grave.answered_at = now;
  uint8_t out[kHeaderSize + 4] = {};
  write_header(ControlHeader{ControlType::kShutdown, 0, 0, 0, grave.peer_id}, out);
  const Datagram datagram{out, sizeof out};
  channel_->send(path, {&datagram, 1});
}

// Set-up.

void Endpoint::on_unaddressed(const Path& path, const PacketView& packet, Micros now) {
  if (!packet.is_control || packet.control.type != ControlType::kHandshake) return;
  const auto said = parse_handshake(packet.body);
  if (!said) return;
  if (on_rendezvous(path, *said, packet, now) || on_repeat(path, *said, now)) return;
  on_request(path, *said, now);
}

bool Endpoint::on_rendezvous(const Path& path, const Handshake& said, const PacketView& packet, Micros now) {
  Flow* trying = nullptr;
  for (Flow* flow : rendezvous_) {
    if (!(flow->path.peer == path.peer)) continue;
    std::lock_guard lock(flow->mutex);
    const bool its_own = flow->connection && flow->connection->agreement().peer_socket_id == said.socket_id;
    if (its_own || (trying == nullptr && flow->connecting())) trying = flow;
    if (its_own) break;
  }
  if (trying == nullptr) return false;
  std::lock_guard lock(trying->mutex);
  trying->take(packet, now);
  touch(*trying);
  return true;
}

// What was answered once is answered the same way again; what came to its end does not begin anew.
bool Endpoint::on_repeat(const Path& path, const Handshake& said, Micros now) {
  if (said.request != Handshake::kConclusion) return false;
  const auto grave = graves_.find({path.peer, said.socket_id});
  if (grave != graves_.end()) {
    const Tombstone& stone = tombstones_.at(grave->second);
    if (stone.peer_initial == said.initial_sequence && now - stone.buried_at < kTombstoneLife) return true;
  }
  const auto found = accepted_.find({path.peer, said.socket_id});
  if (found == accepted_.end()) return false;
  Flow& flow = *found->second;
  if (flow.accepted_reply.initial_sequence != said.initial_sequence) return false;
  reply(flow.path, flow.accepted_reply, said.socket_id);
  return true;
}

void Endpoint::on_request(const Path& path, const Handshake& said, Micros now) {
  std::shared_ptr<Listener> listener;
  {
    std::lock_guard lock(mutex_);
    listener = listener_;
  }
  if (!listener) return;
  // Only who showed the right cookie is worth asking the kernel about the route.
  Offer offer;
  if (said.request == Handshake::kConclusion && cookies_.accepts(said.cookie, path.peer.bytes(), now)) {
    offer = Flow::offer(listener->settings, listener->kind, path.peer);
    offer.socket_id = free_id();
  }
  const bool has_room = listener->has_room() && accepted_.size() < listener->settings.max_connections;
  const Verdict verdict = judge_request(said, path.peer.bytes(), offer, has_room, cookies_, now);
  if (verdict.action == Verdict::Action::kReply) reply(path, verdict.reply, said.socket_id);
  if (verdict.action == Verdict::Action::kAccept) accept(listener, path, verdict, now);
}

void Endpoint::accept(const std::shared_ptr<Listener>& listener, const Path& path, const Verdict& verdict, Micros now) {
  auto flow = std::make_shared<Flow>(listener->settings, listener->kind, path);
  flow->id = verdict.agreement.own_socket_id;
  flow->accepted = true;
  flow->accepted_reply = verdict.reply;
  flow->establish(verdict.agreement, 0, now);
  flows_[flow->id] = flow;
  accepted_[{path.peer, verdict.agreement.peer_socket_id}] = flow.get();
  if (!listener->offer(flow)) {
    remove(*flow, now);
    return;
  }
  touch(*flow);
  reply(path, verdict.reply, verdict.agreement.peer_socket_id);
}

void Endpoint::reply(const Path& path, const Handshake& handshake, uint32_t destination) {
  uint8_t out[kHeaderSize + kHandshakeSize];
  write_header(ControlHeader{ControlType::kHandshake, 0, 0, 0, destination}, out);
  write_handshake(handshake, out + kHeaderSize);
  const Datagram datagram{out, sizeof out};
  channel_->send(path, {&datagram, 1});
}

uint32_t Endpoint::free_id() {
  while (true) {
    const uint32_t id = random_value<uint32_t>() & kIdMask;
    if (id != 0 && !flows_.contains(id) && !tombstones_.contains(id)) return id;
  }
}

void Endpoint::begin(const std::shared_ptr<Flow>& flow, Micros now) {
  {
    std::lock_guard lock(flow->mutex);
    if (flow->closed) return;
    flow->id = free_id();
    flow->start(random_value<uint32_t>() & kSequenceMask, now);
  }
  flows_[flow->id] = flow;
  if (flow->settings.rendezvous) rendezvous_.push_back(flow.get());
  touch(*flow);
}

}  // namespace longhaul::udt
