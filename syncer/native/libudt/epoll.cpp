#include "epoll.hpp"

#include <pybind11/stl.h>

#include <set>

#include "errors.hpp"

namespace py = pybind11;

namespace longhaul {

Epoll::Epoll() : id_(UDT::epoll_create()) {
  if (id_ < 0) raise_last("epoll_create");
}

Epoll::~Epoll() { UDT::epoll_release(id_); }

void Epoll::add(const Socket& socket, int events) {
  if (UDT::epoll_add_usock(id_, socket.id(), &events) == UDT::ERROR) raise_last("epoll_add_usock");
}

void Epoll::add_descriptor(int descriptor, int events) {
  if (UDT::epoll_add_ssock(id_, descriptor, &events) == UDT::ERROR) raise_last("epoll_add_ssock");
}

void Epoll::remove(const Socket& socket) {
  if (UDT::epoll_remove_usock(id_, socket.id()) == UDT::ERROR) raise_last("epoll_remove_usock");
}

void Epoll::remove_descriptor(int descriptor) {
  if (UDT::epoll_remove_ssock(id_, descriptor) == UDT::ERROR) raise_last("epoll_remove_ssock");
}

py::tuple Epoll::wait(int64_t timeout_ms) {
  std::set<UDTSOCKET> readable, writable;
  std::set<SYSSOCKET> system_readable, system_writable;
  int result = 0;
  UdtFailure failure{0, {}};
  {
    py::gil_scoped_release released;
    result = UDT::epoll_wait(id_, &readable, &writable, timeout_ms, &system_readable, &system_writable);
    if (result < 0) failure = UdtFailure::take();
  }
  if (result < 0 && failure.code != CUDTException::ETIMEOUT) raise("epoll_wait", failure);
  return py::make_tuple(readable, writable, system_readable, system_writable);
}

}  // namespace longhaul
