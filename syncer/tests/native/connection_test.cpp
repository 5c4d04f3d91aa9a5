#include "connection.hpp"

#include <doctest/doctest.h>

#include <map>
#include <string>
#include <vector>

#include "simulation.hpp"

namespace longhaul::udt::virtual_time {
namespace {

constexpr Micros kSecond = 1'000'000;
constexpr Micros kStart = 1'000'000;
constexpr Micros kRtt = 80'000;
constexpr uint32_t kInitial = 12'345;
constexpr size_t kPayload = 1500 - 20 - 8 - kHeaderSize;

LinkModel link_of(double mbps = 100) {
  return {.rate_bps = mbps * 1e6, .delay = kRtt / 2, .buffer_bytes = static_cast<size_t>(mbps * 1e6 * kRtt / 8e6),
          .outages = {}};
}

ConnectionSettings settings_of(const LinkModel& link) {
  ConnectionSettings settings = settings_for(link, 2 * link.delay);
  settings.initial_rtt = 2 * link.delay;
  return settings;
}

ConnectionSettings fixed_rate(const LinkModel& link, double mbps) {
  ConnectionSettings settings = settings_of(link);
  settings.control.kind = ControlKind::kFixed;
  settings.control.rate = mbps * 1e6 / settings.control.packet_bits;
  return settings;
}

// A data packet's number, counted from the first; -1 for control packets.
PacketNumber data_number(std::span<const uint8_t> datagram, uint32_t initial = kInitial) {
  const auto packet = parse_packet(datagram);
  return packet && !packet->is_control ? from_wire(initial, packet->data.sequence, 0) : -1;
}

// Times at which each data packet was put on the link.
using Transmissions = std::map<PacketNumber, std::vector<Micros>>;

// A drop function that records all transmissions, and loses the first `times` of those numbers.
auto lose_first(Transmissions& seen, std::vector<PacketNumber> numbers, size_t times) {
  return [&seen, numbers = std::move(numbers), times](std::span<const uint8_t> datagram, Micros now) {
    const PacketNumber number = data_number(datagram);
    if (number < 0) return false;
    seen[number].push_back(now);
    return std::find(numbers.begin(), numbers.end(), number) != numbers.end() && seen[number].size() <= times;
  };
}

// Sends `bytes` one way to the announced end; the time that it took, from the start to the last byte read. A plain peer
// learns of the end from the shutdown, which here is not lost.
Micros transfer(Simulation& simulation, Flow& flow, uint64_t bytes, Micros patience = 120 * kSecond) {
  const Micros began = simulation.now();
  flow.left->to_write = bytes;
  flow.left->finish_after = true;
  REQUIRE(simulation.run(began + patience, [&] { return flow.left->connection.finished(); }));
  if (!flow.left->connection.statistics(simulation.now()).extended_peer) {
    Outbox outbox;
    flow.left->connection.close();
    flow.left->connection.emit(simulation.now(), outbox);
    simulation.run(simulation.now() + kSecond);
    for (const Datagram& datagram : outbox.datagrams())
      flow.right->connection.on_packet(*parse_packet({datagram.data, datagram.size}), simulation.now());
  }
  simulation.run(simulation.now() + patience, [&] { return flow.right->connection.at_end(); });
  CHECK(flow.right->read == bytes);
  CHECK(flow.right->intact);
  CHECK(flow.right->connection.peer_state() == PeerState::kEnded);
  CHECK(flow.left->connection.undelivered_bytes() == 0);
  return flow.right->last_read_at - began;
}

TEST_CASE("what is sent arrives, whole and in order, under every impairment") {
  struct Case {
    const char* name;
    void (*spoil)(LinkModel&);
  };
  for (const Case& each : {
           Case{"clean", [](LinkModel&) {}},
           Case{"loss 1%", [](LinkModel& link) { link.loss = 0.01; }},
           Case{"loss 20%", [](LinkModel& link) { link.loss = 0.2; }},
           Case{"loss in bursts", [](LinkModel& link) { link.loss = 0.05, link.burst = 30; }},
           Case{"jitter in order", [](LinkModel& link) { link.jitter = 30'000; }},
           Case{"reordering", [](LinkModel& link) { link.jitter = 30'000, link.reordering = true; }},
           Case{"duplication", [](LinkModel& link) { link.duplication = 0.3; }},
           Case{"tiny queue", [](LinkModel& link) { link.buffer_bytes = 6'000; }},
           Case{"outages", [](LinkModel& link) {
                  link.outages = {{kStart + 300'000, kStart + 1'500'000}, {kStart + 2'000'000, kStart + 3'000'000}};
                }},
           Case{"all at once", [](LinkModel& link) {
                  link.loss = 0.05, link.burst = 5, link.jitter = 20'000, link.reordering = true, link.duplication = 0.1;
                }},
       }) {
    for (const bool extensions : {true, false}) {
      for (const auto control : {ControlKind::kBbr, ControlKind::kFixed, ControlKind::kNative, ControlKind::kBackground}) {
        CAPTURE(each.name);
        CAPTURE(extensions);
        CAPTURE(static_cast<int>(control));
        LinkModel link = link_of();
        each.spoil(link);
        Simulation simulation(link, link, 7, kStart);
        ConnectionSettings settings = settings_of(link);
        settings.extensions = extensions;
        settings.control.kind = control;
        settings.control.rate = 50e6 / settings.control.packet_bits;
        transfer(simulation, simulation.add_flow(settings, settings), 2'000'000, 600 * kSecond);
      }
    }
  }
}

TEST_CASE("both directions at the same time, and no share of the one harms the other") {
  LinkModel link = link_of();
  link.loss = 0.01;
  Simulation simulation(link, link);
  auto& flow = simulation.add_flow(settings_of(link), settings_of(link));
  flow.left->to_write = flow.right->to_write = 20'000'000;
  flow.left->finish_after = flow.right->finish_after = true;
  CHECK(simulation.run(kStart + 10 * kSecond, [&] {
    return flow.left->connection.at_end() && flow.right->connection.at_end();
  }));
  CHECK(flow.left->read == 20'000'000);
  CHECK(flow.right->read == 20'000'000);
  CHECK(flow.left->intact);
  CHECK(flow.right->intact);
}

TEST_CASE("a lost packet is sent again within one round trip and a bit, and so is a lost retransmission") {
  for (const size_t times : {1, 2, 4}) {
    CAPTURE(times);
    const LinkModel link = link_of();
    Simulation simulation(link, link);
    auto& flow = simulation.add_flow(fixed_rate(link, 50), settings_of(link));
    Transmissions seen;
    simulation.to_right.drop = lose_first(seen, {1'000}, times);
    flow.left->to_write = ~uint64_t{0} / 2;
    simulation.run(kStart + 3 * kSecond);
    const auto& sent = seen[1'000];
    REQUIRE(sent.size() == times + 1);
    for (size_t i = 1; i < sent.size(); ++i) CHECK(sent[i] - sent[i - 1] < kRtt + 25'000);
    for (const auto& [number, each] : seen)
      if (number != 1'000) CHECK(each.size() == 1);
  }
}

TEST_CASE("no more is sent again than was lost") {
  for (const double loss : {0.001, 0.01, 0.05}) {
    for (const double burst : {1.0, 20.0}) {
      CAPTURE(loss);
      CAPTURE(burst);
      LinkModel link = link_of();
      link.loss = loss;
      link.burst = burst;
      Simulation simulation(link, link);
      auto& flow = simulation.add_flow(settings_of(link), settings_of(link));
      transfer(simulation, flow, 30'000'000);
      const auto sent = flow.left->connection.statistics(simulation.now());
      const auto lost = static_cast<double>(simulation.to_right.lost + simulation.to_right.overflowed);
      CHECK(static_cast<double>(sent.packets_retransmitted) <= lost * 1.05 + 10);
      CHECK(static_cast<double>(sent.packets_spurious) <= lost * 0.02 + 5);
    }
  }
}

TEST_CASE("a lost tail is repaired within three round trips") {
  for (const int tail : {1, 3, 30}) {
    CAPTURE(tail);
    const PacketNumber packets = 200;
    std::vector<PacketNumber> lost;
    for (int i = 1; i <= tail; ++i) lost.push_back(packets - i);
    const LinkModel link = link_of();
    const auto took = [&](const std::vector<PacketNumber>& numbers) {
      Simulation simulation(link, link);
      Transmissions seen;
      simulation.to_right.drop = lose_first(seen, numbers, 1);
      return transfer(simulation, simulation.add_flow(settings_of(link), settings_of(link)), packets * kPayload);
    };
    CHECK(took(lost) - took({}) <= 3 * kRtt);
  }
}

TEST_CASE("a single packet that is lost comes within three round trips, both of our own and as plain UDT4") {
  for (const bool extensions : {true, false}) {
    CAPTURE(extensions);
    const LinkModel link = link_of();
    Simulation simulation(link, link);
    ConnectionSettings settings = settings_of(link);
    settings.extensions = extensions;
    auto& flow = simulation.add_flow(settings, settings);
    simulation.run(kStart + kSecond);
    Transmissions seen;
    simulation.to_right.drop = lose_first(seen, {0}, 1);
    flow.left->to_write = 100;
    simulation.run(kStart + 5 * kSecond, [&] { return flow.right->read == 100; });
    CHECK(flow.right->read == 100);
    CHECK(flow.right->last_read_at - (kStart + kSecond) <= 4 * kRtt);
  }
}

TEST_CASE("reordering is tolerated: hardly anything is sent again") {
  for (const Micros jitter : {2'000, 10'000, 30'000}) {
    CAPTURE(jitter);
    LinkModel link = link_of();
    link.jitter = jitter;
    link.reordering = true;
    Simulation simulation(link, link);
    auto& flow = simulation.add_flow(fixed_rate(link, 50), settings_of(link));
    flow.left->to_write = ~uint64_t{0} / 2;
    simulation.run(kStart + 10 * kSecond);
    const auto sent = flow.left->connection.statistics(simulation.now());
    CHECK(sent.packets_sent > 40'000);
    // At first nobody knows how late packets come.
    CHECK(sent.packets_retransmitted < sent.packets_sent / 100);
    CHECK(flow.right->read > 55'000'000);
  }
}

TEST_CASE("an outage of three seconds is over one second after the path has healed") {
  for (const bool extensions : {true, false}) {
    CAPTURE(extensions);
    LinkModel link = link_of();
    const Micros healed = kStart + 6 * kSecond;
    link.outages = {{kStart + 3 * kSecond, healed}};
    Simulation simulation(link, link);
    ConnectionSettings settings = extensions ? settings_of(link) : fixed_rate(link, 90);
    settings.extensions = extensions;
    auto& flow = simulation.add_flow(settings, settings);
    flow.left->to_write = ~uint64_t{0} / 2;
    simulation.run(healed);
    const uint64_t before = flow.right->read;
    simulation.run(healed + kSecond + kRtt);
    CHECK(flow.right->read > before);
    CHECK(flow.right->connection.peer_state() == PeerState::kOpen);
    simulation.run(healed + 4 * kSecond);
    const uint64_t recovered = flow.right->read;
    simulation.run(healed + 9 * kSecond);
    CHECK(static_cast<double>(flow.right->read - recovered) * 8 / 5 > 0.8 * link.rate_bps);
    CHECK(flow.right->intact);
    // What was in flight when it began, and no more.
    const auto sent = flow.left->connection.statistics(simulation.now());
    const auto lost = static_cast<double>(simulation.to_right.lost + simulation.to_right.overflowed);
    CHECK(static_cast<double>(sent.packets_retransmitted) <= lost * 1.2 + 50);
  }
}

TEST_CASE("a peer that falls silent is noticed when it should be, busy or idle") {
  for (const Micros dead_after : {2 * kSecond, 7 * kSecond}) {
    for (const bool busy : {true, false}) {
      CAPTURE(dead_after);
      CAPTURE(busy);
      LinkModel link = link_of();
      const Micros dies = kStart + 3 * kSecond;
      link.outages = {{dies, kNever}};
      Simulation simulation(link, link);
      ConnectionSettings settings = settings_of(link);
      settings.dead_after = dead_after;
      auto& flow = simulation.add_flow(settings, settings);
      flow.left->to_write = busy ? ~uint64_t{0} / 2 : 0;
      const auto silent = [&] { return flow.left->connection.peer_state() == PeerState::kSilent; };
      CHECK(!simulation.run(dies + dead_after - kSecond, silent));
      CHECK(simulation.run(dies + dead_after + kRtt, silent));
      CHECK(!flow.left->connection.can_write());
      CHECK(flow.left->connection.next_deadline() == kNever);
      if (busy) CHECK(flow.left->connection.undelivered_bytes() > 0);
    }
  }
}

TEST_CASE("an idle connection stays, with few packets, also to a plain peer and before anything was sent") {
  for (const bool extensions : {true, false}) {
    for (const uint64_t bytes : {uint64_t{0}, uint64_t{1'000}}) {
      CAPTURE(extensions);
      CAPTURE(bytes);
      const LinkModel link = link_of();
      Simulation simulation(link, link);
      ConnectionSettings left = settings_of(link), right = settings_of(link);
      right.extensions = extensions;
      auto& flow = simulation.add_flow(left, right);
      flow.left->to_write = bytes;
      // As libudt, this peer speaks only when it is asked: its keep-alives are lost.
      if (!extensions)
        simulation.to_left.drop = [](std::span<const uint8_t> datagram, Micros) {
          const auto packet = parse_packet(datagram);
          return packet->is_control && packet->control.type != ControlType::kAck2 &&
                 (packet->control.type != ControlType::kAck || packet->control.info > 2);
        };
      simulation.run(kStart + 3 * kSecond);
      const int64_t before = simulation.to_right.offered + simulation.to_left.offered;
      simulation.run(kStart + 63 * kSecond);
      CHECK(flow.left->connection.peer_state() == PeerState::kOpen);
      CHECK(flow.right->connection.peer_state() == PeerState::kOpen);
      CHECK(simulation.to_right.offered + simulation.to_left.offered - before <= 60 * 5);
    }
  }
}

TEST_CASE("a plain peer that leaves loss reports unanswered for long is asked whether it is there") {
  const LinkModel link = link_of();
  ConnectionSettings settings = settings_of(link);
  Connection connection(settings, kStart);
  const uint32_t initial = settings.agreement.peer_initial;
  const auto give = [&](const auto& header, Micros now) {
    std::vector<uint8_t> bytes(kHeaderSize + 4);
    write_header(header, bytes.data());
    connection.on_packet(*parse_packet(bytes), now);
  };
  // The second packet is missing, and the peer, as libudt after losses, is in no hurry to send it again.
  for (const PacketNumber number : {0, 2}) give(DataHeader{.sequence = to_wire(initial, number)}, kStart);
  Outbox outbox;
  for (Micros now = kStart; now < kStart + 30 * kSecond;) {
    outbox.clear();
    connection.emit(now, outbox);
    for (const Datagram& datagram : outbox.datagrams()) {
      const auto packet = parse_packet({datagram.data, datagram.size});
      if (packet->is_control && packet->control.type == ControlType::kAck && packet->body.size() > 4)
        give(ControlHeader{.type = ControlType::kAck2, .info = packet->control.info}, now);
    }
    now = std::max(connection.next_deadline(), now + 1);
    REQUIRE(connection.peer_state() == PeerState::kOpen);
  }
  CHECK(connection.statistics(kStart + 30 * kSecond).loss_reports_sent > 30);
}

TEST_CASE("a clean end and a break are told apart") {
  LinkModel link = link_of();
  link.loss = 0.02;
  SUBCASE("all was sent, announced and closed") {
    Simulation simulation(link, link);
    auto& flow = simulation.add_flow(settings_of(link), settings_of(link));
    transfer(simulation, flow, 3'000'000);
    flow.left->connection.close();
    simulation.run(simulation.now() + kSecond);
    CHECK(flow.left->connection.closed());
    CHECK(flow.right->connection.peer_state() == PeerState::kEnded);
  }
  SUBCASE("closed in the middle of the stream") {
    Simulation simulation(link_of(), link_of());
    auto& flow = simulation.add_flow(settings_of(link), settings_of(link));
    flow.left->to_write = ~uint64_t{0} / 2;
    simulation.run(kStart + 2 * kSecond);
    CHECK(flow.left->connection.undelivered_bytes() > 0);
    flow.left->connection.close();
    simulation.run(kStart + 4 * kSecond);
    CHECK(flow.right->connection.peer_state() == PeerState::kBroken);
    CHECK(flow.right->connection.at_end());
    CHECK(flow.right->intact);
  }
  SUBCASE("closed behind the last byte, but without announcing the end") {
    Simulation simulation(link_of(), link_of());
    auto& flow = simulation.add_flow(settings_of(link), settings_of(link));
    flow.left->to_write = 1'000'000;
    simulation.run(kStart + 3 * kSecond);
    CHECK(flow.right->read == 1'000'000);
    flow.left->connection.close();
    simulation.run(kStart + 4 * kSecond);
    CHECK(flow.right->connection.peer_state() == PeerState::kBroken);
  }
  SUBCASE("an end of nothing at all") {
    Simulation simulation(link_of(), link_of());
    transfer(simulation, simulation.add_flow(settings_of(link), settings_of(link)), 0);
  }
}

TEST_CASE("an announced end comes through although its packets are lost") {
  LinkModel link = link_of();
  link.loss = 0.5;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    CAPTURE(seed);
    Simulation simulation(link, link, seed);
    ConnectionSettings settings = settings_of(link);
    settings.dead_after = 60 * kSecond;
    transfer(simulation, simulation.add_flow(settings, settings), 10'000);
  }
}

TEST_CASE("what a close leaves behind is counted in bytes") {
  LinkModel link = link_of();
  Simulation simulation(link, link);
  auto& flow = simulation.add_flow(settings_of(link), settings_of(link));
  simulation.to_right.drop = [](std::span<const uint8_t> datagram, Micros) { return data_number(datagram) >= 10; };
  flow.left->to_write = 50'000;
  simulation.run(kStart + kSecond);
  CHECK(flow.left->written == 50'000);
  CHECK(flow.right->read == 10 * kPayload);
  CHECK(flow.left->connection.undelivered_bytes() == 50'000 - 10 * kPayload);
}

TEST_CASE("sequence numbers wrap") {
  LinkModel link = link_of();
  link.loss = 0.03;
  for (const bool extensions : {true, false}) {
    for (const uint32_t before : {0u, 1u, 700u}) {
      CAPTURE(extensions);
      CAPTURE(before);
      Simulation simulation(link, link);
      ConnectionSettings settings = settings_of(link);
      settings.extensions = extensions;
      transfer(simulation, simulation.add_flow(settings, settings, kSequenceMask - before), 3'000'000);
    }
  }
}

TEST_CASE("time stamps wrap after an hour and twelve minutes, in the middle of a transfer") {
  LinkModel link = link_of(20);
  link.loss = 0.01;
  for (const bool extensions : {true, false}) {
    CAPTURE(extensions);
    Simulation simulation(link, link);
    ConnectionSettings settings = settings_of(link);
    settings.extensions = extensions;
    auto& flow = simulation.add_flow(settings, settings);
    constexpr Micros kWrap = Micros{1} << 32;
    flow.left->to_write = 1'000;
    simulation.run(kStart + kWrap - 3 * kSecond);
    REQUIRE(flow.left->connection.peer_state() == PeerState::kOpen);
    flow.left->to_write = ~uint64_t{0} / 2;
    uint64_t read = flow.right->read;
    for (int second = 0; second < 8; ++second) {
      simulation.run(simulation.now() + kSecond);
      if (second > 0) CHECK(flow.right->read > read + (extensions ? 1'500'000 : 100'000));
      read = flow.right->read;
    }
    CHECK(flow.left->connection.statistics(simulation.now()).rtt < 3 * kRtt);
    CHECK(flow.right->intact);
  }
}

TEST_CASE("a reader that stops closes the window, and reading opens it again, whatever packets are lost") {
  for (const bool extensions : {true, false}) {
    for (const double loss : {0.0, 0.3}) {
      CAPTURE(extensions);
      CAPTURE(loss);
      LinkModel link = link_of();
      link.loss = loss;
      Simulation simulation(link, link);
      ConnectionSettings settings = settings_of(link);
      settings.extensions = extensions;
      settings.dead_after = 30 * kSecond;
      settings.receive_packets = 300;
      auto& flow = simulation.add_flow(settings, settings);
      flow.right->reading = false;
      flow.left->to_write = 2'000'000;
      flow.left->finish_after = true;
      simulation.run(kStart + 20 * kSecond);
      CHECK(flow.right->connection.readable_bytes() <= 300 * kPayload);
      CHECK(flow.right->connection.readable_bytes() >= 290 * kPayload);
      const auto held = flow.left->connection.statistics(simulation.now());
      flow.right->reading = true;
      CHECK(simulation.run(kStart + 200 * kSecond, [&] { return flow.right->read == 2'000'000; }));
      CHECK(flow.right->intact);
      // While it was closed, there was little to be heard.
      CHECK(held.packets_sent < 300 + 300 * loss * (extensions ? 2 : 5) + 100);
    }
  }
}

TEST_CASE("a window of two packets works") {
  for (const bool extensions : {true, false}) {
    CAPTURE(extensions);
    LinkModel link = link_of();
    link.delay = 5'000;
    link.loss = 0.05;
    Simulation simulation(link, link);
    ConnectionSettings settings = settings_of(link);
    settings.extensions = extensions;
    settings.send_packets = settings.receive_packets = 2;
    transfer(simulation, simulation.add_flow(settings, settings), 200'000, 300 * kSecond);
  }
}

TEST_CASE("small and large packets: an MSS of 200, of 9000, and IPv6") {
  for (const uint32_t mss : {200u, 1280u, 9000u}) {
    for (const bool ipv6 : {true, false}) {
      CAPTURE(mss);
      CAPTURE(ipv6);
      LinkModel link = link_of();
      link.loss = 0.01;
      Simulation simulation(link, link);
      ConnectionSettings settings = settings_of(link);
      settings.ipv6 = ipv6;
      settings.agreement.mss = mss;
      auto& flow = simulation.add_flow(settings, settings);
      size_t largest = 0;
      simulation.to_right.drop = [&](std::span<const uint8_t> datagram, Micros) {
        largest = std::max(largest, datagram.size());
        return false;
      };
      transfer(simulation, flow, 1'000'000);
      CHECK(largest == mss - ip_header(ipv6) - kUdpHeader);
    }
  }
}

TEST_CASE("a fixed rate is what the wire carries, to one percent, with headers, whatever the packets' sizes") {
  for (const size_t size : {size_t{400}, size_t{700}, kPayload, 5 * kPayload + 1}) {
    CAPTURE(size);
    const LinkModel link = link_of();
    Simulation simulation(link, link);
    ConnectionSettings left = fixed_rate(link, 30), right = settings_of(link);
    left.agreement.kind = right.agreement.kind = SocketKind::kDatagram;
    left.send_packets = right.receive_packets = 4'000;
    auto& flow = simulation.add_flow(left, right);
    const std::vector<uint8_t> message(size, 1);
    flow.left->on_turn = [&message](End& end, Micros now) {
      while (end.connection.unsent_packets() < 64 && end.connection.write_message(message, now, -1, true)) continue;
    };
    flow.right->on_turn = [](End& end, Micros) {
      std::vector<uint8_t> room(10'000);
      while (end.connection.read_message(room)) continue;
    };
    simulation.run(kStart + 2 * kSecond);
    const int64_t before = simulation.to_right.carried_bytes;
    simulation.run(kStart + 12 * kSecond);
    CHECK(static_cast<double>(simulation.to_right.carried_bytes - before) * 8 / 10 == doctest::Approx(30e6).epsilon(0.01));
  }
}

TEST_CASE("a sender that did not run for a while makes no burst") {
  const LinkModel link = link_of();
  Simulation simulation(link, link);
  auto& flow = simulation.add_flow(fixed_rate(link, 50), settings_of(link));
  flow.left->to_write = ~uint64_t{0} / 2;
  simulation.run(kStart + 2 * kSecond);
  flow.left->asleep_until = simulation.now() + 300'000;
  simulation.run(flow.left->asleep_until - 1);
  const int64_t before = simulation.to_right.offered;
  simulation.run(flow.left->asleep_until + 1);
  // 50 Mbit/s are some 4 packets in a millisecond.
  CHECK(simulation.to_right.offered - before > 0);
  CHECK(simulation.to_right.offered - before <= 25);
}

}  // namespace
}  // namespace longhaul::udt::virtual_time
