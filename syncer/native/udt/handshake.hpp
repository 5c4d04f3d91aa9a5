// Setting a connection up: the connecting side (also rendezvous), the listening side with its cookie. Pure.
//
//   connecting:  request (1) ->  <- cookie (1)   conclusion (-1, cookie) ->  <- conclusion (-1): connected
//   rendezvous:  rendezvous (0) -> <- rendezvous (0)   conclusion (-1) ->  <- conclusion (-1)   agreement (-2) ->: connected
//
// A conclusion of a rendezvous says that its sender has heard the other side, so who gets one is connected and answers
// with an agreement, as often as it is asked: no order, loss or repetition of packets leaves one side alone for long.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include "numbers.hpp"
#include "packet.hpp"

namespace longhaul::udt {

constexpr Micros kHandshakeInterval = 250'000;  // between repeats of what was not answered
constexpr uint32_t kSmallestMss = 200;         // bytes of an IP packet; less leaves next to nothing for data
constexpr uint32_t kSmallestWindow = 2;        // packets
constexpr uint32_t kLargestWindow = 0x3fffffff;  // packets: less than half of the sequence space

// What both ends agreed on.
struct Agreement {
  SocketKind kind = SocketKind::kStream;
  uint32_t own_socket_id = 0;
  uint32_t peer_socket_id = 0;
  uint32_t own_initial = 0;   // sequence of the first packet that we send
  uint32_t peer_initial = 0;  // of the first that we receive
  uint32_t mss = 1500;        // the smaller of both, bytes of an IP packet
  uint32_t peer_window = 0;   // packets that the peer can hold
  bool rendezvous = false;
};

struct Offer {
  SocketKind kind = SocketKind::kStream;
  uint32_t socket_id = 0;  // not 0
  uint32_t initial_sequence = 0;
  uint32_t mss = 1500;
  uint32_t flow_window = 25600;
  bool rendezvous = false;
  std::array<uint32_t, 4> peer_ip{};  // the peer's address as UDT4 writes it into its handshakes
};

class Connector {
 public:
  enum class State { kTrying, kConnected, kRefused, kTimedOut };

  // Gives up `patience` after `now`.
  Connector(const Offer& offer, Micros now, Micros patience);

  // What the peer said in a packet to our socket id or, in a rendezvous, to 0; anything that doesn't belong is ignored.
  // Also after kConnected: repeats are answered by poll().
  void on_handshake(const Handshake& said, Micros now);
  // The handshake to send now, with the socket id that it goes to (0 until that is known); call again until nothing.
  struct Message {
    Handshake handshake;
    uint32_t destination = 0;
  };
  std::optional<Message> poll(Micros now);
  Micros next_deadline() const;  // of poll(); kNever when it has nothing to do

  State state() const { return state_; }
  const Agreement& agreement() const { return agreement_; }  // once kConnected
  const std::string& reason() const { return reason_; }      // of kRefused and kTimedOut

 private:
  void on_regular(const Handshake& said, Micros now);
  void on_rendezvous(const Handshake& said, Micros now);
  void conclude(Micros now);
  bool matches(const Handshake& said);
  void connect(const Handshake& said);

  Offer offer_;
  State state_ = State::kTrying;
  Agreement agreement_;
  std::string reason_;
  std::string mismatch_;  // why an answer was ignored: explains a timeout
  Micros patience_;
  Micros give_up_at_;
  Micros send_at_;
  int32_t request_;
  uint32_t cookie_ = 0;
  uint32_t peer_socket_id_ = 0;
  std::optional<int32_t> answer_;  // of a rendezvous, owed to the peer
};

// The bytes of an address that a cookie is bound to: family, address, port.
using AddressBytes = std::array<uint8_t, 20>;

// Answers requests without keeping anything for them: a flood of spoofed ones costs no memory.
class CookieJar {
 public:
  explicit CookieJar(const std::array<uint8_t, 16>& secret) : secret_(secret) {}
  uint32_t cookie(const AddressBytes& address, Micros now) const;              // never 0
  bool accepts(uint32_t cookie, const AddressBytes& address, Micros now) const;  // of this minute or the one before

 private:
  std::array<uint8_t, 16> secret_;
};

// What a listener does with a handshake from a stranger. Replies go to the socket id that the stranger said.
struct Verdict {
  enum class Action { kIgnore, kReply, kAccept };
  Action action = Action::kIgnore;
  Handshake reply;      // of kReply: a cookie or a refusal; of kAccept: what to answer, now and to every repeat
  Agreement agreement;  // of kAccept
};

// `offer` is the listener's own, with the socket id that a new connection would get.
Verdict judge_request(const Handshake& said, const AddressBytes& from, const Offer& offer, bool has_room,
                      const CookieJar& jar, Micros now);

}  // namespace longhaul::udt
