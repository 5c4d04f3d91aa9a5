#include "socket.hpp"

#include <algorithm>
#include <utility>

#include "clock.hpp"
#include "socket_waiting.hpp"

namespace longhaul::udt {
namespace {

constexpr uint32_t kLargestMss = 16'000;  // control packets of that size have to fit into an outbox
constexpr size_t kLargestBuffer = size_t{4} << 30;

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
