// Fuzz target: two connections under an adversary who owns the network between them.
//
// The input decides everything: what the applications do, when time passes, and for each packet whether it is delivered,
// lost, kept for later, repeated, or, in the forging mode, changed or made up. Whatever comes:
//   no crash, no turn without end, no more output than the congestion control allows for,
//   what is read is a prefix of what was written, unless something was forged,
//   and once the network works again, all of it arrives.
#include <algorithm>
#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "byte_order.hpp"
#include "connection.hpp"
#include "fuzz_check.hpp"
#include "outbox.hpp"
#include "packet.hpp"

namespace longhaul::udt {
namespace {

constexpr size_t kKept = 256;        // packets that the adversary remembers in each direction
constexpr size_t kMostTurns = 4096;  // so that one input takes milliseconds
constexpr uint32_t kMss = 300;
constexpr Micros kPatience = 600'000'000;

uint8_t content(uint64_t at) { return static_cast<uint8_t>(at * 131 + (at >> 8)); }

struct Side {
  explicit Side(const ConnectionSettings& settings, Micros now) : connection(settings, now) {}

  Connection connection;
  uint64_t written = 0;
  uint64_t read = 0;
  std::deque<std::vector<uint8_t>> under_way;  // what it sent, oldest first
  std::vector<std::vector<uint8_t>> kept;      // what it sent, for replays
};

class Duel {
 public:
  explicit Duel(Choices& choices) : choices_(choices) {
    const uint8_t mode = choices_.byte();
    forging_ = (mode & 1) != 0;
    datagrams_ = (mode & 2) != 0;
    const std::array<uint32_t, 4> initials{0, 1, kSequenceMask, kSequenceMask - 40};
    const uint32_t initial = initials[choices_.byte() & 3];
    now_ = 1'000'000;
    const size_t send_packets = 2 + choices_.below(64);
    for (uint32_t i = 0; i < 2; ++i) {
      ConnectionSettings settings;
      settings.agreement = {.kind = datagrams_ ? SocketKind::kDatagram : SocketKind::kStream,
                            .own_socket_id = i + 1,
                            .peer_socket_id = 2 - i,
                            .own_initial = initial,
                            .peer_initial = initial,
                            .mss = kMss,
                            .peer_window = 64,
                            .rendezvous = false};
      settings.send_packets = send_packets;
      settings.receive_packets = 64;
      settings.extensions = (mode & (4u << i)) == 0;
      settings.ipv6 = (mode & 16) != 0;
      settings.control.kind = static_cast<ControlKind>((mode >> 5) % 4);
      settings.control.rate = 1'000;
      sides_.push_back(std::make_unique<Side>(settings, now_));
    }
  }

  void run() {
    for (size_t turn = 0; turn < kMostTurns && !choices_.empty(); ++turn) step();
    for (size_t i = 0; i < 2; ++i) check(i);
    if (!forged_) recover();
  }

 private:
  Side& side(size_t i) { return *sides_[i]; }

