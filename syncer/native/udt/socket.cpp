#include "socket.hpp"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <utility>

#include "clock.hpp"

namespace longhaul::udt {
namespace {

constexpr Micros kInterruptionInterval = 100'000;
// Copied at once: the other side is told of what was copied before the rest is.
constexpr size_t kLargestClaim = 256 * 1024;
constexpr uint32_t kLargestMss = 16'000;  // control packets of that size have to fit into an outbox
constexpr size_t kLargestBuffer = size_t{4} << 30;

// False: the deadline passed.
template <typename Ready>
bool wait(std::unique_lock<std::mutex>& lock, std::condition_variable& condition, const Patience& patience, Ready ready) {
  while (!ready()) {
    const Micros now = monotonic_now();
    if (!patience.may_block || now >= patience.until) return false;
    const Micros until = patience.interruption ? std::min(patience.until, now + kInterruptionInterval) : patience.until;
    if (until == kNever) {
      condition.wait(lock);
      continue;
    }
    condition.wait_until(lock, std::chrono::steady_clock::time_point(std::chrono::microseconds(until)));
    if (patience.interruption && !ready() && monotonic_now() >= now + kInterruptionInterval) {
      lock.unlock();
      patience.interruption();
      lock.lock();
    }
  }
  return true;
}

Error out_of_patience(const Patience& patience, const std::string& what) {
  if (!patience.may_block) return {ErrorKind::kWouldBlock, what + " would have to wait"};
  return {ErrorKind::kTimedOut, what + " timed out"};
}

// The right to read, or to write: one thread at a time.
class Turn {
 public:
  Turn(std::unique_lock<std::mutex>& lock, bool& taken, std::condition_variable& condition, const Patience& patience,
       const char* what)
      : lock_(lock), taken_(taken), condition_(condition) {
    if (!wait(lock, condition, patience, [&] { return !taken; })) throw out_of_patience(patience, what);
    taken = true;
  }
  ~Turn() {
    if (!lock_.owns_lock()) lock_.lock();
    taken_ = false;
    condition_.notify_all();
  }
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;

 private:
  std::unique_lock<std::mutex>& lock_;
  bool& taken_;
  std::condition_variable& condition_;
};

// Sets `value` while it lives; the mutex may be released by then, after an interruption.
template <typename Value>
class While {
 public:
  While(std::unique_lock<std::mutex>& lock, Value& value, Value on) : lock_(lock), value_(value), off_(value) { value = on; }
  ~While() {
    if (!lock_.owns_lock()) lock_.lock();
    value_ = off_;
  }
  While(const While&) = delete;
  While& operator=(const While&) = delete;

 private:
  std::unique_lock<std::mutex>& lock_;
  Value& value_;
  Value off_;
};

class Watch {
 public:
  Watch(std::unique_lock<std::mutex>& lock, Flow& flow) : lock_(lock), flow_(flow) { ++flow_.watchers; }
  ~Watch() {
    if (!lock_.owns_lock()) lock_.lock();
    if (--flow_.watchers == 0) flow_.unsent_wanted = 0;
  }
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;

