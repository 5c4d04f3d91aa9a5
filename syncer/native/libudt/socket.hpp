// A UDT socket as Python sees it. Every call that can wait releases the GIL; close() may come from any thread.
#pragma once

#include <pybind11/pybind11.h>
#include <udt/udt.h>

#include <atomic>
#include <cstdint>
#include <string>

namespace longhaul {

class Socket {
 public:
  struct Accepted {
    UDTSOCKET id;
  };

  Socket(int family, int type);
  Socket(Accepted accepted, int family, int type);
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;
  ~Socket();

  UDTSOCKET id() const { return id_; }
  int family() const { return family_; }
  int type() const { return type_; }

  void bind(const std::string& host, int port);
  void bind_descriptor(int descriptor);
  void listen(int backlog);
  pybind11::tuple accept();
  void connect(const std::string& host, int port);
  void close();

  int64_t send(const pybind11::buffer& data);
  void send_all(const pybind11::buffer& data);
  pybind11::bytes recv(int64_t size);
  int64_t recv_into(const pybind11::buffer& data, int64_t size);
  // Fills `size` bytes unless the receive timeout or the end comes first: how many came.
  int64_t recv_full(const pybind11::buffer& data, int64_t size);
  int64_t sendmsg(const pybind11::buffer& data, int lifetime_ms, bool in_order);
  pybind11::bytes recvmsg(int64_t size);
  int64_t sendfile(const std::string& path, int64_t offset, int64_t size, int block);
  int64_t recvfile(const std::string& path, int64_t offset, int64_t size, int block);

  void setsockopt(int option, const pybind11::object& value);
  pybind11::object getsockopt(int option) const;
  void use_fixed_rate(double rate_bps);
  void use_native_control();

  UDT::TRACEINFO perfmon(bool clear) const;
  int state() const { return UDT::getsockstate(id_); }
  pybind11::tuple getsockname() const;
  pybind11::tuple getpeername() const;

 private:
  std::atomic<UDTSOCKET> id_;
  int family_;
  int type_;
};

}  // namespace longhaul