  void step() {
    const uint8_t what = choices_.byte();
    const size_t from = what & 1;
    switch ((what >> 1) % 16) {
      case 0: case 1: case 2: case 3: carry(from, 1 + choices_.below(8)); break;
      case 4: lose(from, 1 + choices_.below(8)); break;
      case 5: swap(from); break;
      case 6: replay(from); break;
      case 7: pass(choices_.below(20'000)); break;
      case 8: pass_to_deadline(); break;
      case 9: write(from, choices_.below(2'000)); break;
      case 10: write(from, choices_.below(256)); break;
      case 11: read(from, choices_.below(4'000)); break;
      case 12: rarely(from); break;
      case 13: forging_ ? forge(from) : carry(from, 64); break;
      case 14: forging_ ? change(from) : carry(from, 64); break;
      default:
        // A network that works, for a while.
        for (int i = 0; i < 4; ++i) {
          carry(0, 64);
          carry(1, 64);
          pass_to_deadline();
        }
    }
    emit(from);
    check(from);
  }

  bool alive(size_t i) { return !side(i).connection.peer_gone() && !closed_; }

  bool settled() {
    for (size_t i = 0; i < 2; ++i)
      if (side(i).connection.undelivered_bytes() > 0 || (!datagrams_ && side(1 - i).read < side(i).written)) return false;
    return true;
  }

  void recover() {
    const Micros give_up_at = now_ + kPatience;
    while (alive(0) && alive(1) && !settled()) {
      REQUIRE_THAT(now_ < give_up_at);
      pass_to_deadline();
      for (size_t i = 0; i < 2; ++i) {
        carry(i, kKept);
        read(1 - i, 4'096);
        emit(1 - i);
        check(i);
      }
    }
  }

  void rarely(size_t i) {
    Connection& connection = side(i).connection;
    switch (choices_.byte() % 8) {
      case 0: connection.finish(now_); break;
      case 1:
        connection.close();
        closed_ = true;
        break;
      case 2: pass(6'000'000); break;
      case 3: connection.set_rate_bps(choices_.below(10'000'000)); break;
      case 4: pass((Micros{1} << 32) - 1'000'000); break;
      default: connection.statistics(now_); break;
    }
  }

  void pass(Micros time) {
    now_ += time;
    emit(0);
    emit(1);
  }

  void pass_to_deadline() {
    const Micros next = std::min(side(0).connection.next_deadline(), side(1).connection.next_deadline());
    if (next != kNever) now_ = std::max(now_, next);
    emit(0);
    emit(1);
  }

  void emit(size_t i) {
    Connection& connection = side(i).connection;
    // What is due is done in a few turns, or a thread would spin.
    for (int turns = 0; turns == 0 || connection.next_deadline() <= now_; ++turns) {
      REQUIRE_THAT(turns < 64);
      outbox_.clear();
      connection.emit(now_, outbox_);
      for (const Datagram& datagram : outbox_.datagrams()) {
        REQUIRE_THAT(datagram.size >= kHeaderSize && datagram.size <= kMss - 28);
        const auto packet = parse_packet({datagram.data, datagram.size});
        REQUIRE_THAT(packet && packet->destination() == 2 - i);
        std::vector<uint8_t> bytes(datagram.data, datagram.data + datagram.size);
        if (side(i).kept.size() < kKept) side(i).kept.push_back(bytes);
        side(i).under_way.push_back(std::move(bytes));
        if (side(i).under_way.size() > kKept) side(i).under_way.pop_front();
      }
    }
  }

  void give(size_t from, const std::vector<uint8_t>& bytes) {
    const auto packet = parse_packet(bytes);
    // The endpoint hands on what has the right id and comes from the peer's address.
    if (packet && packet->destination() == 2 - from) side(1 - from).connection.on_packet(*packet, now_);
  }

  void carry(size_t from, uint32_t count) {
    auto& under_way = side(from).under_way;
    for (; count > 0 && !under_way.empty(); --count) {
      const auto bytes = std::move(under_way.front());
      under_way.pop_front();
      give(from, bytes);
    }
    emit(1 - from);
  }

  void lose(size_t from, uint32_t count) {
    auto& under_way = side(from).under_way;
    for (; count > 0 && !under_way.empty(); --count) under_way.pop_front();
  }

  void swap(size_t from) {
    auto& under_way = side(from).under_way;
    if (under_way.size() < 2) return;
    const auto one = choices_.below(static_cast<uint32_t>(under_way.size()));
    const auto other = choices_.below(static_cast<uint32_t>(under_way.size()));
    std::swap(under_way[one], under_way[other]);
  }

  void replay(size_t from) {
    const auto& kept = side(from).kept;
    if (!kept.empty()) give(from, kept[choices_.below(static_cast<uint32_t>(kept.size()))]);
  }

  // A packet that the peer did send, with some bytes changed; not the content of a data packet.
  void change(size_t from) {
    const auto& kept = side(from).kept;
    if (kept.empty()) return;
    auto bytes = kept[choices_.below(static_cast<uint32_t>(kept.size()))];
    for (uint32_t changes = 1 + choices_.below(3); changes > 0; --changes)
      bytes[choices_.below(static_cast<uint32_t>(std::min<size_t>(bytes.size(), 80)))] = choices_.byte();
    write_u32(bytes.data() + 12, static_cast<uint32_t>(2 - from));
    forged_ = true;
    give(from, bytes);
  }

  void forge(size_t from) {
    const uint8_t kind = choices_.byte();
    std::vector<uint8_t> bytes(kHeaderSize);
    const auto body = choices_.bytes(choices_.byte());
    const uint32_t near = side(from).kept.empty() ? 0 : read_u32(side(from).kept.back().data()) & kSequenceMask;
    if (kind < 64) {
      write_header(DataHeader{.sequence = (near + choices_.below(256) - 128) & kSequenceMask,
                              .boundary = static_cast<Boundary>(kind & 3),
                              .in_order = (kind & 4) != 0,
                              .message = choices_.below(16),
                              .timestamp = choices_.word(),
                              .destination = static_cast<uint32_t>(2 - from)},
                   bytes.data());
    } else {
      constexpr std::array<uint16_t, 5> kSubtypes{0x4c01, 0x4c02, 0x4c03, 0x4c04, 0};
      write_header(ControlHeader{.type = kind < 160 ? ControlType::kUser : static_cast<ControlType>(kind % 9),
                                 .subtype = kSubtypes[kind % kSubtypes.size()],
                                 .info = choices_.byte(),
                                 .timestamp = choices_.word(),
                                 .destination = static_cast<uint32_t>(2 - from)},
                   bytes.data());
    }
    bytes.insert(bytes.end(), body.begin(), body.end());
    forged_ = true;
    give(from, bytes);
  }

  void write(size_t i, uint32_t size) {
    Side& writer = side(i);
    std::vector<uint8_t> bytes(size);
    if (datagrams_) {
      // A message says its own size and number at each byte: the number of the message, over and over.
      if (size == 0 || !writer.connection.message_fits_ever(size)) return;
      std::fill(bytes.begin(), bytes.end(), content(writer.written));
      const Micros lifetime = (size & 3) == 0 ? static_cast<Micros>(size) * 10 : -1;
      if (writer.connection.write_message(bytes, now_, lifetime, (size & 4) != 0)) ++writer.written;
      return;
    }
    const auto claim = writer.connection.begin_write(size);
    REQUIRE_THAT(claim.bytes <= size);
    if (claim.bytes == 0) return;
    for (size_t at = 0; at < claim.bytes; ++at) bytes[at] = content(writer.written + at);
    if ((size & 1) != 0) emit(i);  // what is claimed may not be sent meanwhile
    writer.connection.fill(claim, bytes.data());
    writer.connection.end_write(claim);
    writer.written += claim.bytes;
  }

  void read(size_t i, uint32_t size) {
    Side& reader = side(i);
    std::vector<uint8_t> bytes(size);
    if (datagrams_) {
      const bool expected = reader.connection.can_read();
      const auto whole = reader.connection.read_message(bytes);
      REQUIRE_THAT(expected == whole.has_value());
      if (!whole) return;
      ++reader.read;
      if (forged_) return;
      REQUIRE_THAT(reader.read <= side(1 - i).written);  // none comes twice
      for (size_t at = 1; at < std::min<size_t>(*whole, size); ++at) REQUIRE_THAT(bytes[at] == bytes[0]);
      return;
    }
    const auto claim = reader.connection.begin_read(size);
    REQUIRE_THAT(claim.bytes <= size);
    if (claim.bytes == 0) return;
    reader.connection.copy_out(claim, bytes.data());
    reader.connection.end_read(claim);
    if (!forged_)
      for (size_t at = 0; at < claim.bytes; ++at) REQUIRE_THAT(bytes[at] == content(reader.read + at));
    reader.read += claim.bytes;
  }

  void check(size_t i) {
    Side& reader = side(i);
    const Statistics statistics = reader.connection.statistics(now_);
    REQUIRE_THAT(statistics.in_flight_packets >= 0 && statistics.in_flight_packets <= statistics.send_buffer_packets);
    REQUIRE_THAT(statistics.packets_missing >= 0 && statistics.packets_missing <= 64);
    REQUIRE_THAT(statistics.receive_buffer_packets >= 0 && statistics.receive_buffer_packets <= 64);
    REQUIRE_THAT(statistics.send_buffer_packets <= 66);
    REQUIRE_THAT(reader.connection.readable_bytes() <= 64 * kMss);
    if (forged_ || datagrams_) return;
    REQUIRE_THAT(reader.read + reader.connection.readable_bytes() <= side(1 - i).written);
    if (reader.connection.peer_state() == PeerState::kEnded && statistics.extended_peer)
      REQUIRE_THAT(reader.read + reader.connection.readable_bytes() == side(1 - i).written);
    if (reader.connection.finished() && statistics.extended_peer)
      REQUIRE_THAT(side(1 - i).read + side(1 - i).connection.readable_bytes() == reader.written);
    // What the sender has let go of has arrived.
    REQUIRE_THAT(reader.written - reader.connection.undelivered_bytes() <=
                 side(1 - i).read + side(1 - i).connection.readable_bytes());
  }

  Choices& choices_;
  bool forging_ = false;
  bool datagrams_ = false;
  bool forged_ = false;
  bool closed_ = false;
  std::vector<std::unique_ptr<Side>> sides_;
  Outbox outbox_;
  Micros now_ = 0;
};

}  // namespace
}  // namespace longhaul::udt

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  longhaul::udt::Choices choices({data, size});
  longhaul::udt::Duel(choices).run();
  return 0;
}