 private:
  std::unique_lock<std::mutex>& lock_;
  Flow& flow_;
};

// After the application changed something: the endpoint's thread looks at it if it has to do so earlier than it planned.
void changed(Endpoint& endpoint, const std::shared_ptr<Flow>& flow) {
  const Micros next = flow->next_deadline();
  if (next < flow->scheduled) {
    flow->scheduled = next;
    endpoint.wake(flow);
  }
  flow->settle();
}

void check_can_write(const Flow& flow) {
  if (flow.closed || flow.failure || !flow.connection || flow.connection->peer_gone()) throw flow.broken_error();
  if (flow.ended) throw Error(ErrorKind::kClosed, "the end of what is written was announced already");
}

// No more will be written. Who is at it finishes the piece that it has in hand: the end comes behind it.
void announce_end(std::unique_lock<std::mutex>& lock, Endpoint& endpoint, const std::shared_ptr<Flow>& flow) {
  flow->ended = true;
  flow->writer.notify_all();
  wait(lock, flow->writer, Patience{}, [&] { return !flow->writing; });
  flow->connection->finish(monotonic_now());
  changed(endpoint, flow);
}

void check_kind(SocketKind is, SocketKind wanted) {
  if (is == wanted) return;
  throw Error(ErrorKind::kMisuse, is == SocketKind::kStream ? "a stream socket has no messages: use send and recv"
                                                            : "a message socket has no stream: use sendmsg and recvmsg");
}

// The flow is dropped without waiting. Its mutex is not held.
void drop(const std::shared_ptr<Endpoint>& endpoint, const std::shared_ptr<Flow>& flow) {
  {
    std::lock_guard lock(flow->mutex);
    flow->closed = true;
    if (flow->connection) flow->connection->close();
    flow->settle();
    endpoint->wake(flow);
  }
  flow->notify({true, true, true});
}

void check(const Settings& settings) {
  auto require = [](bool good, const char* message) {
    if (!good) throw Error(ErrorKind::kMisuse, message);
  };
  require(settings.mss >= kSmallestMss && settings.mss <= kLargestMss, "mss must be in 200..16000 bytes");
  require(settings.send_buffer_bytes > 0 && settings.send_buffer_bytes <= kLargestBuffer &&
              settings.receive_buffer_bytes > 0 && settings.receive_buffer_bytes <= kLargestBuffer,
          "buffers must be larger than 0 and at most 4 GiB");
  require(settings.rate_bps >= 0 && settings.ceiling_bps >= 0, "rates must not be negative");
  require(settings.control != ControlKind::kFixed || settings.rate_bps > 0, "the control 'fixed' needs a rate_bps");
  require(settings.dead_after >= 100'000, "dead_after must be at least 0.1 s");
  require(settings.connect_timeout > 0, "connect_timeout must be larger than 0");
  require(settings.max_connections > 0, "max_connections must be larger than 0");
  require(settings.udp_receive_buffer_bytes > 0 && settings.udp_send_buffer_bytes > 0,
          "UDP buffers must be larger than 0");
}

}  // namespace

Socket::Socket(const Settings& settings, SocketKind kind) : kind_(kind), settings_(settings) { check(settings); }

Socket::Socket(const Settings& settings, SocketKind kind, std::shared_ptr<Endpoint> endpoint, std::shared_ptr<Flow> flow)
    : kind_(kind), settings_(settings), endpoint_(std::move(endpoint)), flow_(std::move(flow)), local_(endpoint_->local()) {}

Socket::~Socket() {
  try {
    abort();
  } catch (const std::exception&) {
    // After a fork: the parent's socket is not this process's to close.
  }
}

Settings Socket::settings() const {
  std::lock_guard lock(mutex_);
  return settings_;
}

void Socket::configure(const Settings& settings) {
  check(settings);
  std::lock_guard lock(mutex_);
  check_open();
  if (flow_ || listener_) throw Error(ErrorKind::kMisuse, "settings are for before connect or listen");
  settings_ = settings;
}

void Socket::check_open() const {
  if (closed_) throw Error(ErrorKind::kClosed, "the socket was closed at this end");
  if (endpoint_) endpoint_->check_usable();
}

// Set-up.

void Socket::bind_to(std::shared_ptr<Endpoint> endpoint) {
  local_ = endpoint->local();
  endpoint_ = std::move(endpoint);
}

void Socket::bind(int family, const std::string& host, int port) {
  const SocketAddress address = SocketAddress::parse(family, host, port);
  std::lock_guard lock(mutex_);
  check_open();
  if (endpoint_) throw Error(ErrorKind::kMisuse, "the socket is bound already");
  bind_to(Endpoint::open(address, settings_));
}

void Socket::bind_descriptor(int descriptor) {
  std::lock_guard lock(mutex_);
  check_open();
  if (endpoint_) throw Error(ErrorKind::kMisuse, "the socket is bound already");
  bind_to(Endpoint::adopt(descriptor, settings_));
}

void Socket::listen(size_t backlog) {
  if (backlog == 0) throw Error(ErrorKind::kMisuse, "the backlog must be larger than 0");
  std::lock_guard lock(mutex_);
  check_open();
  if (!endpoint_) throw Error(ErrorKind::kMisuse, "bind the socket before it listens");
  if (settings_.rendezvous) throw Error(ErrorKind::kMisuse, "a rendezvous connects at both ends: neither listens");
  if (flow_) throw Error(ErrorKind::kMisuse, "the socket is connected");
  if (listener_) return;
  auto listener = std::make_shared<Listener>(settings_, kind_, backlog);
  endpoint_->listen(listener);
  listener_ = std::move(listener);
}

std::unique_ptr<Socket> Socket::accept(const Patience& patience) {
  std::shared_ptr<Listener> listener;
  std::shared_ptr<Endpoint> endpoint;
  {
    std::lock_guard lock(mutex_);
    check_open();
    if (!listener_) throw Error(ErrorKind::kMisuse, "the socket does not listen");
    listener = listener_;
    endpoint = endpoint_;
  }
  std::unique_lock lock(listener->mutex);
  if (!wait(lock, listener->arrived, patience, [&] { return listener->can_accept(); })) {
    throw out_of_patience(patience, "accept");
  }
  if (listener->closed) throw Error(ErrorKind::kClosed, "the socket was closed at this end");
  auto flow = listener->take();
  lock.unlock();
  return std::unique_ptr<Socket>(new Socket(listener->settings, kind_, std::move(endpoint), std::move(flow)));
}

void Socket::connect(int family, const std::string& host, int port, const Patience& patience) {
  std::shared_ptr<Endpoint> endpoint;
  std::shared_ptr<Flow> flow;
  {
    std::lock_guard lock(mutex_);
    check_open();
    if (listener_) throw Error(ErrorKind::kMisuse, "the socket listens");
    if (flow_) throw Error(ErrorKind::kMisuse, "the socket is connected, or connecting, already");
    if (settings_.rendezvous && !endpoint_) {
      throw Error(ErrorKind::kMisuse, "bind the socket before a rendezvous: its peer has to know the port");
    }
    const SocketAddress peer = SocketAddress::parse(endpoint_ ? endpoint_->local().family() : family, host, port);
    if (peer.port() == 0 || peer.is_any()) throw Error(ErrorKind::kMisuse, peer.text() + " is no address to connect to");
    if (!endpoint_) bind_to(Endpoint::open(SocketAddress::parse(peer.family(), "", 0), settings_));
    endpoint = endpoint_;
    flow = flow_ = std::make_shared<Flow>(settings_, kind_, Path{peer, {}});
    endpoint->add(flow);
  }
  if (!patience.may_block) return;
  auto forget = [&] {
    drop(endpoint, flow);
    std::lock_guard lock(mutex_);
    if (flow_ == flow) flow_.reset();
  };
  try {
    std::unique_lock lock(flow->mutex);
    Watch watch(lock, *flow);
    if (!wait(lock, flow->watcher, patience, [&] { return !flow->connecting(); })) {
      throw Error(ErrorKind::kTimedOut, flow->path.peer.text() + ": no answer yet: connect timed out");
    }
    if (flow->failure || flow->closed) throw flow->broken_error();
  } catch (...) {
    forget();
    throw;
  }
}

void Socket::connect_result() const {
  const auto flow = this->flow();
  if (!flow) throw Error(ErrorKind::kNotConnected, "the socket is not connected");
  std::lock_guard lock(flow->mutex);
  if (flow->connecting()) throw Error(ErrorKind::kWouldBlock, "the socket is still connecting");
  if (flow->failure || flow->closed) throw flow->broken_error();
}

// Data.

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

// The end.

size_t Socket::close(const Patience& linger) {
  std::shared_ptr<Endpoint> endpoint;
  std::shared_ptr<Listener> listener;
  std::shared_ptr<Flow> flow;
  {
    std::lock_guard lock(mutex_);
    if (closed_) return 0;
    if (endpoint_ && endpoint_->inherited()) {
      closed_ = true;
      endpoint_.reset();
      return 0;
    }
    closing_ = true;
    endpoint = endpoint_;
    listener = listener_;
    flow = flow_;
  }
  size_t undelivered = 0;
  std::exception_ptr interrupted;
  if (listener) {
    endpoint->unlisten(*listener);
    std::deque<std::shared_ptr<Flow>> waiting;
    {
      std::lock_guard lock(listener->mutex);
      waiting = listener->close();
    }
    listener->arrived.notify_all();
    for (const auto& unaccepted : waiting) drop(endpoint, unaccepted);
  }
  if (flow) {
    {
      std::unique_lock lock(flow->mutex);
      auto hopeless = [&] {
        return flow->closed || flow->failure || !flow->connection || flow->connection->peer_gone();
      };
      if (!hopeless() && linger.may_block) {
        announce_end(lock, *endpoint, flow);
        try {
          Watch watch(lock, *flow);
          wait(lock, flow->watcher, linger, [&] { return hopeless() || flow->connection->finished(); });
        } catch (...) {
          interrupted = std::current_exception();
        }
      }
      if (flow->connection) undelivered = flow->connection->undelivered_bytes();
    }
    drop(endpoint, flow);
  }
  {
    std::lock_guard lock(mutex_);
    closed_ = true;
    endpoint_.reset();
    listener_.reset();
  }
  if (interrupted) std::rethrow_exception(interrupted);
  return undelivered;
}

// What it is.

std::shared_ptr<Flow> Socket::flow() const {
  std::lock_guard lock(mutex_);
  if (endpoint_) endpoint_->check_usable();
  return flow_;
}

SocketState Socket::state() const {
  std::shared_ptr<Flow> flow;
  {
    std::lock_guard lock(mutex_);
    if (closed_) return SocketState::kClosed;
    if (closing_) return SocketState::kClosing;
    if (listener_) return SocketState::kListening;
    if (!flow_) return endpoint_ ? SocketState::kOpened : SocketState::kInitial;
    if (endpoint_->inherited()) return SocketState::kBroken;
    flow = flow_;
  }
  std::lock_guard lock(flow->mutex);
  if (flow->connecting()) return SocketState::kConnecting;
  if (flow->failure || flow->closed || flow->connection->peer_gone()) return SocketState::kBroken;
  const PeerState peer = flow->connection->peer_state();
  return peer == PeerState::kBroken || peer == PeerState::kSilent ? SocketState::kBroken : SocketState::kConnected;
}

bool Socket::can_read() const {
  std::shared_ptr<Listener> listener;
  {
    std::lock_guard lock(mutex_);
    listener = listener_;
  }
  if (listener) {
    std::lock_guard lock(listener->mutex);
    return listener->can_accept();
  }
  const auto flow = this->flow();
  if (!flow) return false;
  std::lock_guard lock(flow->mutex);
  return flow->can_read_or_fails();
}

bool Socket::can_write() const {
  const auto flow = this->flow();
  if (!flow) return false;
  std::lock_guard lock(flow->mutex);
  return flow->can_write_or_fails();
}

int Socket::readable_descriptor() {
  std::shared_ptr<Listener> listener;
  {
    std::lock_guard lock(mutex_);
    listener = listener_;
  }
  if (listener) {
    std::lock_guard lock(listener->mutex);
    return listener->readable_descriptor();
  }
  const auto flow = connected().flow;
  std::lock_guard lock(flow->mutex);
  return flow->readable_descriptor();
}

int Socket::writable_descriptor() {
  const auto flow = connected().flow;
  std::lock_guard lock(flow->mutex);
  return flow->writable_descriptor();
}

size_t Socket::readable_bytes() const {
  const auto flow = this->flow();
  if (!flow) return 0;
  std::lock_guard lock(flow->mutex);
  return flow->connection ? flow->connection->readable_bytes() : 0;
}

int64_t Socket::unsent_packets() const {
  const auto flow = this->flow();
  if (!flow) return 0;
  std::lock_guard lock(flow->mutex);
  return flow->connection ? flow->connection->unsent_packets() : 0;
}

size_t Socket::undelivered_bytes() const {
  const auto flow = this->flow();
  if (!flow) return 0;
  std::lock_guard lock(flow->mutex);
  return flow->connection ? flow->connection->undelivered_bytes() : 0;
}

SocketAddress Socket::local_address() const {
  std::lock_guard lock(mutex_);
  if (!local_) throw Error(ErrorKind::kNotConnected, "the socket is not bound");
  return *local_;
}

SocketAddress Socket::peer_address() const {
  std::lock_guard lock(mutex_);
  if (!flow_) throw Error(ErrorKind::kNotConnected, "the socket is not connected");
  return flow_->path.peer;
}

SocketStatistics Socket::statistics() const {
  const auto use = connected();
  const auto& endpoint = use.endpoint;
  const auto& flow = use.flow;
  SocketStatistics result;
  {
    std::lock_guard lock(flow->mutex);
    if (!flow->connection) throw flow->broken_error();
    result.connection = flow->connection->statistics(monotonic_now());
    result.agreement = flow->connection->agreement();
  }
  result.control = result.connection.control;
  result.control_state = result.connection.control_state;
  result.endpoint = endpoint->status();
  return result;
}

void Socket::set_rate_bps(double bits_per_second) {
  if (!(bits_per_second >= 0)) throw Error(ErrorKind::kMisuse, "rates must not be negative");
  const auto use = connected();
  const auto& endpoint = use.endpoint;
  const auto& flow = use.flow;
  std::lock_guard lock(flow->mutex);
  if (!flow->connection) throw flow->broken_error();
  flow->connection->set_rate_bps(bits_per_second);
  endpoint->wake(flow);
}

}  // namespace longhaul::udt
