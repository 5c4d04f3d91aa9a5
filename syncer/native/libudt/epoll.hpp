// libudt's epoll: waits for UDT sockets and for system descriptors together.
#pragma once

#include <pybind11/pybind11.h>

#include "socket.hpp"

namespace longhaul {

class Epoll {
 public:
  Epoll();
  Epoll(const Epoll&) = delete;
  Epoll& operator=(const Epoll&) = delete;
  ~Epoll();

  void add(const Socket& socket, int events);
  void add_descriptor(int descriptor, int events);
  void remove(const Socket& socket);
  void remove_descriptor(int descriptor);
  pybind11::tuple wait(int64_t timeout_ms);

 private:
  int id_;
};

}  // namespace longhaul
