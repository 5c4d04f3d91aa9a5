// What goes through a socket: streams and messages.
#include <algorithm>

#include "clock.hpp"
#include "socket.hpp"
#include "socket_waiting.hpp"

namespace longhaul::udt {
namespace {

// Copied at once: the other side is told of what was copied before the rest is.
constexpr size_t kLargestClaim = 256 * 1024;

}  // namespace

Socket::Use Socket::connected() const {
  std::lock_guard lock(mutex_);
  check_open();
  if (!flow_) throw Error(ErrorKind::kNotConnected, "the socket is not connected");
  return {endpoint_, flow_};
}

size_t Socket::write(std::span<const uint8_t> data, bool all, const Patience& patience) {
  check_kind(kind_, SocketKind::kStream);
  const auto use = connected();  // not a binding: clang 14 lets no lambda capture its names
  const auto& endpoint = use.endpoint;
  const auto& flow = use.flow;
  std::unique_lock lock(flow->mutex);
  check_can_write(*flow);
  Turn turn(lock, flow->writing, flow->writer, patience, "send");
  Connection& connection = *flow->connection;
  size_t done = 0;
  while (done < data.size()) {
    check_can_write(*flow);
    const auto claim = connection.begin_write(std::min(data.size() - done, kLargestClaim));
    if (claim.bytes > 0) {
      lock.unlock();
      connection.fill(claim, data.data() + done);
      lock.lock();
      connection.end_write(claim);
      done += claim.bytes;
      changed(*endpoint, flow);
      continue;
    }
    if (done > 0 && !all) break;
    // A full buffer that drains is filled again in larger pieces.
    const size_t packets = (data.size() - done + connection.payload_size() - 1) / connection.payload_size();
    While wanted(lock, flow->write_wanted, std::clamp<size_t>(packets, 1, connection.send_capacity() / 4));
    if (!wait(lock, flow->writer, patience, [&] { return flow->enough_room() || flow->ended; }) &&
        connection.free_packets() == 0) {
      throw out_of_patience(patience, "send");
    }
  }
  return done;
}

size_t Socket::read(std::span<uint8_t> out, bool full, const Patience& patience) {
  check_kind(kind_, SocketKind::kStream);
  const auto use = connected();
  const auto& endpoint = use.endpoint;
  const auto& flow = use.flow;
  std::unique_lock lock(flow->mutex);
  if (!flow->connection) throw flow->broken_error();
  Turn turn(lock, flow->reading, flow->reader, patience, "recv");
  Connection& connection = *flow->connection;
  size_t done = 0;
  bool expired = false;
  while (done < out.size()) {
    if (flow->closed) throw flow->broken_error();
    const auto claim = connection.begin_read(std::min(out.size() - done, kLargestClaim));
    if (claim.bytes > 0) {
      lock.unlock();
      connection.copy_out(claim, out.data() + done);
      lock.lock();
      connection.end_read(claim);
      done += claim.bytes;
      changed(*endpoint, flow);
      continue;
    }
    if (done > 0 && (!full || expired)) break;
    if (connection.peer_state() == PeerState::kEnded) break;
    if (flow->failure || connection.peer_state() != PeerState::kOpen) {
      if (done > 0) break;
      throw flow->broken_error();
    }
    if (expired) throw out_of_patience(patience, "recv");
    const size_t most = connection.receive_capacity() * connection.payload_size() / 4;
    While wanted(lock, flow->read_wanted, full ? std::clamp<size_t>(out.size() - done, 1, most) : 1);
    expired = !wait(lock, flow->reader, patience, [&] { return flow->enough_to_read(); });
  }
  return done;
}

void Socket::finish() {
  const auto use = connected();
  const auto& endpoint = use.endpoint;
  const auto& flow = use.flow;
  std::unique_lock lock(flow->mutex);
  check_can_write(*flow);
  announce_end(lock, *endpoint, flow);
}

void Socket::write_message(std::span<const uint8_t> message, Micros lifetime, bool in_order, const Patience& patience) {
  check_kind(kind_, SocketKind::kDatagram);
  const auto use = connected();
  const auto& endpoint = use.endpoint;
  const auto& flow = use.flow;
  std::unique_lock lock(flow->mutex);
  check_can_write(*flow);
  Turn turn(lock, flow->writing, flow->writer, patience, "sendmsg");
  Connection& connection = *flow->connection;
  if (!connection.message_fits_ever(message.size())) {
    throw Error(ErrorKind::kMessageTooLarge,
                message.empty() ? "a message has at least one byte"
                                : "a message of " + std::to_string(message.size()) + " bytes is larger than the send buffer or the peer's receive buffer",
                EMSGSIZE);
  }
  const size_t packets = (message.size() + connection.payload_size() - 1) / connection.payload_size();
  while (true) {
    check_can_write(*flow);
    if (connection.write_message(message, monotonic_now(), lifetime, in_order)) break;
    While wanted(lock, flow->write_wanted, packets);
    if (!wait(lock, flow->writer, patience, [&] { return flow->enough_room() || flow->ended; })) {
      throw out_of_patience(patience, "sendmsg");
    }
  }
  changed(*endpoint, flow);
}

std::optional<size_t> Socket::read_message(std::span<uint8_t> out, const Patience& patience) {
  check_kind(kind_, SocketKind::kDatagram);
  const auto use = connected();
  const auto& endpoint = use.endpoint;
  const auto& flow = use.flow;
  std::unique_lock lock(flow->mutex);
  if (!flow->connection) throw flow->broken_error();
  Turn turn(lock, flow->reading, flow->reader, patience, "recvmsg");
  Connection& connection = *flow->connection;
  while (true) {
    if (flow->closed) throw flow->broken_error();
    if (const auto size = connection.read_message(out)) {
      changed(*endpoint, flow);
      return size;
    }
    if (connection.peer_state() == PeerState::kEnded) return std::nullopt;
    if (flow->failure || connection.peer_state() != PeerState::kOpen) throw flow->broken_error();
    While wanted(lock, flow->read_wanted, size_t{1});
    if (!wait(lock, flow->reader, patience, [&] { return flow->enough_to_read(); })) {
      throw out_of_patience(patience, "recvmsg");
    }
  }
}

bool Socket::wait_unsent_below(int64_t packets, const Patience& patience) {
  const auto use = connected();
  const auto& flow = use.flow;
  std::unique_lock lock(flow->mutex);
  Watch watch(lock, *flow);
  flow->unsent_wanted = std::max(flow->unsent_wanted, packets);
  auto broken = [&] { return flow->closed || flow->failure || !flow->connection || flow->connection->peer_gone(); };
  const bool in_time =
      wait(lock, flow->watcher, patience, [&] { return broken() || flow->connection->unsent_packets() < packets; });
  if (broken()) throw flow->broken_error();
  return in_time;
}

bool Socket::wait_delivered(const Patience& patience) {
  const auto use = connected();
  const auto& flow = use.flow;
  std::unique_lock lock(flow->mutex);
  Watch watch(lock, *flow);
  auto delivered = [&] {
    return flow->connection && flow->connection->free_packets() == flow->connection->send_capacity();
  };
  auto broken = [&] { return flow->closed || flow->failure || !flow->connection || flow->connection->peer_gone(); };
  const bool in_time = wait(lock, flow->watcher, patience, [&] { return delivered() || broken(); });
  if (!delivered() && broken()) throw flow->broken_error();
  return in_time;
}

}  // namespace longhaul::udt
