// How a socket's calls wait for their flow, take turns on it, and tell the endpoint of what they changed.
#pragma once

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>

#include "clock.hpp"
#include "endpoint.hpp"
#include "errors.hpp"
#include "flow.hpp"
#include "socket.hpp"

namespace longhaul::udt {

constexpr Micros kInterruptionInterval = 100'000;

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

inline Error out_of_patience(const Patience& patience, const std::string& what) {
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
inline void changed(Endpoint& endpoint, const std::shared_ptr<Flow>& flow) {
  const Micros next = flow->next_deadline();
  if (next < flow->scheduled) {
    flow->scheduled = next;
    endpoint.wake(flow);
  }
  flow->settle();
}

inline void check_can_write(const Flow& flow) {
  if (flow.closed || flow.failure || !flow.connection || flow.connection->peer_gone()) throw flow.broken_error();
  if (flow.ended) throw Error(ErrorKind::kClosed, "the end of what is written was announced already");
}

// No more will be written. Who is at it finishes the piece that it has in hand: the end comes behind it.
inline void announce_end(std::unique_lock<std::mutex>& lock, Endpoint& endpoint, const std::shared_ptr<Flow>& flow) {
  flow->ended = true;
  flow->writer.notify_all();
  wait(lock, flow->writer, Patience{}, [&] { return !flow->writing; });
  flow->connection->finish(monotonic_now());
  changed(endpoint, flow);
}

inline void check_kind(SocketKind is, SocketKind wanted) {
  if (is == wanted) return;
  throw Error(ErrorKind::kMisuse, is == SocketKind::kStream ? "a stream socket has no messages: use send and recv"
                                                            : "a message socket has no stream: use sendmsg and recvmsg");
}

}  // namespace longhaul::udt
