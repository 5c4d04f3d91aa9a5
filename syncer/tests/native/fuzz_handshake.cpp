// Fuzz target: connectors and a listener's judge, given arbitrary handshakes and each other's, in any order and at any
// time.
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "fuzz_check.hpp"
#include "handshake.hpp"

namespace longhaul::udt {
namespace {

class Scene {
 public:
  explicit Scene(Choices& choices)
      : choices_(choices),
        rendezvous_((choices.byte() & 1) != 0),
        jar_({1, 2, 3}),
        sides_{Side{Connector(offer(1), 0, 3'000'000)}, Side{Connector(offer(2), 0, 3'000'000)}} {}

  void run() {
    while (!choices_.empty()) step();
    for (auto& side : sides_) check(side);
  }

 private:
  struct Side {
    Connector connector;
    std::optional<Connector::State> settled = {};
    uint32_t peer_socket_id = 0;
  };

  Offer offer(uint32_t id) const {
    return {.kind = SocketKind::kStream,
            .socket_id = id,
            .initial_sequence = 1000 * id,
            .flow_window = 8192,
            .rendezvous = rendezvous_,
            .peer_ip = {}};
  }

  Handshake arbitrary() {
    std::array<uint8_t, kHandshakeSize> bytes{};
    const auto taken = choices_.bytes(kHandshakeSize);
    std::copy(taken.begin(), taken.end(), bytes.begin());
    return parse_handshake(bytes).value_or(Handshake{});
  }

  // A handshake that was sent before, perhaps with one word changed.
  Handshake seen() {
    if (sent_.empty()) return arbitrary();
    Handshake handshake = sent_[choices_.below(static_cast<uint32_t>(sent_.size()))];
    switch (choices_.byte() % 8) {
      case 0: handshake.version = choices_.word(); break;
      case 1: handshake.kind = choices_.word(); break;
      case 2: handshake.mss = choices_.word(); break;
      case 3: handshake.flow_window = choices_.word(); break;
      case 4: handshake.request = static_cast<int32_t>(choices_.byte()) - 3; break;
      case 5: handshake.socket_id = choices_.below(4); break;
      default: break;
    }
    return handshake;
  }

  void step() {
    Side& side = sides_[choices_.byte() & 1];
    switch (choices_.byte() % 6) {
      case 0: now_ += choices_.below(400'000); break;
      case 1: side.connector.on_handshake(arbitrary(), now_); break;
      case 2: side.connector.on_handshake(seen(), now_); break;
      case 3:
        if (const auto next = side.connector.next_deadline(); next != kNever) now_ = std::max(now_, next);
        break;
      case 4: {
        int messages = 0;
        while (const auto message = side.connector.poll(now_)) {
          REQUIRE_THAT(++messages <= 2);  // no input makes it talk without end
          REQUIRE_THAT(message->handshake.version == kProtocolVersion);
          keep(message->handshake);
        }
        // What is due was done.
        REQUIRE_THAT(side.connector.next_deadline() > now_);
        break;
      }
      default: listen(); break;
    }
    check(side);
  }

  void listen() {
    Offer own = offer(3);
    own.rendezvous = false;
    const Handshake said = (choices_.byte() & 1) != 0 ? seen() : arbitrary();
    AddressBytes from{};
    from[1] = choices_.byte() & 1;
    const bool room = (choices_.byte() & 7) != 0;
    const Verdict verdict = judge_request(said, from, own, room, jar_, now_);
    if (verdict.action == Verdict::Action::kIgnore) return;
    keep(verdict.reply);
    if (verdict.action != Verdict::Action::kAccept) return;
    REQUIRE_THAT(room);
    REQUIRE_THAT(jar_.accepts(said.cookie, from, now_));
    check_agreement(verdict.agreement);
  }

  void keep(const Handshake& handshake) {
    if (sent_.size() < 64) sent_.push_back(handshake);
  }

  static void check_agreement(const Agreement& agreement) {
    REQUIRE_THAT(agreement.mss >= kSmallestMss && agreement.mss <= 1500);
    REQUIRE_THAT(agreement.peer_window >= kSmallestWindow && agreement.peer_window <= kLargestWindow);
    REQUIRE_THAT(agreement.peer_socket_id != 0);
    REQUIRE_THAT(agreement.own_initial <= kSequenceMask && agreement.peer_initial <= kSequenceMask);
    REQUIRE_THAT(agreement.kind == SocketKind::kStream);
  }

  // What was decided stays decided.
  static void check(Side& side) {
    const auto state = side.connector.state();
    if (side.settled) REQUIRE_THAT(*side.settled == state);
    if (state == Connector::State::kTrying) return;
    if (!side.settled && state == Connector::State::kConnected)
      side.peer_socket_id = side.connector.agreement().peer_socket_id;
    side.settled = state;
    if (state == Connector::State::kConnected) {
      check_agreement(side.connector.agreement());
      REQUIRE_THAT(side.connector.agreement().peer_socket_id == side.peer_socket_id);
    } else {
      REQUIRE_THAT(!side.connector.reason().empty());
    }
  }

  Choices& choices_;
  bool rendezvous_;
  CookieJar jar_;
  std::array<Side, 2> sides_;
  std::vector<Handshake> sent_;
  Micros now_ = 0;
};

}  // namespace
}  // namespace longhaul::udt

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  longhaul::udt::Choices choices({data, size});
  longhaul::udt::Scene(choices).run();
  return 0;
}
