#include "handshake.hpp"

#include <algorithm>
#include <cstdio>
#include <span>

#include "byte_order.hpp"
#include "siphash.hpp"

namespace longhaul::udt {
namespace {

constexpr Micros kCookieLife = 60'000'000;

bool is_sane(const Handshake& said) {
  return said.mss >= kSmallestMss && said.flow_window >= kSmallestWindow && said.flow_window <= kSequenceMask;
}

uint32_t window_of(const Handshake& said) { return std::min(said.flow_window, kLargestWindow); }

std::string seconds(Micros time) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f s", static_cast<double>(time) / 1e6);
  return text;
}

const char* name_of(uint32_t kind) {
  if (kind == static_cast<uint32_t>(SocketKind::kStream)) return "a stream";
  if (kind == static_cast<uint32_t>(SocketKind::kDatagram)) return "messages";
  return "an unknown kind of socket";
}

}  // namespace

Connector::Connector(const Offer& offer, Micros now, Micros patience)
    : offer_(offer),
      patience_(patience),
      give_up_at_(patience > kNever - now ? kNever : now + patience),
      send_at_(now),
      request_(offer.rendezvous ? Handshake::kRendezvous : Handshake::kRequest) {}

void Connector::on_handshake(const Handshake& said, Micros now) {
  if (state_ == State::kRefused || state_ == State::kTimedOut) return;
  if (offer_.rendezvous)
    on_rendezvous(said, now);
  else
    on_regular(said, now);
}

void Connector::on_regular(const Handshake& said, Micros now) {
  if (state_ != State::kTrying) return;
  if (said.request >= Handshake::kRefusal) {
    state_ = State::kRefused;
    reason_ = "the other side refused the connection (code " + std::to_string(said.request) +
              "): it expects another kind of socket (stream or messages) or protocol version, or it has no room";
  } else if (said.request == Handshake::kRequest) {
    // Another cookie than the one we have: the old one may have expired, or the listener was started anew.
    if (request_ == Handshake::kConclusion && said.cookie == cookie_) return;
    cookie_ = said.cookie;
    conclude(now);
  } else if (said.request == Handshake::kConclusion && request_ == Handshake::kConclusion) {
    // The listener counts its own packets from the connector's initial sequence too.
    if (said.initial_sequence == offer_.initial_sequence && matches(said)) connect(said);
  }
}

void Connector::on_rendezvous(const Handshake& said, Micros now) {
  if (said.request == Handshake::kRequest || said.request >= Handshake::kRefusal) return;
  if (state_ == State::kConnected) {
    // The peer repeats itself: it hasn't heard that we are connected.
    if (said.request != Handshake::kAgreement && said.socket_id == peer_socket_id_) answer_ = Handshake::kAgreement;
    return;
  }
  if (!matches(said)) return;
  peer_socket_id_ = said.socket_id;  // the newest: a peer that started anew has another one
  if (said.request == Handshake::kRendezvous) {
    conclude(now);
    return;
  }
  // Who had concluded already answers with an agreement, others with their conclusion, as UDT4 does.
  if (said.request == Handshake::kConclusion)
    answer_ = request_ == Handshake::kConclusion ? Handshake::kAgreement : Handshake::kConclusion;
  connect(said);
}

void Connector::conclude(Micros now) {
  request_ = Handshake::kConclusion;
  send_at_ = now;
}

bool Connector::matches(const Handshake& said) {
  if (said.version != kProtocolVersion) {
    mismatch_ = "the other side speaks version " + std::to_string(said.version) + " of UDT, not 4";
  } else if (said.kind != static_cast<uint32_t>(offer_.kind)) {
    mismatch_ = std::string("the other side offers ") + name_of(said.kind) + ", this one " +
                name_of(static_cast<uint32_t>(offer_.kind));
  } else if (!is_sane(said) || said.socket_id == 0) {
    mismatch_ = "the other side offered a packet size or a window that is too small";
  } else {
    return true;
  }
  return false;
}

