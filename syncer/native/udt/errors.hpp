// What a socket call can fail with. The binding makes each kind a Python exception of its own.
#pragma once

#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <string>

namespace longhaul::udt {

enum class ErrorKind {
  kMisuse,           // the call makes no sense in this state, or an argument is out of range
  kNotConnected,     // not connected yet
  kRefused,          // nobody listens there, or the listener said no
  kTimedOut,         // the deadline passed; the socket is as it was
  kBroken,           // the peer closed before everything had arrived
  kSilent,           // nothing was heard of the peer for too long
  kClosed,           // closed at this end
  kWouldBlock,       // a call that may not wait would have to
  kMessageTooLarge,  // larger than the whole buffer
  kAddressInUse,
  kSystem,           // the kernel refused; number() says why
};

class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, const std::string& message, int number = 0)
      : std::runtime_error(message), kind_(kind), number_(number) {}

  static Error system(const std::string& what, int number = errno) {
    return {number == EADDRINUSE ? ErrorKind::kAddressInUse : ErrorKind::kSystem, what + ": " + std::strerror(number),
            number};
  }

  ErrorKind kind() const { return kind_; }
  int number() const { return number_; }  // of errno, 0: none

 private:
  ErrorKind kind_;
  int number_;
};

}  // namespace longhaul::udt
