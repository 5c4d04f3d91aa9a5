// UDT packets: the bytes of draft-gg-udt-03 as UDT4 speaks them, and our own extension messages. Pure.
//
// Every packet is one UDP payload: a header of four 32-bit words in network order, then a body. Control bodies are words
// in network order too. Parsing never reads beyond the span, never allocates, and refuses what makes no sense.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace longhaul::udt {

constexpr size_t kHeaderSize = 16;
constexpr size_t kHandshakeSize = 48;
constexpr uint32_t kProtocolVersion = 4;

using Bytes = std::span<const uint8_t>;

enum class SocketKind : uint32_t { kStream = 1, kDatagram = 2 };

enum class ControlType : uint16_t {
  kHandshake = 0,
  kKeepAlive = 1,
  kAck = 2,
  kNak = 3,
  kCongestionWarning = 4,
  kShutdown = 5,
  kAck2 = 6,
  kDropRequest = 7,
  kPeerError = 8,
  kUser = 0x7fff,
};

// Subtypes of kUser that our own peers exchange. libudt hands them to its congestion control, which ignores them.
enum class Extension : uint16_t { kHello = 0x4c01, kReport = 0x4c02, kEnd = 0x4c03 };

// Place of a packet in its message, the two top bits of the third header word's message number.
enum class Boundary : uint8_t { kMiddle = 0, kLast = 1, kFirst = 2, kOnly = 3 };

struct DataHeader {
  uint32_t sequence = 0;
  Boundary boundary = Boundary::kOnly;
  bool in_order = false;
  uint32_t message = 0;  // 29 bits
  uint32_t timestamp = 0;
  uint32_t destination = 0;
};

struct ControlHeader {
  ControlType type = ControlType::kKeepAlive;
  uint16_t subtype = 0;
  uint32_t info = 0;  // "additional info": ACK number, message number, error code
  uint32_t timestamp = 0;
  uint32_t destination = 0;
};

struct PacketView {
  bool is_control = false;
  DataHeader data;        // valid when not is_control
  ControlHeader control;  // valid when is_control
  Bytes body;             // into the datagram

  uint32_t destination() const { return is_control ? control.destination : data.destination; }
};

// Nothing for a datagram that is shorter than a header or whose control type is unknown.
std::optional<PacketView> parse_packet(Bytes datagram);

void write_header(const DataHeader& header, uint8_t* out);     // kHeaderSize bytes
void write_header(const ControlHeader& header, uint8_t* out);  // kHeaderSize bytes

// The body of an ACK. A light one is the sequence alone; UDT4 leaves the last two words out of most full ones.
struct Ack {
  uint32_t sequence = 0;  // all before it arrived
  bool light = false;
  uint32_t rtt_us = 0;
  uint32_t rtt_variance_us = 0;
  uint32_t available_packets = 0;
  uint32_t receive_rate = 0;   // packets a second, 0: not told
  uint32_t link_capacity = 0;  // packets a second, 0: not told
};
std::optional<Ack> parse_ack(Bytes body);
size_t write_ack(const Ack& ack, uint8_t* out);  // bytes written: 4, 16, or 24 when rate or capacity are not 0

// An inclusive range of wire sequences.
struct LossRange {
  uint32_t first = 0;
  uint32_t last = 0;
};

// Reads the compressed loss list of a NAK or a report one range at a time.
class LossReader {
 public:
  explicit LossReader(Bytes list) : rest_(list) {}
  // The next range; nothing at the end, and at the first malformed word (then malformed() is true).
  std::optional<LossRange> next();
  bool malformed() const { return malformed_; }

 private:
  Bytes rest_;
  bool malformed_ = false;
};

// Writes ranges until `capacity` bytes are full.
class LossWriter {
 public:
  LossWriter(uint8_t* out, size_t capacity) : out_(out), capacity_(capacity) {}
  bool add(LossRange range);  // false: no room, nothing was written
  size_t size() const { return size_; }

 private:
  uint8_t* out_;
  size_t capacity_;
  size_t size_ = 0;
};

// The first and last wire sequence of a message that the sender gives up; its number is the header's info.
std::optional<LossRange> parse_drop_request(Bytes body);
size_t write_drop_request(LossRange range, uint8_t* out);  // 8 bytes

struct Handshake {
  static constexpr int32_t kRequest = 1;
  static constexpr int32_t kRendezvous = 0;
  static constexpr int32_t kConclusion = -1;
  static constexpr int32_t kAgreement = -2;
  static constexpr int32_t kRefusal = 1000;  // the lowest of those that mean one
  static constexpr int32_t kRefused = 1002;

  uint32_t version = kProtocolVersion;
  uint32_t kind = 1;  // SocketKind on the wire, as the peer said it
  uint32_t initial_sequence = 0;
  uint32_t mss = 1500;         // largest IP packet, bytes
  uint32_t flow_window = 0;    // packets
  int32_t request = kRequest;  // kRequest, kRendezvous, kConclusion, kAgreement, or a refusal of 1000 and more
  uint32_t socket_id = 0;
  uint32_t cookie = 0;
  uint32_t peer_ip[4] = {0, 0, 0, 0};
};
// Exactly kHandshakeSize bytes, a known request. Version, kind and sizes are left to the one who judges them: some of
// them are answered with a refusal.
std::optional<Handshake> parse_handshake(Bytes body);
void write_handshake(const Handshake& value, uint8_t* out);  // kHandshakeSize bytes

// Our extensions.

// Each side repeats it until it has seen one in which `heard` is set.
struct Hello {
  uint32_t version = 1;
  uint32_t features = 0;
  bool heard = false;
};
std::optional<Hello> parse_hello(Bytes body);
size_t write_hello(const Hello& hello, uint8_t* out);
constexpr size_t kHelloSize = 16;

// All that a receiver knows: what arrived, what is missing, when the newest came. Takes the place of ACK and NAK.
struct Report {
  uint32_t number = 0;             // counts up; an older one that comes late is ignored
  uint32_t acknowledged = 0;       // wire sequence: all before it arrived
  // Wire sequences: of [known_from, known_to) all arrived, but for the missing ranges. A long list comes in parts, each a
  // report of its own; `last_part` says that nothing at or after known_to arrived.
  uint32_t known_from = 0;
  uint32_t known_to = 0;
  bool last_part = true;
  uint64_t arrived = 0;            // distinct packets, total
  uint32_t duplicates = 0;         // total
  uint32_t echo = 0;               // time stamp of the data packet that came last
  uint32_t echo_held_us = 0;       // time from its arrival to this report
  uint32_t arrival_clock_us = 0;   // the receiver's clock when it came
  uint32_t available_packets = 0;  // room beyond `acknowledged`
  uint32_t reordering_us = 0;      // how late originals came lately, at most
  bool ended = false;              // the whole stream up to the sender's end arrived
  Bytes missing;                   // for LossReader
};
constexpr size_t kReportSize = 52;  // without the missing ranges
std::optional<Report> parse_report(Bytes body);
size_t write_report(const Report& report, uint8_t* out);  // kReportSize bytes; the caller appends the ranges behind it

// The sender's last packet is the one before `end`.
struct End {
  uint32_t end = 0;
};
std::optional<End> parse_end(Bytes body);
size_t write_end(const End& end, uint8_t* out);  // 4 bytes

}  // namespace longhaul::udt
