#include "packet.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <random>
#include <vector>

#include "byte_order.hpp"
#include "golden.hpp"
#include "numbers.hpp"

namespace longhaul::udt {
namespace {

using Block = std::vector<uint8_t>;

Block words(std::initializer_list<uint32_t> list) {
  Block bytes(list.size() * 4);
  size_t at = 0;
  for (uint32_t word : list) write_u32(bytes.data() + 4 * at++, word);
  return bytes;
}

Block ack_bytes(const Ack& ack) {
  Block out(24);
  out.resize(write_ack(ack, out.data()));
  return out;
}

// What our code makes of a control packet's meaning, for a comparison with what libudt sent.
Block written_again(const PacketView& packet) {
  Block out(kHeaderSize);
  write_header(packet.control, out.data());
  Block body(packet.body.size());
  switch (packet.control.type) {
    case ControlType::kHandshake: {
      const auto handshake = parse_handshake(packet.body);
      REQUIRE(handshake);
      write_handshake(*handshake, body.data());
      break;
    }
    case ControlType::kAck: {
      const auto ack = parse_ack(packet.body);
      REQUIRE(ack);
      body = ack_bytes(*ack);
      break;
    }
    case ControlType::kNak: {
      LossReader reader(packet.body);
      LossWriter writer(body.data(), body.size());
      while (const auto range = reader.next()) REQUIRE(writer.add(*range));
      REQUIRE(!reader.malformed());
      body.resize(writer.size());
      break;
    }
    case ControlType::kDropRequest: {
      const auto range = parse_drop_request(packet.body);
      REQUIRE(range);
      body.resize(write_drop_request(*range, body.data()));
      break;
    }
    default:
      std::copy(packet.body.begin(), packet.body.end(), body.begin());
  }
  out.insert(out.end(), body.begin(), body.end());
  return out;
}

TEST_CASE("every captured packet of libudt is understood and written again byte for byte") {
  size_t data = 0, control = 0;
  for (const auto& path : golden::scenarios()) {
    CAPTURE(path.filename().string());
    for (const auto& captured : golden::load(path)) {
      const auto packet = parse_packet(captured.bytes);
      REQUIRE(packet);
      if (packet->is_control) {
        ++control;
        CHECK(written_again(*packet) == captured.bytes);
      } else {
        ++data;
        Block header(kHeaderSize);
        write_header(packet->data, header.data());
        CHECK(std::equal(header.begin(), header.end(), captured.bytes.begin()));
      }
    }
  }
  CHECK(data > 50);
  CHECK(control > 50);
}

TEST_CASE("headers survive writing and parsing, with every bit in its place") {
  std::mt19937 random(1);
  for (int i = 0; i < 2000; ++i) {
    const DataHeader header{.sequence = static_cast<uint32_t>(random()) & kSequenceMask,
                            .boundary = static_cast<Boundary>(random() & 3),
                            .in_order = (random() & 1) != 0,
                            .message = static_cast<uint32_t>(random()) & 0x1fffffffu,
                            .timestamp = static_cast<uint32_t>(random()),
                            .destination = static_cast<uint32_t>(random())};
    Block bytes(kHeaderSize + 3);
    write_header(header, bytes.data());
    const auto packet = parse_packet(bytes);
    REQUIRE(packet);
    CHECK(!packet->is_control);
    CHECK(packet->data.sequence == header.sequence);
    CHECK(packet->data.boundary == header.boundary);
    CHECK(packet->data.in_order == header.in_order);
    CHECK(packet->data.message == header.message);
    CHECK(packet->data.timestamp == header.timestamp);
    CHECK(packet->destination() == header.destination);
    CHECK(packet->body.size() == 3);
  }
  Block bytes(kHeaderSize);
  write_header({.type = ControlType::kUser, .subtype = 0x4c02, .info = 7, .timestamp = 8, .destination = 9}, bytes.data());
  CHECK(bytes == words({0xffff4c02u, 7, 8, 9}));
  const auto packet = parse_packet(bytes);
  REQUIRE(packet);
  CHECK(packet->control.type == ControlType::kUser);
  CHECK(packet->control.subtype == 0x4c02);
  CHECK(packet->destination() == 9);
}

TEST_CASE("a datagram that is too short or of an unknown type is refused") {
  Block bytes = words({0x80000000u, 0, 0, 0});
  CHECK(parse_packet(bytes));
  for (size_t size = 0; size < kHeaderSize; ++size) CHECK(!parse_packet(Bytes(bytes).first(size)));
  for (uint32_t type = 0; type <= 0x7fff; ++type) {
    write_u32(bytes.data(), 0x80000000u | type << 16);
    CHECK(parse_packet(bytes).has_value() == (type <= 8 || type == 0x7fff));
  }
}

TEST_CASE("ACKs: light ones, full ones, and those that make no sense") {
  CHECK(ack_bytes({.sequence = 5, .light = true, .rtt_us = 1}) == words({5}));
  const Ack full{.sequence = 5, .light = false, .rtt_us = 1, .rtt_variance_us = 2, .available_packets = 3};
  CHECK(ack_bytes(full) == words({5, 1, 2, 3}));
  const auto with_rates = parse_ack(words({5, 1, 2, 3, 4, 6}));
  REQUIRE(with_rates);
  CHECK(with_rates->receive_rate == 4);
  CHECK(with_rates->link_capacity == 6);
  CHECK(parse_ack(words({5}))->light);
  CHECK(!parse_ack(words({5, 1, 2, 3}))->light);
  CHECK(!parse_ack({}));
  CHECK(!parse_ack(words({5, 1})));
  CHECK(!parse_ack(words({5, 1, 2})));
  CHECK(!parse_ack(words({0x80000005u})));
}

TEST_CASE("loss lists are read as they were written, until the room is full") {
  std::array<uint8_t, 20> memory{};
  LossWriter writer(memory.data(), memory.size());
  CHECK(writer.add({7, 7}));
  CHECK(writer.add({9, 12}));
  CHECK(writer.add({kSequenceMask, 3}));  // across the wrap
  CHECK(!writer.add({20, 20}));
  CHECK(writer.size() == 20);
  CHECK(Block(memory.begin(), memory.end()) == words({7, 0x80000009u, 12, 0xffffffffu, 3}));

  LossReader reader(Bytes(memory.data(), writer.size()));
  for (const LossRange& expected : {LossRange{7, 7}, LossRange{9, 12}, LossRange{kSequenceMask, 3}}) {
    const auto range = reader.next();
    REQUIRE(range);
    CHECK(range->first == expected.first);
    CHECK(range->last == expected.last);
  }
  CHECK(!reader.next());
  CHECK(!reader.malformed());

  LossWriter no_room_for_a_range(memory.data(), 7);
  CHECK(!no_room_for_a_range.add({1, 2}));
  CHECK(no_room_for_a_range.add({1, 1}));
}

TEST_CASE("a malformed loss list ends at the first word that makes no sense") {
  for (const Block& list : {
           Block{1, 2, 3},                        // not a whole word
           words({0x80000001u}),                  // a range without an end
           words({0x80000001u, 0x80000002u}),     // whose end is a start
           words({0x80000005u, 4}),               // that runs backwards
           words({0x80000000u, 0x40000000u}),     // over half of all numbers
       }) {
    LossReader reader(list);
    CHECK(!reader.next());
    CHECK(reader.malformed());
    CHECK(!reader.next());
  }
  const Block second_is_bad = words({3, 0x80000001u});
  LossReader reader(second_is_bad);
  CHECK(reader.next());
  CHECK(!reader.malformed());
  CHECK(!reader.next());
  CHECK(reader.malformed());
}

TEST_CASE("handshakes have exactly twelve words and a known request") {
  Block bytes(kHandshakeSize);
  Handshake value{.kind = 2, .initial_sequence = 77, .mss = 1400, .flow_window = 8192, .request = -1, .socket_id = 5,
                  .cookie = 6, .peer_ip = {1, 2, 3, 4}};
  write_handshake(value, bytes.data());
  CHECK(bytes == words({4, 2, 77, 1400, 8192, 0xffffffffu, 5, 6, 1, 2, 3, 4}));
  const auto parsed = parse_handshake(bytes);
  REQUIRE(parsed);
  CHECK(parsed->request == -1);
  CHECK(parsed->peer_ip[3] == 4);
  for (const int32_t request : {-3, 2, 999}) {
    value.request = request;
    write_handshake(value, bytes.data());
    CHECK(!parse_handshake(bytes));
  }
  for (const int32_t request : {-2, -1, 0, 1, 1000, 1002}) {
    value.request = request;
    write_handshake(value, bytes.data());
    CHECK(parse_handshake(bytes));
  }
  CHECK(!parse_handshake(Bytes(bytes).first(44)));
  Block longer = bytes;
  longer.resize(52);
  CHECK(!parse_handshake(longer));
  write_u32(bytes.data() + 8, 0x80000000u);
  CHECK(!parse_handshake(bytes));
}

TEST_CASE("drop requests and the messages of our own survive writing and parsing; short ones are refused") {
  Block bytes(64);
  bytes.resize(write_drop_request({kSequenceMask, 4}, bytes.data()));
  CHECK(parse_drop_request(bytes)->last == 4);
  CHECK(!parse_drop_request(Bytes(bytes).first(7)));
  CHECK(!parse_drop_request(words({5, 4})));
  CHECK(!parse_drop_request(words({0x80000005u, 6})));

  bytes.resize(64);
  bytes.resize(write_hello({.version = 3, .features = 5, .heard = true}, bytes.data()));
  CHECK(bytes.size() == kHelloSize);
  const auto hello = parse_hello(bytes);
  REQUIRE(hello);
  CHECK(hello->version == 3);
  CHECK(hello->features == 5);
  CHECK(hello->heard);
  CHECK(!parse_hello(Bytes(bytes).first(15)));
  CHECK(!parse_hello(words({0, 0, 0, 0})));

  const Report report{.number = 1,
                      .acknowledged = kSequenceMask,
                      .known_from = 4,
                      .known_to = 10,
                      .last_part = false,
                      .arrived = 0x123456789abcull,
                      .duplicates = 2,
                      .echo = 3,
                      .echo_held_us = 4,
                      .arrival_clock_us = 5,
                      .available_packets = 6,
                      .reordering_us = 7,
                      .ended = true,
                      .missing = {}};
  Block out(kReportSize + 4);
  CHECK(write_report(report, out.data()) == kReportSize);
  write_u32(out.data() + kReportSize, 2);
  const auto parsed = parse_report(out);
  REQUIRE(parsed);
  CHECK(parsed->number == 1);
  CHECK(parsed->acknowledged == kSequenceMask);
  CHECK(parsed->known_from == 4);
  CHECK(parsed->known_to == 10);
  CHECK(!parsed->last_part);
  CHECK(parsed->arrived == 0x123456789abcull);
  CHECK(parsed->duplicates == 2);
  CHECK(parsed->echo == 3);
  CHECK(parsed->echo_held_us == 4);
  CHECK(parsed->arrival_clock_us == 5);
  CHECK(parsed->available_packets == 6);
  CHECK(parsed->reordering_us == 7);
  CHECK(parsed->ended);
  CHECK(parsed->missing.size() == 4);
  CHECK(!parse_report(Bytes(out).first(kReportSize - 1)));
  CHECK(!parse_report(Bytes(out).first(kReportSize + 2)));
  write_u32(out.data() + 12, kSequenceMask - 1);  // known to less than is acknowledged
  CHECK(!parse_report(out));

  bytes.resize(64);
  bytes.resize(write_end({99}, bytes.data()));
  CHECK(parse_end(bytes)->end == 99);
  CHECK(!parse_end(Bytes(bytes).first(3)));
  CHECK(!parse_end(words({0x80000000u})));
}

TEST_CASE("wire sequences become the packet numbers that are nearest") {
  for (const uint32_t initial : {0u, 1u, 0x3fffffffu, 0x7ffffff0u, kSequenceMask}) {
    for (const PacketNumber near : {PacketNumber{0}, PacketNumber{1000}, PacketNumber{1} << 31, PacketNumber{1} << 40}) {
      for (const int64_t offset : {-0x40000000ll, -5ll, 0ll, 5ll, 0x3fffffffll})
        CHECK(from_wire(initial, to_wire(initial, near + offset), near) == near + offset);
    }
  }
  CHECK(to_wire(kSequenceMask, 1) == 0);
}

}  // namespace
}  // namespace longhaul::udt
