// Messages over simulated paths: order, lifetime, sizes.
#include <doctest/doctest.h>

#include <algorithm>
#include <vector>

#include "byte_order.hpp"
#include "simulation.hpp"

namespace longhaul::udt::virtual_time {
namespace {

constexpr Micros kSecond = 1'000'000;
constexpr Micros kStart = 1'000'000;
constexpr Micros kRtt = 80'000;
constexpr size_t kPayload = 1500 - 20 - 8 - kHeaderSize;

LinkModel link_of() {
  LinkModel link;
  link.rate_bps = 50e6;
  link.delay = kRtt / 2;
  return link;
}

// A simulation of one flow of messages. What the right end reads is noted: each message says its number in its first word
// and in every byte behind that.
struct Exchange {
  Exchange(const LinkModel& link, bool extensions, uint64_t seed = 1)
      : simulation(link, link, seed, kStart), flow(simulation.add_flow(settings(link, extensions), settings(link, extensions))) {
    flow.right->on_turn = [this](End& end, Micros now) {
      std::vector<uint8_t> room(100'000);
      while (const auto size = end.connection.read_message(room)) {
        REQUIRE(*size >= 4);
        REQUIRE(*size <= room.size());
        numbers.push_back(read_u32(room.data()));
        sizes.push_back(*size);
        read_at.push_back(now);
        const bool whole = std::all_of(room.begin() + 4, room.begin() + static_cast<ptrdiff_t>(*size),
                                       [&](uint8_t byte) { return byte == static_cast<uint8_t>(numbers.back()); });
        CHECK(whole);
      }
    };
  }

  static ConnectionSettings settings(const LinkModel& link, bool extensions) {
    ConnectionSettings settings = settings_for(link, kRtt);
    settings.agreement.kind = SocketKind::kDatagram;
    settings.extensions = extensions;
    settings.control.kind = ControlKind::kFixed;
    settings.control.rate = 40e6 / settings.control.packet_bits;
    return settings;
  }

  bool write(uint32_t number, size_t size, Micros lifetime = -1, bool in_order = true) {
    std::vector<uint8_t> message(size, static_cast<uint8_t>(number));
    write_u32(message.data(), number);
    return flow.left->connection.write_message(message, simulation.now(), lifetime, in_order);
  }

  bool run_until_read(size_t messages, Micros patience) {
    return simulation.run(simulation.now() + patience, [&] { return numbers.size() >= messages; });
  }

  Simulation simulation;
  Flow& flow;
  std::vector<uint32_t> numbers;
  std::vector<size_t> sizes;
  std::vector<Micros> read_at;
};

TEST_CASE("messages of all sizes arrive once, whole and in order, over a bad network") {
  for (const bool extensions : {true, false}) {
    CAPTURE(extensions);
    LinkModel link = link_of();
    link.loss = 0.05;
    link.jitter = 10'000;
    link.reordering = true;
    link.duplication = 0.05;
    Exchange exchange(link, extensions);
    uint32_t next = 0;
    exchange.flow.left->on_turn = [&](End&, Micros) {
      while (next < 500 && exchange.write(next, 4 + (next * 7919) % (6 * kPayload))) ++next;
    };
    CHECK(exchange.run_until_read(500, 60 * kSecond));
    exchange.simulation.run(exchange.simulation.now() + kSecond);
    REQUIRE(exchange.numbers.size() == 500);
    for (uint32_t i = 0; i < 500; ++i) {
      CHECK(exchange.numbers[i] == i);
      CHECK(exchange.sizes[i] == 4 + (i * 7919) % (6 * kPayload));
    }
  }
}

TEST_CASE("a message that needs no order does not wait for one that is lost; one that does, waits") {
  for (const bool extensions : {true, false}) {
    CAPTURE(extensions);
    Exchange exchange(link_of(), extensions);
    bool lose = true;
    exchange.simulation.to_right.drop = [&](std::span<const uint8_t> datagram, Micros) {
      const auto packet = parse_packet(datagram);
      return lose && !packet->is_control && packet->data.message == 1;
    };
    exchange.write(0, 100, -1, false);
    exchange.write(1, 3 * kPayload, -1, false);
    exchange.write(2, 100, -1, true);
    CHECK(exchange.run_until_read(1, kSecond));
    exchange.simulation.run(kStart + kSecond);
    CHECK(exchange.numbers == std::vector<uint32_t>{1});
    lose = false;
    CHECK(exchange.run_until_read(3, 2 * kSecond));
    CHECK(exchange.numbers == std::vector<uint32_t>{1, 0, 2});
  }
}

TEST_CASE("messages whose lifetime is over are given up, many at once, and what comes after them arrives soon") {
  for (const bool extensions : {true, false}) {
    CAPTURE(extensions);
    LinkModel link = link_of();
    const Micros healed = kStart + 2 * kSecond;
    link.outages = {{kStart + kSecond, healed}};
    Exchange exchange(link, extensions);
    exchange.write(0, 100);
    exchange.simulation.run(kStart + kSecond + 1);
    for (uint32_t i = 1; i <= 200; ++i) CHECK(exchange.write(i, 2 * kPayload, 200'000));
    exchange.simulation.run(healed);
    CHECK(exchange.numbers == std::vector<uint32_t>{0});
    exchange.write(201, 3 * kPayload);
    CHECK(exchange.run_until_read(2, 2 * kSecond));
    REQUIRE(exchange.numbers.size() == 2);
    CHECK(exchange.numbers[1] == 201);
    CHECK(exchange.read_at[1] - healed < kSecond + 4 * kRtt);
    exchange.simulation.run(exchange.simulation.now() + 2 * kSecond);
    CHECK(exchange.flow.left->connection.undelivered_bytes() == 0);
    CHECK(exchange.numbers.size() == 2);
  }
}

TEST_CASE("a message of which a part arrived before it was given up makes room") {
  for (const bool extensions : {true, false}) {
    CAPTURE(extensions);
    Exchange exchange(link_of(), extensions);
    bool lose = true;
    exchange.simulation.to_right.drop = [&](std::span<const uint8_t> datagram, Micros) {
      const auto packet = parse_packet(datagram);
      return lose && !packet->is_control && packet->data.boundary == Boundary::kMiddle;
    };
    for (uint32_t i = 0; i < 50; ++i) exchange.write(i, 4 * kPayload, 300'000);
    exchange.simulation.run(kStart + kSecond);
    CHECK(exchange.numbers.empty());
    lose = false;
    exchange.simulation.run(kStart + 3 * kSecond);
    CHECK(exchange.flow.right->connection.statistics(exchange.simulation.now()).receive_buffer_packets == 0);
    exchange.write(50, 1'000);
    CHECK(exchange.run_until_read(1, kSecond));
    CHECK(exchange.numbers == std::vector<uint32_t>{50});
  }
}

TEST_CASE("a message larger than the buffer is refused, one that finds no room is not taken") {
  Exchange exchange(link_of(), true);
  const auto& connection = exchange.flow.left->connection;
  const size_t room = Exchange::settings(link_of(), true).send_packets * kPayload;
  CHECK(connection.message_fits_ever(room));
  CHECK(!connection.message_fits_ever(room + 1));
  CHECK(!connection.message_fits_ever(0));
  CHECK(exchange.write(0, room / 2 + kPayload));
  CHECK(!exchange.write(1, room / 2 + kPayload));
  CHECK(exchange.flow.left->connection.undelivered_bytes() == room / 2 + kPayload);
}

}  // namespace
}  // namespace longhaul::udt::virtual_time
