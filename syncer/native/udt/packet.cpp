#include "packet.hpp"

#include "byte_order.hpp"
#include "numbers.hpp"

namespace longhaul::udt {
namespace {

constexpr uint32_t kTopBit = 0x80000000u;
constexpr uint32_t kInOrderBit = 0x20000000u;
constexpr uint32_t kMessageMask = 0x1fffffffu;
constexpr uint32_t kLongestRange = 0x40000000u;  // half of the sequence space: beyond it "before" means nothing

constexpr bool is_sequence(uint32_t word) { return (word & kTopBit) == 0; }

constexpr bool is_ascending(uint32_t first, uint32_t last) { return ((last - first) & kSequenceMask) < kLongestRange; }

bool is_known(uint32_t type) {
  return type <= static_cast<uint32_t>(ControlType::kPeerError) || type == static_cast<uint32_t>(ControlType::kUser);
}

}  // namespace

std::optional<PacketView> parse_packet(Bytes datagram) {
  if (datagram.size() < kHeaderSize) return std::nullopt;
  const uint8_t* at = datagram.data();
  const uint32_t first = read_u32(at), second = read_u32(at + 4), timestamp = read_u32(at + 8),
                 destination = read_u32(at + 12);
  PacketView packet;
  packet.body = datagram.subspan(kHeaderSize);
  packet.is_control = (first & kTopBit) != 0;
  if (!packet.is_control) {
    packet.data = {.sequence = first,
                   .boundary = static_cast<Boundary>(second >> 30),
                   .in_order = (second & kInOrderBit) != 0,
                   .message = second & kMessageMask,
                   .timestamp = timestamp,
                   .destination = destination};
    return packet;
  }
  const uint32_t type = (first & ~kTopBit) >> 16;
  if (!is_known(type)) return std::nullopt;
  packet.control = {.type = static_cast<ControlType>(type),
                    .subtype = static_cast<uint16_t>(first & 0xffffu),
                    .info = second,
                    .timestamp = timestamp,
                    .destination = destination};
  return packet;
}

void write_header(const DataHeader& header, uint8_t* out) {
  write_u32(out, header.sequence & kSequenceMask);
  write_u32(out + 4, static_cast<uint32_t>(header.boundary) << 30 | (header.in_order ? kInOrderBit : 0u) |
                         (header.message & kMessageMask));
  write_u32(out + 8, header.timestamp);
  write_u32(out + 12, header.destination);
}

void write_header(const ControlHeader& header, uint8_t* out) {
  write_u32(out, kTopBit | static_cast<uint32_t>(header.type) << 16 | header.subtype);
  write_u32(out + 4, header.info);
  write_u32(out + 8, header.timestamp);
  write_u32(out + 12, header.destination);
}

std::optional<Ack> parse_ack(Bytes body) {
  constexpr size_t kLight = 4, kFull = 16, kWithRates = 24;
  if (body.size() != kLight && body.size() < kFull) return std::nullopt;
  const uint8_t* at = body.data();
  Ack ack;
  ack.sequence = read_u32(at);
  if (!is_sequence(ack.sequence)) return std::nullopt;
  ack.light = body.size() == kLight;
  if (ack.light) return ack;
  ack.rtt_us = read_u32(at + 4);
  ack.rtt_variance_us = read_u32(at + 8);
  ack.available_packets = read_u32(at + 12);
  if (body.size() >= kWithRates) {
    ack.receive_rate = read_u32(at + 16);
    ack.link_capacity = read_u32(at + 20);
  }
  return ack;
}

size_t write_ack(const Ack& ack, uint8_t* out) {
  write_u32(out, ack.sequence & kSequenceMask);
  if (ack.light) return 4;
  write_u32(out + 4, ack.rtt_us);
  write_u32(out + 8, ack.rtt_variance_us);
  write_u32(out + 12, ack.available_packets);
  if (ack.receive_rate == 0 && ack.link_capacity == 0) return 16;
  write_u32(out + 16, ack.receive_rate);
  write_u32(out + 20, ack.link_capacity);
  return 24;
}

std::optional<LossRange> LossReader::next() {
  if (rest_.empty() || malformed_) return std::nullopt;
  malformed_ = true;  // until the range is found to be whole
  if (rest_.size() < 4) return std::nullopt;
  const uint32_t word = read_u32(rest_.data());
  if (is_sequence(word)) {
    malformed_ = false;
    rest_ = rest_.subspan(4);
    return LossRange{word, word};
  }
  if (rest_.size() < 8) return std::nullopt;
  const LossRange range{word & kSequenceMask, read_u32(rest_.data() + 4)};
  if (!is_sequence(range.last) || !is_ascending(range.first, range.last)) return std::nullopt;
  malformed_ = false;
  rest_ = rest_.subspan(8);
  return range;
}

bool LossWriter::add(LossRange range) {
  const size_t needed = range.first == range.last ? 4 : 8;
  if (capacity_ - size_ < needed) return false;
  if (needed == 4) {
    write_u32(out_ + size_, range.first & kSequenceMask);
  } else {
    write_u32(out_ + size_, range.first | kTopBit);
    write_u32(out_ + size_ + 4, range.last & kSequenceMask);
  }
  size_ += needed;
  return true;
}

std::optional<LossRange> parse_drop_request(Bytes body) {
  if (body.size() < 8) return std::nullopt;
  const LossRange range{read_u32(body.data()), read_u32(body.data() + 4)};
  if (!is_sequence(range.first) || !is_sequence(range.last) || !is_ascending(range.first, range.last))
    return std::nullopt;
  return range;
}

size_t write_drop_request(LossRange range, uint8_t* out) {
  write_u32(out, range.first & kSequenceMask);
  write_u32(out + 4, range.last & kSequenceMask);
  return 8;
}

std::optional<Handshake> parse_handshake(Bytes body) {
  if (body.size() != kHandshakeSize) return std::nullopt;
  const uint8_t* at = body.data();
  Handshake value;
  value.version = read_u32(at);
  value.kind = read_u32(at + 4);
  value.initial_sequence = read_u32(at + 8);
  value.mss = read_u32(at + 12);
  value.flow_window = read_u32(at + 16);
  value.request = static_cast<int32_t>(read_u32(at + 20));
  value.socket_id = read_u32(at + 24);
  value.cookie = read_u32(at + 28);
  for (size_t i = 0; i < 4; ++i) value.peer_ip[i] = read_u32(at + 32 + 4 * i);
  const bool known = value.request >= Handshake::kRefusal ||
                     (value.request >= Handshake::kAgreement && value.request <= Handshake::kRequest);
  if (!known || !is_sequence(value.initial_sequence)) return std::nullopt;
  return value;
}

void write_handshake(const Handshake& value, uint8_t* out) {
  write_u32(out, value.version);
  write_u32(out + 4, value.kind);
  write_u32(out + 8, value.initial_sequence & kSequenceMask);
  write_u32(out + 12, value.mss);
  write_u32(out + 16, value.flow_window);
  write_u32(out + 20, static_cast<uint32_t>(value.request));
  write_u32(out + 24, value.socket_id);
  write_u32(out + 28, value.cookie);
  for (size_t i = 0; i < 4; ++i) write_u32(out + 32 + 4 * i, value.peer_ip[i]);
}

std::optional<Hello> parse_hello(Bytes body) {
  if (body.size() < kHelloSize) return std::nullopt;
  Hello hello;
  hello.version = read_u32(body.data());
  hello.features = read_u32(body.data() + 4);
  hello.heard = (read_u32(body.data() + 8) & 1u) != 0;
  if (hello.version == 0) return std::nullopt;
  return hello;
}

size_t write_hello(const Hello& hello, uint8_t* out) {
  write_u32(out, hello.version);
  write_u32(out + 4, hello.features);
  write_u32(out + 8, hello.heard ? 1u : 0u);
  write_u32(out + 12, 0);  // kept for later versions
  return kHelloSize;
}

namespace {
constexpr uint32_t kReportEnded = 1;
constexpr uint32_t kReportLastPart = 2;
}  // namespace

std::optional<Report> parse_report(Bytes body) {
  if (body.size() < kReportSize || body.size() % 4 != 0) return std::nullopt;
  const uint8_t* at = body.data();
  Report report;
  report.number = read_u32(at);
  report.acknowledged = read_u32(at + 4);
  report.known_from = read_u32(at + 8);
  report.known_to = read_u32(at + 12);
  report.arrived = read_u64(at + 16);
  report.duplicates = read_u32(at + 24);
  report.echo = read_u32(at + 28);
  report.echo_held_us = read_u32(at + 32);
  report.arrival_clock_us = read_u32(at + 36);
  report.available_packets = read_u32(at + 40);
  report.reordering_us = read_u32(at + 44);
  report.ended = (read_u32(at + 48) & kReportEnded) != 0;
  report.last_part = (read_u32(at + 48) & kReportLastPart) != 0;
  report.missing = body.subspan(kReportSize);
  if (!is_sequence(report.acknowledged) || !is_sequence(report.known_from) || !is_sequence(report.known_to) ||
      !is_ascending(report.acknowledged, report.known_from) || !is_ascending(report.known_from, report.known_to))
    return std::nullopt;
  return report;
}

size_t write_report(const Report& report, uint8_t* out) {
  write_u32(out, report.number);
  write_u32(out + 4, report.acknowledged & kSequenceMask);
  write_u32(out + 8, report.known_from & kSequenceMask);
  write_u32(out + 12, report.known_to & kSequenceMask);
  write_u64(out + 16, report.arrived);
  write_u32(out + 24, report.duplicates);
  write_u32(out + 28, report.echo);
  write_u32(out + 32, report.echo_held_us);
  write_u32(out + 36, report.arrival_clock_us);
  write_u32(out + 40, report.available_packets);
  write_u32(out + 44, report.reordering_us);
  write_u32(out + 48, (report.ended ? kReportEnded : 0) | (report.last_part ? kReportLastPart : 0));
  return kReportSize;
}

std::optional<End> parse_end(Bytes body) {
  if (body.size() < 4) return std::nullopt;
  const End end{read_u32(body.data())};
  if (!is_sequence(end.end)) return std::nullopt;
  return end;
}

size_t write_end(const End& end, uint8_t* out) {
  write_u32(out, end.end & kSequenceMask);
  return 4;
}

}  // namespace longhaul::udt
