#include "endpoint.hpp"

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <csignal>
#include <string>
#include <utility>

#include "clock.hpp"
#include "errors.hpp"
#include "random_value.hpp"

namespace longhaul::udt {
namespace {

constexpr int kOutboxesPerTurn = 4;  // of one flow, before others get their turn
constexpr unsigned long kTimerSlackNs = 1000;
// From so many bytes a microsecond on, packets are let gather before they are read: one waking for each costs more than
// reading it does, here and in the application. Requests and answers that are small never come so thick.
constexpr double kThick = 6;
constexpr Micros kThickMeasured = 1'000;
constexpr Micros kGathering = 250;
constexpr size_t kMostTombstones = 4096;

std::atomic<uint64_t> forks{0};

// The endpoints by their bound address. Never destroyed: threads may outlive static objects.
struct Registry {
  struct Entry {
    std::weak_ptr<Endpoint> endpoint;
    const Endpoint* address = nullptr;
  };
  std::mutex mutex;
  std::condition_variable closed;
  std::unordered_map<SocketAddress, Entry, AddressHash> entries;

  Registry() {
    pthread_atfork(nullptr, nullptr, [] { ++forks; });
  }
};

Registry& registry() {
  static Registry* instance = new Registry;
  return *instance;
}

UdpChannel::Settings channel_settings(const Settings& settings) {
  return {settings.udp_receive_buffer_bytes, settings.udp_send_buffer_bytes, settings.offload};
}

Error too_large(const Flow& flow, uint32_t mtu) {
  const std::string most = mtu > 0 ? std::to_string(mtu) : "fewer";
  return {ErrorKind::kSystem,
          flow.path.peer.text() + ": the way there carries IP packets of at most " + most + " bytes and the connection's are " +
              std::to_string(flow.connection ? flow.connection->agreement().mss : flow.settings.mss) +
              ": connect again with a smaller mss",
          EMSGSIZE};
}

}  // namespace

// Life.

std::shared_ptr<Endpoint> Endpoint::open(const SocketAddress& local, const Settings& settings) {
  Registry& all = registry();
  std::shared_ptr<Endpoint> endpoint;  // dropped after the lock
  std::unique_lock lock(all.mutex);
  if (local.port() != 0 && settings.reuse_address) {
    // One that is being closed still holds the port.
    for (auto found = all.entries.find(local); found != all.entries.end(); found = all.entries.find(local)) {
      endpoint = found->second.endpoint.lock();
      if (endpoint) {
        if (!endpoint->shareable_ || endpoint->inherited() || endpoint->stopped()) break;
        return endpoint;
      }
      if (found->second.address->inherited()) break;
      all.closed.wait(lock);
    }
  }
  auto channel = std::make_unique<UdpChannel>(local, channel_settings(settings));
  auto fresh = std::make_shared<Endpoint>(std::move(channel), settings.reuse_address);
  all.entries[fresh->local_] = {fresh, fresh.get()};
  return fresh;
}

std::shared_ptr<Endpoint> Endpoint::adopt(int descriptor, const Settings& settings) {
  auto endpoint = std::make_shared<Endpoint>(std::make_unique<UdpChannel>(descriptor, channel_settings(settings)),
                                             settings.reuse_address);
  Registry& all = registry();
  std::lock_guard lock(all.mutex);
  all.entries.try_emplace(endpoint->local_, Registry::Entry{endpoint, endpoint.get()});
  return endpoint;
}

Endpoint::Endpoint(std::unique_ptr<UdpChannel> channel, bool shareable)
    : channel_(std::move(channel)),
      local_(channel_->local()),
      shareable_(shareable),
      forks_(forks),
      outbox_(std::make_unique<Outbox>()),
      cookies_(random_value<std::array<uint8_t, 16>>()) {
  wake_descriptor_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (wake_descriptor_ < 0) throw Error::system("an event descriptor");
  // Signals are for the application's threads.
  sigset_t every, before;
  sigfillset(&every);
  pthread_sigmask(SIG_SETMASK, &every, &before);
  try {
    thread_ = std::make_unique<std::thread>([this] { run(); });
  } catch (...) {
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    ::close(wake_descriptor_);
    throw;
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

Endpoint::~Endpoint() {
  if (inherited()) {
    // It is not there: to the library it can neither be joined nor detached.
    [[maybe_unused]] std::thread* lost = thread_.release();
  } else {
    stop();
  }
  channel_.reset();
  ::close(wake_descriptor_);
  Registry& all = registry();
  if (inherited()) return;  // the registry's mutex may have been held by a thread that is not here
  {
    std::lock_guard lock(all.mutex);
    const auto found = all.entries.find(local_);
    if (found != all.entries.end() && found->second.address == this) all.entries.erase(found);
  }
  all.closed.notify_all();
}

void Endpoint::stop() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  eventfd_write(wake_descriptor_, 1);
  if (thread_->joinable()) thread_->join();
}

void Endpoint::stop_all() {
  if (forks != 0) {
    // Whose threads these were can't be told without the registry's mutex, which a fork may have left locked.
    Registry& all = registry();
    if (!all.mutex.try_lock()) return;
    all.mutex.unlock();
  }
  std::vector<std::shared_ptr<Endpoint>> alive;
  {
    Registry& all = registry();
    std::lock_guard lock(all.mutex);
    for (auto& [address, entry] : all.entries) {
      auto endpoint = entry.endpoint.lock();
      if (endpoint && endpoint->forks_ == forks) alive.push_back(std::move(endpoint));
    }
  }
  for (const auto& endpoint : alive) endpoint->stop();
}

bool Endpoint::inherited() const { return forks_ != forks; }

bool Endpoint::stopped() const {
  std::lock_guard lock(mutex_);
  return stopping_;
}

void Endpoint::check_usable() const {
  if (inherited()) {
    throw Error(ErrorKind::kMisuse, "the socket was made before a fork: a child makes its own (or is spawned, not forked)");
  }
  if (stopped()) throw Error(ErrorKind::kClosed, "UDT was shut down in this process");
}

// Called by the application.

void Endpoint::add(const std::shared_ptr<Flow>& flow) {
  std::lock_guard lock(mutex_);
  if (stopping_) throw Error(ErrorKind::kClosed, "UDT was shut down in this process");
  added_.push_back(flow);
  if (std::exchange(sleeping_, false)) eventfd_write(wake_descriptor_, 1);
}

void Endpoint::wake(const std::shared_ptr<Flow>& flow) {
  if (std::exchange(flow->wake_queued, true)) return;
  std::lock_guard lock(mutex_);
  woken_.push_back(flow);
  if (std::exchange(sleeping_, false)) eventfd_write(wake_descriptor_, 1);
}

void Endpoint::listen(const std::shared_ptr<Listener>& listener) {
  std::lock_guard lock(mutex_);
  if (listener_) throw Error(ErrorKind::kAddressInUse, "another socket listens at " + local_.text() + " already", EADDRINUSE);
  listener_ = listener;
}

void Endpoint::unlisten(const Listener& listener) {
  std::lock_guard lock(mutex_);
  if (listener_.get() == &listener) listener_.reset();
}

EndpointStatus Endpoint::status() const {
  return {channel_->dropped(), channel_->receive_buffer_bytes(), channel_->send_buffer_bytes(),
          channel_->sends_segmented(), channel_->receives_merged()};
}

// The thread.

void Endpoint::run() {
  prctl(PR_SET_NAME, "udt-endpoint");
  prctl(PR_SET_TIMERSLACK, kTimerSlackNs);
  while (true) {
    try {
      {
        std::lock_guard lock(mutex_);
        if (stopping_) break;
      }
      turn();
    } catch (const std::exception&) {
      // Memory that is short, as a rule: what was under way is lost, as a packet is. The next turn goes on.
      if (held_ != nullptr) std::exchange(held_, nullptr)->mutex.unlock();
    }
  }
  try {
    say_farewell();
  } catch (const std::exception&) {
  }
}

void Endpoint::turn() {
  wait(monotonic_now());
  take_woken(monotonic_now());
  receive();
  const Micros now = monotonic_now();
  while (!touched_.empty()) {
    Flow* flow = touched_.back();
    touched_.pop_back();
    flow->touched = false;
    serve(*flow, now);
  }
  // Served ones are due after `now` at the earliest: each gets one turn.
  while (deadlines_.earliest() <= now) serve(*deadlines_.first(), now);
}

void Endpoint::wait(Micros now) {
  if (more_to_read_) return;
  if (packets_come_thick_ && now < read_at_ + kGathering) {
    poll_until(read_at_ + kGathering, now, false);
    now = monotonic_now();
  }
  poll_until(kNever, now, true);
}

// Waits for the application, the earliest deadline, `until`, and for packets if told so.
void Endpoint::poll_until(Micros until, Micros now, bool also_packets) {
  until = std::min(until, deadlines_.earliest());
  timespec timeout{};
  bool forever = false;
  {
    std::lock_guard lock(mutex_);
    const bool idle = touched_.empty() && woken_.empty() && added_.empty() && !stopping_;
    if (idle && until > now) {
      sleeping_ = true;
      forever = until == kNever;
      if (!forever) timeout = {(until - now) / 1'000'000, (until - now) % 1'000'000 * 1000};
    }
  }
  pollfd watched[] = {{wake_descriptor_, POLLIN, 0}, {channel_->descriptor(), POLLIN, 0}};
  const int ready = ppoll(watched, also_packets ? 2 : 1, forever ? nullptr : &timeout, nullptr);
  {
    std::lock_guard lock(mutex_);
    sleeping_ = false;
  }
  if (ready <= 0) return;
  if (watched[0].revents != 0) {
    eventfd_t value = 0;
    eventfd_read(wake_descriptor_, &value);
  }
  if (watched[1].revents & POLLERR) on_network_errors();
  more_to_read_ = (watched[1].revents & POLLIN) != 0;
}

void Endpoint::note_read(size_t bytes, Micros now) {
  read_at_ = now;
  measured_bytes_ += bytes;
  const Micros measured = now - measured_from_;
  if (measured < kThickMeasured) return;
  packets_come_thick_ = static_cast<double>(measured_bytes_) >= kThick * static_cast<double>(measured);
  measured_from_ = now;
  measured_bytes_ = 0;
}

void Endpoint::take_woken(Micros now) {
  std::vector<std::shared_ptr<Flow>> added;
  {
    std::lock_guard lock(mutex_);
    added.swap(added_);
    batch_.swap(woken_);
  }
  for (const auto& flow : added) begin(flow, now);
  for (const auto& flow : batch_) {
    // One that is no longer here may have been woken late.
    if (flow->id != 0) touch(*flow);
  }
  batch_.clear();
}

void Endpoint::touch(Flow& flow) {
  if (std::exchange(flow.touched, true)) return;
  touched_.push_back(&flow);
}

// Sending.

void Endpoint::serve(Flow& flow, Micros now) {
  bool full = true;
  bool gone = false;
  Micros next = kNever;
  for (int count = 0; full && count < kOutboxesPerTurn; ++count) {
    outbox_->clear();
    Flow::Notices notices;
    {
      std::lock_guard lock(flow.mutex);
      try {
        flow.emit(now, *outbox_);
      } catch (const std::exception& error) {
        flow.fail(Error(ErrorKind::kSystem, flow.path.peer.text() + ": given up: " + error.what()));
      }
      full = outbox_->full();
      gone = flow.gone();
      next = flow.scheduled;
      notices = flow.settle();
    }
    flow.notify(notices);
    // Without the mutex: what the datagrams point to changes only when this thread gives the flow a packet.
    if (!outbox_->empty() && channel_->send(flow.path, outbox_->datagrams()) == UdpChannel::Outcome::kTooLarge) {
      give_up(flow, too_large(flow, UdpChannel::path_mtu(flow.path.peer).value_or(0)));
    }
  }
  if (gone) {
    remove(flow, now);
  } else {
    deadlines_.set(&flow, std::max(full ? now : next, now + 1));
  }
}

void Endpoint::give_up(Flow& flow, const Error& error) {
  Flow::Notices notices;
  {
    std::lock_guard lock(flow.mutex);
    flow.fail(error);
    notices = flow.settle();
  }
  flow.notify(notices);
  touch(flow);
}

void Endpoint::remove(Flow& flow, Micros now) {
  deadlines_.remove(&flow);
  std::erase(rendezvous_, &flow);
  if (flow.touched) std::erase(touched_, &flow);
  if (flow.connection) {
    const Agreement& agreement = flow.connection->agreement();
    if (flow.accepted) {
      const auto found = accepted_.find({flow.path.peer, agreement.peer_socket_id});
      if (found != accepted_.end() && found->second == &flow) accepted_.erase(found);
    }
    bury(flow, agreement, now);
  }
  flows_.erase(std::exchange(flow.id, 0));  // may be the last to hold it
}

void Endpoint::bury(const Flow& flow, const Agreement& agreement, Micros now) {
  if (burials_.size() >= kMostTombstones) {
    const auto oldest = tombstones_.find(burials_.front());
    const auto grave = graves_.find({oldest->second.peer, oldest->second.peer_id});
    if (grave != graves_.end() && grave->second == oldest->first) graves_.erase(grave);
    tombstones_.erase(oldest);
    burials_.pop_front();
  }
  tombstones_[flow.id] = {flow.path.peer, agreement.peer_socket_id, agreement.peer_initial, now, 0};
  burials_.push_back(flow.id);
  if (flow.accepted) graves_[{flow.path.peer, agreement.peer_socket_id}] = flow.id;
}

// Every peer is told at once rather than left to find out.
void Endpoint::say_farewell() {
  const Micros now = monotonic_now();
  take_woken(now);
  while (!flows_.empty()) {
    Flow& flow = *flows_.begin()->second;
    Flow::Notices notices;
    outbox_->clear();
    {
      std::lock_guard lock(flow.mutex);
      if (!flow.closed) flow.fail(Error(ErrorKind::kClosed, "UDT was shut down in this process"));
      flow.closed = true;
      if (flow.connection) flow.connection->close();
      flow.emit(now, *outbox_);
      notices = flow.settle();
    }
    flow.notify(notices);
    channel_->send(flow.path, outbox_->datagrams());
    remove(flow, now);
  }
}

// What the network says of datagrams that it did not deliver.
void Endpoint::on_network_errors() {
  for (const NetworkError& error : channel_->take_errors()) {
    if (error.number != ECONNREFUSED && error.number != EMSGSIZE) continue;
    for (const auto& [id, flow] : flows_) {
      if (!(flow->path.peer == error.peer)) continue;
      bool connecting = false;
      uint32_t mss = 0;
      {
        std::lock_guard lock(flow->mutex);
        connecting = flow->connecting();
        if (flow->connection) mss = flow->connection->agreement().mss;
      }
      if (error.number == EMSGSIZE && error.mtu > 0 && mss > error.mtu) {
        give_up(*flow, too_large(*flow, error.mtu));
      } else if (error.number == ECONNREFUSED && connecting && !flow->settings.rendezvous) {
        // A peer of a rendezvous may come later; a connection that stands is not ended by what anybody can forge.
        give_up(*flow, Error(ErrorKind::kRefused, error.peer.text() +
                                                      ": no UDT server there (its host says that the port is closed)"));
      }
    }
  }
}

}  // namespace longhaul::udt
