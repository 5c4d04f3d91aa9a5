// Descriptors that tell an event loop whether a socket can be read and written: level-triggered, made when first asked for.
#pragma once

#include <sys/eventfd.h>
#include <unistd.h>

#include "errors.hpp"

namespace longhaul::udt {

// An eventfd that is readable while the condition holds. Costs nothing until somebody asks for the descriptor.
class Signal {
 public:
  Signal() = default;
  ~Signal() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }
  Signal(const Signal&) = delete;
  Signal& operator=(const Signal&) = delete;

  void set(bool on) {
    if (on == on_) return;
    on_ = on;
    if (descriptor_ >= 0) show();
  }

  int descriptor() {
    if (descriptor_ < 0) {
      descriptor_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
      if (descriptor_ < 0) throw Error::system("an event descriptor");
      if (on_) show();
    }
    return descriptor_;
  }

 private:
  void show() const {
    eventfd_t value = 1;
    on_ ? eventfd_write(descriptor_, value) : eventfd_read(descriptor_, &value);
  }

  bool on_ = false;
  int descriptor_ = -1;
};

struct Readiness {
  Signal readable;  // bytes, a message, the end, an error or a connection to accept
  Signal writable;  // room, or all arrived after the end, or an error that writing would tell
};

}  // namespace longhaul::udt
