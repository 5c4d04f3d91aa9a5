#include "handshake.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <random>
#include <vector>

#include "golden.hpp"
#include "packet.hpp"

namespace longhaul::udt {
namespace {

constexpr Micros kSecond = 1'000'000;

Offer offer_of(uint32_t id, bool rendezvous = false) {
  return {.kind = SocketKind::kStream,
          .socket_id = id,
          .initial_sequence = id * 1000,
          .mss = 1500,
          .flow_window = 8192,
          .rendezvous = rendezvous,
          .peer_ip = {0x0100007f, 0, 0, 0}};
}

AddressBytes address_of(uint8_t host) {
  AddressBytes bytes{};
  bytes[0] = 4;
  bytes[1] = host;
  return bytes;
}

const CookieJar& jar() {
  static const CookieJar jar({1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16});
  return jar;
}

// How a network treats handshakes, by chance but from a seed.
struct Treatment {
  double loss = 0;
  double duplication = 0;
  Micros delay = 40'000;
  Micros jitter = 0;  // uniform; more than the repeats' interval reorders
};

// Carries handshakes in one direction.
class Channel {
 public:
  Channel(Treatment treatment, uint32_t seed) : treatment_(treatment), random_(seed) {}

  void send(const Handshake& handshake, uint32_t destination, Micros now) {
    if (chance(treatment_.loss)) return;
    for (int copies = chance(treatment_.duplication) ? 2 : 1; copies > 0; --copies) {
      const auto jitter = static_cast<Micros>(unit_(random_) * static_cast<double>(treatment_.jitter));
      under_way_.emplace(now + treatment_.delay + jitter, std::pair(handshake, destination));
    }
  }
  Micros next_arrival() const { return under_way_.empty() ? kNever : under_way_.begin()->first; }
  std::optional<std::pair<Handshake, uint32_t>> arrive(Micros now) {
    if (next_arrival() > now) return std::nullopt;
    auto arrived = under_way_.begin()->second;
    under_way_.erase(under_way_.begin());
    return arrived;
  }

 private:
  bool chance(double probability) { return unit_(random_) < probability; }

  Treatment treatment_;
  std::mt19937 random_;
  std::uniform_real_distribution<double> unit_{0, 1};
  std::multimap<Micros, std::pair<Handshake, uint32_t>> under_way_;
};

// Runs two sides that talk over a channel each way until both have nothing to do any more. Returns the time.
template <typename Left, typename Right>
Micros converse(Left& left, Right& right, Treatment treatment, uint32_t seed, Micros until) {
  Channel to_right(treatment, seed), to_left(treatment, seed + 1'000'000);
  Micros now = 0;
  while (true) {
    while (const auto message = left.poll(now)) to_right.send(message->handshake, message->destination, now);
    while (const auto message = right.poll(now)) to_left.send(message->handshake, message->destination, now);
    const Micros next = std::min({left.next_deadline(), right.next_deadline(), to_left.next_arrival(),
                                  to_right.next_arrival()});
    if (next == kNever || next > until) return now;
    now = std::max(now, next);
    while (const auto arrived = to_right.arrive(now)) right.on_handshake(arrived->first, arrived->second, now);
    while (const auto arrived = to_left.arrive(now)) left.on_handshake(arrived->first, arrived->second, now);
  }
}

// A connector as its endpoint holds it: what is not for it does not reach it.
class ConnectingSide {
 public:
  explicit ConnectingSide(const Offer& offer, Micros start = 0, Micros patience = 3 * kSecond)
      : connector(offer, start, patience), offer_(offer) {}

  void on_handshake(const Handshake& said, uint32_t destination, Micros now) {
    if (destination == offer_.socket_id || (destination == 0 && offer_.rendezvous)) connector.on_handshake(said, now);
  }
  auto poll(Micros now) { return connector.poll(now); }
  Micros next_deadline() const { return connector.next_deadline(); }

  Connector connector;

 private:
  Offer offer_;
};

// A listener as its endpoint holds it: it remembers what it accepted.
class ListeningSide {
 public:
  explicit ListeningSide(Offer offer, bool has_room = true) : offer_(offer), has_room_(has_room) {}

  void on_handshake(const Handshake& said, uint32_t destination, Micros now) {
    CHECK(destination == 0);
    if (const auto known = answers_.find(said.socket_id); known != answers_.end()) {
      if (said.request == Handshake::kConclusion) replies_.push_back({known->second, said.socket_id});
      return;
    }
    const auto verdict = judge_request(said, address_of(1), offer_, has_room_, jar(), now);
    if (verdict.action == Verdict::Action::kIgnore) return;
    replies_.push_back({verdict.reply, said.socket_id});
    if (verdict.action != Verdict::Action::kAccept) return;
    answers_[said.socket_id] = verdict.reply;
    accepted.push_back(verdict.agreement);
  }
  std::optional<Connector::Message> poll(Micros) {
    if (replies_.empty()) return std::nullopt;
    const auto message = replies_.front();
    replies_.erase(replies_.begin());
    return message;
  }
  Micros next_deadline() const { return replies_.empty() ? kNever : 0; }

