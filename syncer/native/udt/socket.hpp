// A UDT socket: calls that wait, as the operating system's sockets have them. Any thread may use it; one at a time reads
// and one at a time writes, others wait for their turn. close() from another thread wakes all who wait.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>

#include "endpoint.hpp"
#include "errors.hpp"
#include "flow.hpp"
#include "listener.hpp"
#include "settings.hpp"

namespace longhaul::udt {

// How long a call may wait.
struct Patience {
  Micros until = kNever;                      // monotonic; in the past: not at all, then it fails with kWouldBlock
  bool may_block = true;                      // false: kWouldBlock in place of kTimedOut
  std::function<void()> interruption = {};    // called about ten times a second without any lock; throws to give up

  static Patience none() { return {0, false, {}}; }
};

// UDT4's states under their numbers.
enum class SocketState {
  kInitial = 1,
  kOpened = 2,
  kListening = 3,
  kConnecting = 4,
  kConnected = 5,
  kBroken = 6,
  kClosing = 7,
  kClosed = 8,
};

struct SocketStatistics {
  Statistics connection;
  std::string control;
  std::string control_state;
  Agreement agreement;
  EndpointStatus endpoint;
};

class Socket {
 public:
  Socket(const Settings& settings, SocketKind kind);
  ~Socket();
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;

  SocketKind kind() const { return kind_; }
  Settings settings() const;
  void configure(const Settings& settings);  // before connect or listen

  // Hosts are numeric. A socket that is not bound binds itself to any free port.
  void bind(int family, const std::string& host, int port);
  void bind_descriptor(int descriptor);  // takes it over
  void listen(size_t backlog);
  std::unique_ptr<Socket> accept(const Patience& patience);
  // Patience that may not block only begins: the socket is writable once it is decided, and connect_result tells.
  void connect(int family, const std::string& host, int port, const Patience& patience);
  void connect_result() const;  // throws what the attempt failed with, or kWouldBlock

  // Streams. `write` takes some, at least one byte, or all of them; it fails with kTimedOut only if none were taken, or
  // not all where all are to be.
  size_t write(std::span<const uint8_t> data, bool all, const Patience& patience);
  // 0: the end of the stream. `full`: fewer than asked for only at the end or the deadline.
  size_t read(std::span<uint8_t> out, bool full, const Patience& patience);
  // No more will be written; what was is still delivered.
  void finish();

  // Messages. A lifetime below 0: for ever.
  void write_message(std::span<const uint8_t> message, Micros lifetime, bool in_order, const Patience& patience);
  std::optional<size_t> read_message(std::span<uint8_t> out, const Patience& patience);  // its whole size; none: the end

  // Waits. False: the deadline passed.
  bool wait_unsent_below(int64_t packets, const Patience& patience);
  bool wait_delivered(const Patience& patience);

  // Announces the end and waits for all to be delivered, at most for the patience; then says farewell. Returns how many
  // bytes are not known to have arrived. At once where nothing can be delivered any more. A second time does nothing.
  size_t close(const Patience& linger);
  void abort() { close(Patience::none()); }

  SocketState state() const;
  bool can_read() const;  // a call that reads (or accepts) would not wait
  bool can_write() const;
  int readable_descriptor();
  int writable_descriptor();
  size_t readable_bytes() const;
  int64_t unsent_packets() const;
  size_t undelivered_bytes() const;
  SocketAddress local_address() const;
  SocketAddress peer_address() const;
  SocketStatistics statistics() const;
  void set_rate_bps(double bits_per_second);

 private:
  Socket(const Settings& settings, SocketKind kind, std::shared_ptr<Endpoint> endpoint, std::shared_ptr<Flow> flow);

  struct Use {
    std::shared_ptr<Endpoint> endpoint;
    std::shared_ptr<Flow> flow;
  };
  Use connected() const;  // throws unless there is a connection, or was one
  std::shared_ptr<Flow> flow() const;
  std::shared_ptr<Endpoint> endpoint() const;
  void bind_to(std::shared_ptr<Endpoint> endpoint);
  void check_open() const;

  const SocketKind kind_;
  mutable std::mutex mutex_;
  Settings settings_;
  std::shared_ptr<Endpoint> endpoint_;
  std::shared_ptr<Listener> listener_;
  std::shared_ptr<Flow> flow_;
  bool closing_ = false;
  bool closed_ = false;
  std::optional<SocketAddress> local_;
};

}  // namespace longhaul::udt
