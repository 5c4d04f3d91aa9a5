// Connections that came in and wait to be accepted.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <memory>
#include <mutex>

#include "flow.hpp"
#include "readiness.hpp"
#include "settings.hpp"

namespace longhaul::udt {

class Listener {
 public:
  Listener(const Settings& settings_given, SocketKind kind_given, size_t backlog)
      : settings(settings_given), kind(kind_given), backlog_(backlog) {}

  const Settings settings;
  const SocketKind kind;

  // The endpoint's thread. False: it is closed, or as many wait as may.
  bool has_room() {
    std::lock_guard lock(mutex);
    return !closed && waiting_.size() < backlog_;
  }
  bool offer(const std::shared_ptr<Flow>& flow) {
    {
      std::lock_guard lock(mutex);
      if (closed || waiting_.size() >= backlog_) return false;
      waiting_.push_back(flow);
      readiness_.readable.set(true);
    }
    arrived.notify_one();
    return true;
  }

  // The application, with `mutex` held.
  std::mutex mutex;
  std::condition_variable arrived;
  bool closed = false;
  std::shared_ptr<Flow> take() {
    if (waiting_.empty()) return nullptr;
    std::shared_ptr<Flow> flow = std::move(waiting_.front());
    waiting_.pop_front();
    readiness_.readable.set(!waiting_.empty() || closed);
    return flow;
  }
  // Those that nobody accepted.
  std::deque<std::shared_ptr<Flow>> close() {
    closed = true;
    readiness_.readable.set(true);
    return std::move(waiting_);
  }
  bool can_accept() const { return closed || !waiting_.empty(); }
  int readable_descriptor() { return readiness_.readable.descriptor(); }

 private:
  const size_t backlog_;
  std::deque<std::shared_ptr<Flow>> waiting_;
  Readiness readiness_;
};

}  // namespace longhaul::udt