  std::vector<Agreement> accepted;

 private:
  Offer offer_;
  bool has_room_;
  std::map<uint32_t, Handshake> answers_;
  std::vector<Connector::Message> replies_;
};

void check_same(const Agreement& one, const Agreement& other) {
  CHECK(one.kind == other.kind);
  CHECK(one.mss == other.mss);
  CHECK(one.own_socket_id == other.peer_socket_id);
  CHECK(one.peer_socket_id == other.own_socket_id);
  CHECK(one.own_initial == other.peer_initial);
  CHECK(one.peer_initial == other.own_initial);
  CHECK(one.rendezvous == other.rendezvous);
}

TEST_CASE("a connection takes two round trips, and both ends agree") {
  ConnectingSide client(offer_of(7));
  Offer offer = offer_of(9);
  offer.mss = 1400;
  offer.flow_window = 100;
  ListeningSide listener(offer);
  CHECK(converse(client, listener, {.delay = 40'000}, 1, kSecond) == 160'000);
  REQUIRE(client.connector.state() == Connector::State::kConnected);
  REQUIRE(listener.accepted.size() == 1);
  const Agreement& agreed = client.connector.agreement();
  check_same(agreed, listener.accepted[0]);
  CHECK(agreed.mss == 1400);
  CHECK(agreed.own_initial == 7000);
  CHECK(agreed.peer_initial == 7000);
  CHECK(agreed.peer_window == 100);
  CHECK(listener.accepted[0].peer_window == 8192);
  CHECK(client.connector.next_deadline() == kNever);
}

TEST_CASE("connections come about over lossy, reordering, duplicating networks, once each") {
  for (uint32_t seed = 0; seed < 300; ++seed) {
    CAPTURE(seed);
    ConnectingSide client(offer_of(7), 0, 60 * kSecond);
    ListeningSide listener(offer_of(9));
    converse(client, listener, {.loss = 0.4, .duplication = 0.3, .delay = 1'000, .jitter = 700'000}, seed, 61 * kSecond);
    REQUIRE(client.connector.state() == Connector::State::kConnected);
    REQUIRE(listener.accepted.size() == 1);
    check_same(client.connector.agreement(), listener.accepted[0]);
  }
}

TEST_CASE("a rendezvous connects both sides whatever the order, with losses, duplicates and reordering") {
  std::mt19937 random(5);
  for (uint32_t seed = 0; seed < 1000; ++seed) {
    CAPTURE(seed);
    const Micros start = seed % 3 == 0 ? 0 : static_cast<Micros>(random() % 2'000'000);
    ConnectingSide left(offer_of(7, true), 0, 60 * kSecond), right(offer_of(9, true), start, 60 * kSecond);
    const Treatment treatment{.loss = 0.1 * (seed % 6), .duplication = 0.3, .delay = 20'000,
                              .jitter = seed % 2 == 0 ? 0 : 600'000};
    converse(left, right, treatment, seed, 62 * kSecond);
    REQUIRE(left.connector.state() == Connector::State::kConnected);
    REQUIRE(right.connector.state() == Connector::State::kConnected);
    check_same(left.connector.agreement(), right.connector.agreement());
    CHECK(left.connector.agreement().own_initial == 7000);
    CHECK(right.connector.agreement().own_initial == 9000);
    CHECK(left.connector.next_deadline() == kNever);
  }
}

TEST_CASE("a rendezvous on a clean network takes one round trip, and then is silent") {
  ConnectingSide left(offer_of(7, true)), right(offer_of(9, true));
  CHECK(converse(left, right, {.delay = 50'000}, 1, 10 * kSecond) <= 200'000);
  CHECK(left.connector.state() == Connector::State::kConnected);
  CHECK(right.connector.state() == Connector::State::kConnected);
}

TEST_CASE("nobody there: the connector repeats four times a second, then gives up") {
  Connector connector(offer_of(7), 5 * kSecond, 3 * kSecond);
  std::vector<Micros> sent;
  for (Micros now = 5 * kSecond; connector.next_deadline() != kNever; now = connector.next_deadline())
    while (connector.poll(now)) sent.push_back(now);
  CHECK(sent.front() == 5 * kSecond);
  CHECK(sent.size() == 12);
  CHECK(sent[11] - sent[10] == 250'000);
  CHECK(connector.state() == Connector::State::kTimedOut);
  CHECK(connector.reason() == "no answer within 3.0 s");
}

TEST_CASE("a listener refuses another kind of socket, another version and when it has no room; the connector says so") {
  const auto outcome = [](Offer client_offer, bool has_room) {
    ConnectingSide client(client_offer);
    ListeningSide listener(offer_of(9), has_room);
    converse(client, listener, {}, 1, 4 * kSecond);
    CHECK(listener.accepted.empty());
    return client.connector;
  };
  Offer datagrams = offer_of(7);
  datagrams.kind = SocketKind::kDatagram;
  Offer tiny_packets = offer_of(7);
  tiny_packets.mss = 100;
  Offer no_window = offer_of(7);
  no_window.flow_window = 1;
  for (const Connector& connector : {outcome(datagrams, true), outcome(offer_of(7), false), outcome(tiny_packets, true),
                                     outcome(no_window, true)}) {
    CHECK(connector.state() == Connector::State::kRefused);
    CHECK(connector.reason().find("code 1002") != std::string::npos);
    CHECK(connector.next_deadline() == kNever);
  }

  Handshake version_5{.version = 5, .initial_sequence = 1, .flow_window = 8192, .request = -1, .socket_id = 7};
  version_5.cookie = jar().cookie(address_of(1), 0);
  const auto verdict = judge_request(version_5, address_of(1), offer_of(9), true, jar(), 0);
  CHECK(verdict.action == Verdict::Action::kReply);
  CHECK(verdict.reply.request == Handshake::kRefused);
}

TEST_CASE("a cookie is good for its address and for one to two minutes") {
  const uint32_t cookie = jar().cookie(address_of(1), 0);
  CHECK(cookie != 0);
  CHECK(jar().accepts(cookie, address_of(1), 119 * kSecond));
  CHECK(!jar().accepts(cookie, address_of(1), 120 * kSecond));
  CHECK(!jar().accepts(cookie, address_of(2), 0));
  CHECK(!jar().accepts(cookie + 1, address_of(1), 0));
  CHECK(CookieJar({}).cookie(address_of(1), 0) != cookie);
}

TEST_CASE("a listener ignores conclusions without a right cookie, rendezvous and refusals, and strangers without an id") {
  Handshake said{.initial_sequence = 1, .flow_window = 8192, .request = Handshake::kConclusion, .socket_id = 7};
  const auto action = [](const Handshake& handshake) {
    return judge_request(handshake, address_of(1), offer_of(9), true, jar(), 0).action;
  };
  CHECK(action(said) == Verdict::Action::kIgnore);
  said.cookie = jar().cookie(address_of(2), 0);
  CHECK(action(said) == Verdict::Action::kIgnore);
  said.cookie = jar().cookie(address_of(1), 0);
  CHECK(action(said) == Verdict::Action::kAccept);
  for (const int32_t request : {Handshake::kRendezvous, Handshake::kAgreement, Handshake::kRefused, 2000}) {
    said.request = request;
    CHECK(action(said) == Verdict::Action::kIgnore);
  }
  said.request = Handshake::kRequest;
  CHECK(action(said) == Verdict::Action::kReply);
  said.socket_id = 0;
  CHECK(action(said) == Verdict::Action::kIgnore);
}

TEST_CASE("a connector takes only an answer that fits: its own initial sequence, the kind, a sane size") {
  const auto connector_with_cookie = [] {
    Connector connector(offer_of(7), 0, 3 * kSecond);
    Handshake cookie{.initial_sequence = 7000, .request = Handshake::kRequest, .socket_id = 7, .cookie = 99};
    connector.on_handshake(cookie, 10'000);
    const auto message = connector.poll(10'000);
    REQUIRE(message);
    CHECK(message->handshake.cookie == 99);
    CHECK(message->handshake.request == Handshake::kConclusion);
    CHECK(message->destination == 0);
    return connector;
  };
  const Handshake fits{.initial_sequence = 7000, .mss = 1400, .flow_window = 64, .request = -1, .socket_id = 9};
  Connector good = connector_with_cookie();
  good.on_handshake(fits, 20'000);
  CHECK(good.state() == Connector::State::kConnected);

  std::vector<Handshake> wrong(7, fits);
  wrong[0].initial_sequence = 7001;
  wrong[1].kind = 2;
  wrong[2].version = 3;
  wrong[3].mss = 100;
  wrong[4].flow_window = 0;
  wrong[5].socket_id = 0;
  wrong[6].request = Handshake::kAgreement;
  for (const auto& answer : wrong) {
    Connector connector = connector_with_cookie();
    connector.on_handshake(answer, 20'000);
    CHECK(connector.state() == Connector::State::kTrying);
  }
  Connector before_the_cookie(offer_of(7), 0, 3 * kSecond);
  before_the_cookie.on_handshake(fits, 10'000);
  CHECK(before_the_cookie.state() == Connector::State::kTrying);
}

TEST_CASE("a timeout tells why answers did not fit") {
  Connector connector(offer_of(7, true), 0, kSecond);
  connector.on_handshake({.kind = 2, .initial_sequence = 1, .flow_window = 64, .request = 0, .socket_id = 9}, 1000);
  while (connector.next_deadline() != kNever) connector.poll(connector.next_deadline());
  CHECK(connector.state() == Connector::State::kTimedOut);
  CHECK(connector.reason() == "no answer within 1.0 s that fits: the other side offers messages, this one a stream");
}

// The captured handshakes hold our own code against libudt's, byte for byte. Over IPv6 libudt writes the cookie over the
// first word of the address, which nobody reads: left out here.

Handshake handshake_of(const golden::Captured& captured) {
  const auto packet = parse_packet(captured.bytes);
  REQUIRE(packet);
  REQUIRE(packet->control.type == ControlType::kHandshake);
  const auto handshake = parse_handshake(packet->body);
  REQUIRE(handshake);
  return *handshake;
}

std::vector<uint8_t> datagram_of(const Handshake& handshake, uint32_t destination) {
  std::vector<uint8_t> bytes(kHeaderSize + kHandshakeSize);
  write_header({.type = ControlType::kHandshake, .destination = destination}, bytes.data());
  write_handshake(handshake, bytes.data() + kHeaderSize);
  return bytes;
}

Offer offer_in(const Handshake& said, bool rendezvous = false) {
  Offer offer{.kind = static_cast<SocketKind>(said.kind),
              .socket_id = said.socket_id,
              .initial_sequence = said.initial_sequence,
              .mss = said.mss,
              .flow_window = said.flow_window,
              .rendezvous = rendezvous};
  std::copy(std::begin(said.peer_ip), std::end(said.peer_ip), offer.peer_ip.begin());
  return offer;
}

TEST_CASE("in libudt's place, our connector sends the same bytes") {
  for (const auto* scenario : {"stream_connect_idle_close", "messages", "stream_mss_1400_at_the_client"}) {
    CAPTURE(scenario);
    const auto packets = golden::load(std::string(scenario));
    Connector connector(offer_in(handshake_of(packets[0])), 0, 3 * kSecond);
    Micros now = 0;
    for (size_t i = 0; i < 4; ++i, now += 1000) {
      if (packets[i].from_client) {
        const auto message = connector.poll(now);
        REQUIRE(message);
        CHECK(datagram_of(message->handshake, message->destination) == packets[i].bytes);
      } else {
        connector.on_handshake(handshake_of(packets[i]), now);
      }
    }
    REQUIRE(connector.state() == Connector::State::kConnected);
    CHECK(connector.agreement().peer_socket_id == handshake_of(packets[3]).socket_id);
  }
}

TEST_CASE("in libudt's place, our listener sends the same bytes but for the cookie's value") {
  for (const auto* scenario : {"stream_connect_idle_close", "messages", "type_refused"}) {
    CAPTURE(scenario);
    const auto packets = golden::load(std::string(scenario));
    Offer offer = offer_in(handshake_of(packets[3]));
    offer.peer_ip = offer_in(handshake_of(packets[1])).peer_ip;
    if (std::string(scenario) == "type_refused") offer.kind = SocketKind::kStream;
    for (const size_t i : {size_t{0}, size_t{2}}) {
      Handshake said = handshake_of(packets[i]);
      if (said.cookie != 0) said.cookie = jar().cookie(address_of(1), 0);
      auto verdict = judge_request(said, address_of(1), offer, true, jar(), 0);
      REQUIRE(verdict.action != Verdict::Action::kIgnore);
      verdict.reply.cookie = handshake_of(packets[i + 1]).cookie;
      CHECK(datagram_of(verdict.reply, said.socket_id) == packets[i + 1].bytes);
    }
  }
}

TEST_CASE("in libudt's place, either side of a rendezvous sends the same bytes") {
  const auto packets = golden::load(std::string("rendezvous"));
  // Who came first, then who came later: each is given what the other one said, and asked for what it said itself.
  for (const bool as_client : {true, false}) {
    CAPTURE(as_client);
    std::optional<Connector> connector;
    Micros now = 0;
    for (size_t i = 0; i < 5; ++i, now += kHandshakeInterval) {
      if (packets[i].from_client != as_client) {
        if (connector) connector->on_handshake(handshake_of(packets[i]), now);
        continue;
      }
      if (!connector) connector.emplace(offer_in(handshake_of(packets[i]), true), now, 30 * kSecond);
      const auto message = connector->poll(now);
      REQUIRE(message);
      CHECK(datagram_of(message->handshake, message->destination) == packets[i].bytes);
    }
    CHECK(connector->state() == Connector::State::kConnected);
  }
}

}  // namespace
}  // namespace longhaul::udt
