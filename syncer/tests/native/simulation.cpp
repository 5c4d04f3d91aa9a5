#include "simulation.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <random>
#include <string>

#include "packet.hpp"

namespace longhaul::udt::virtual_time {
namespace {

constexpr size_t kPeriod = 65'521;  // a prime: no packet size divides it
constexpr int kMostIdleTurns = 1'000;

const std::array<uint8_t, kPeriod>& pattern() {
  static const auto bytes = [] {
    std::array<uint8_t, kPeriod> filled{};
    std::mt19937 random(99);
    for (auto& byte : filled) byte = static_cast<uint8_t>(random());
    return filled;
  }();
  return bytes;
}

// Calls `use(place in the pattern, offset, size)` for each piece of [from, from + size).
template <typename Use>
void pieces(uint64_t from, size_t size, Use use) {
  for (size_t done = 0; done < size;) {
    const size_t place = (from + done) % kPeriod;
    const size_t part = std::min(size - done, kPeriod - place);
    use(place, done, part);
    done += part;
  }
}

}  // namespace

void Content::write(uint64_t from, std::span<uint8_t> out) {
  pieces(from, out.size(), [&](size_t place, size_t offset, size_t size) {
    std::memcpy(out.data() + offset, pattern().data() + place, size);
  });
}

bool Content::matches(uint64_t from, std::span<const uint8_t> bytes) {
  bool same = true;
  pieces(from, bytes.size(), [&](size_t place, size_t offset, size_t size) {
    same = same && std::memcmp(bytes.data() + offset, pattern().data() + place, size) == 0;
  });
  return same;
}

void End::run_application(Micros now) {
  if (on_turn) on_turn(*this, now);
  if (connection.agreement().kind == SocketKind::kDatagram) return;
  memory_.resize(256 * 1024);
  while (written < to_write && connection.can_write()) {
    const size_t wanted = std::min<uint64_t>(to_write - written, memory_.size());
    const auto claim = connection.begin_write(wanted);
    if (claim.bytes == 0) break;
    Content::write(written, std::span(memory_).first(claim.bytes));
    connection.fill(claim, memory_.data());
    connection.end_write(claim);
    written += claim.bytes;
  }
  if (finish_after && written == to_write) connection.finish(now);
  while (reading && connection.can_read()) {
    const auto claim = connection.begin_read(memory_.size());
    if (claim.bytes == 0) break;
    connection.copy_out(claim, memory_.data());
    connection.end_read(claim);
    intact = intact && Content::matches(read, std::span(memory_).first(claim.bytes));
    read += claim.bytes;
    last_read_at = now;
  }
}

Simulation::Simulation(const LinkModel& rightward, const LinkModel& leftward, uint64_t seed, Micros start)
    : to_right(rightward, seed), to_left(leftward, seed + 1), now_(start) {}

Flow& Simulation::add_flow(ConnectionSettings left, ConnectionSettings right, uint32_t initial_sequence) {
  const auto id = static_cast<uint32_t>(flows.size() * 2 + 1);
  left.agreement.own_socket_id = right.agreement.peer_socket_id = id;
  left.agreement.peer_socket_id = right.agreement.own_socket_id = id + 1;
  for (auto* agreement : {&left.agreement, &right.agreement})
    agreement->own_initial = agreement->peer_initial = initial_sequence;
  left.agreement.peer_window = static_cast<uint32_t>(right.receive_packets);
  right.agreement.peer_window = static_cast<uint32_t>(left.receive_packets);
  auto flow = std::make_unique<Flow>();
  flow->left = std::make_unique<End>(left, now_);
  flow->right = std::make_unique<End>(right, now_);
  flows.push_back(std::move(flow));
  return *flows.back();
}

bool Simulation::run(Micros until, const std::function<bool()>& done) {
  int idle = 0;
  while (true) {
    for (size_t i = 0; i < flows.size(); ++i) {
      turn(*flows[i]->left, i, to_right);
      turn(*flows[i]->right, i, to_left);
    }
    if (done && done()) return true;
    Micros next = std::min(to_right.next_arrival(), to_left.next_arrival());
    for (const auto& flow : flows)
      for (const auto* end : {flow->left.get(), flow->right.get()})
        next = std::min(next, std::max(end->connection.next_deadline(), end->asleep_until));
    if (next >= until) {
      now_ = std::max(now_, until);
      return false;
    }
    idle = next <= now_ ? idle + 1 : 0;
    if (idle > kMostIdleTurns) throw std::logic_error("a connection wants a turn without end at " + std::to_string(now_));
    now_ = std::max(now_, next);
    arrive(to_right, true);
    arrive(to_left, false);
  }
}

void Simulation::arrive(SimulatedLink& link, bool rightward) {
  while (link.next_arrival() <= now_) {
    Parcel parcel = link.take();
    End& end = rightward ? *flows[parcel.flow]->right : *flows[parcel.flow]->left;
    const auto packet = parse_packet(parcel.bytes);
    if (!packet) throw std::logic_error("a connection sent what is no packet");
    if (packet->destination() != end.connection.agreement().own_socket_id)
      throw std::logic_error("a connection sent a packet to the wrong socket");
    end.connection.on_packet(*packet, now_);
    link.recycle(std::move(parcel));
  }
}

void Simulation::turn(End& end, size_t flow, SimulatedLink& out) {
  if (now_ < end.asleep_until) return;
  end.run_application(now_);
  do {
    outbox_.clear();
    end.connection.emit(now_, outbox_);
    for (const Datagram& datagram : outbox_.datagrams()) out.send(flow, {datagram.data, datagram.size}, now_);
  } while (outbox_.full());
}

ConnectionSettings settings_for(const LinkModel& link, Micros rtt, double bdps) {
  ConnectionSettings settings;
  const double bdp = link.rate_bps * static_cast<double>(rtt) / 8e6 / 1500;
  settings.send_packets = settings.receive_packets = static_cast<size_t>(std::max(256.0, std::ceil(bdp * bdps)));
  return settings;
}

}  // namespace longhaul::udt::virtual_time