void Connector::connect(const Handshake& said) {
  state_ = State::kConnected;
  peer_socket_id_ = said.socket_id;
  agreement_ = {.kind = offer_.kind,
                .own_socket_id = offer_.socket_id,
                .peer_socket_id = said.socket_id,
                .own_initial = offer_.initial_sequence,
                .peer_initial = said.initial_sequence,
                .mss = std::min(offer_.mss, said.mss),
                .peer_window = window_of(said),
                .rendezvous = offer_.rendezvous};
}

std::optional<Connector::Message> Connector::poll(Micros now) {
  int32_t request = request_;
  if (state_ == State::kConnected && answer_) {
    request = *answer_;
    answer_.reset();
  } else if (state_ == State::kTrying && now >= give_up_at_) {
    state_ = State::kTimedOut;
    reason_ = "no answer within " + seconds(patience_);
    if (!mismatch_.empty()) reason_ += " that fits: " + mismatch_;
    return std::nullopt;
  } else if (state_ == State::kTrying && now >= send_at_) {
    send_at_ = now + kHandshakeInterval;
  } else {
    return std::nullopt;
  }
  Message message;
  message.handshake.kind = static_cast<uint32_t>(offer_.kind);
  message.handshake.initial_sequence = offer_.initial_sequence;
  message.handshake.mss = offer_.mss;
  message.handshake.flow_window = offer_.flow_window;
  message.handshake.request = request;
  message.handshake.socket_id = offer_.socket_id;
  message.handshake.cookie = cookie_;
  std::copy(offer_.peer_ip.begin(), offer_.peer_ip.end(), message.handshake.peer_ip);
  message.destination = offer_.rendezvous ? peer_socket_id_ : 0;  // a listener is addressed as 0
  return message;
}

Micros Connector::next_deadline() const {
  if (state_ == State::kConnected && answer_) return 0;
  return state_ == State::kTrying ? std::min(send_at_, give_up_at_) : kNever;
}

uint32_t CookieJar::cookie(const AddressBytes& address, Micros now) const {
  std::array<uint8_t, std::tuple_size_v<AddressBytes> + 8> message{};
  std::copy(address.begin(), address.end(), message.begin());
  write_u64(message.data() + address.size(), static_cast<uint64_t>(now / kCookieLife));
  const auto value = static_cast<uint32_t>(siphash_2_4(secret_, message));
  return value == 0 ? 1 : value;
}

bool CookieJar::accepts(uint32_t cookie, const AddressBytes& address, Micros now) const {
  return cookie == this->cookie(address, now) || cookie == this->cookie(address, now - kCookieLife);
}

Verdict judge_request(const Handshake& said, const AddressBytes& from, const Offer& offer, bool has_room,
                      const CookieJar& jar, Micros now) {
  Verdict verdict;
  if (said.socket_id == 0) return verdict;
  if (said.request == Handshake::kRequest) {
    verdict.action = Verdict::Action::kReply;
    verdict.reply = said;
    verdict.reply.cookie = jar.cookie(from, now);
    return verdict;
  }
  // A wrong cookie gets no answer: its sender may not be who it says.
  if (said.request != Handshake::kConclusion || !jar.accepts(said.cookie, from, now)) return verdict;
  verdict.reply = said;
  if (said.version != kProtocolVersion || said.kind != static_cast<uint32_t>(offer.kind) || !is_sane(said) || !has_room) {
    verdict.action = Verdict::Action::kReply;
    verdict.reply.request = Handshake::kRefused;
    return verdict;
  }
  verdict.action = Verdict::Action::kAccept;
  verdict.agreement = {.kind = offer.kind,
                       .own_socket_id = offer.socket_id,
                       .peer_socket_id = said.socket_id,
                       // Both directions count from the connector's: UDT4's connectors insist on it.
                       .own_initial = said.initial_sequence,
                       .peer_initial = said.initial_sequence,
                       .mss = std::min(offer.mss, said.mss),
                       .peer_window = window_of(said),
                       .rendezvous = false};
  verdict.reply.mss = verdict.agreement.mss;
  verdict.reply.flow_window = offer.flow_window;
  verdict.reply.socket_id = offer.socket_id;
  std::copy(offer.peer_ip.begin(), offer.peer_ip.end(), verdict.reply.peer_ip);
  return verdict;
}

}  // namespace longhaul::udt
