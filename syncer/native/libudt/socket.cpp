#include "socket.hpp"

#include <arpa/inet.h>
#include <netdb.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "errors.hpp"
#include "fixed_rate.hpp"

namespace py = pybind11;

namespace longhaul {

namespace {

constexpr int64_t kLargestCall = 1 << 24;  // libudt takes an int

struct Address {
  sockaddr_storage storage{};
  int length = 0;
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
};

Address resolve(int family, const std::string& host, int port, bool passive) {
  if (port < 0 || port > 65535) throw py::value_error("port " + std::to_string(port) + " is not in 0..65535");
  addrinfo hints{};
  addrinfo* found = nullptr;
  hints.ai_family = family;
  hints.ai_socktype = SOCK_DGRAM;
  hints.ai_flags = AI_NUMERICHOST | (passive ? AI_PASSIVE : 0);
  const std::string service = std::to_string(port);
  if (getaddrinfo(host.empty() ? nullptr : host.c_str(), service.c_str(), &hints, &found) != 0) {
    throw py::value_error("'" + host + "' is not a numeric address of the socket's family");
  }
  Address address;
  std::memcpy(&address.storage, found->ai_addr, found->ai_addrlen);
  address.length = static_cast<int>(found->ai_addrlen);
  freeaddrinfo(found);
  return address;
}

py::tuple numeric(const sockaddr_storage& storage, int family) {
  sockaddr_storage copy = storage;
  copy.ss_family = static_cast<sa_family_t>(family);  // libudt leaves it unset after accept
  const socklen_t length = family == AF_INET6 ? sizeof(sockaddr_in6) : sizeof(sockaddr_in);
  char host[NI_MAXHOST] = "";
  char service[NI_MAXSERV] = "0";
  getnameinfo(reinterpret_cast<const sockaddr*>(&copy), length, host, sizeof host, service, sizeof service,
              NI_NUMERICHOST | NI_NUMERICSERV);
  return py::make_tuple(std::string(host), std::stoi(service));
}

struct View {
  char* data;
  int64_t size;
  py::buffer_info info;
};

View view(const py::buffer& buffer, bool writable) {
  py::buffer_info info = buffer.request(writable);
  if (info.ndim > 1 || (info.ndim == 1 && info.strides[0] != info.itemsize)) {
    throw py::value_error("the buffer must be contiguous");
  }
  auto* data = static_cast<char*>(info.ptr);
  const int64_t size = info.size * info.itemsize;
  return {data, size, std::move(info)};
}

// Runs a libudt call without the GIL; the failure is taken on the same thread before the GIL is asked for again.
template <typename Call>
auto without_gil(const char* operation, Call call) {
  UdtFailure failure{0, {}};
  decltype(call()) result;
  {
    py::gil_scoped_release released;
    result = call();
    if (result == UDT::ERROR) failure = UdtFailure::take();
  }
  if (result == UDT::ERROR) raise(operation, failure);
  return result;
}

bool is_flag(int option) {
  return option == UDT_SNDSYN || option == UDT_RCVSYN || option == UDT_RENDEZVOUS || option == UDT_REUSEADDR;
}

template <typename Value>
Value option_value(UDTSOCKET id, int option) {
  Value value{};
  int length = sizeof value;
  if (UDT::getsockopt(id, 0, static_cast<UDTOpt>(option), &value, &length) == UDT::ERROR) raise_last("getsockopt");
  return value;
}

}  // namespace

Socket::Socket(int family, int type)
    : id_(UDT::socket(family, type, 0)), family_(family), type_(type) {
  if (id_ == UDT::INVALID_SOCK) raise_last("socket");
}

Socket::Socket(Accepted accepted, int family, int type) : id_(accepted.id), family_(family), type_(type) {}

Socket::~Socket() {
  const UDTSOCKET id = id_.exchange(UDT::INVALID_SOCK);
  if (id == UDT::INVALID_SOCK) return;
  // A forgotten socket must not hold the collector for libudt's 180 s of lingering.
  const linger none{0, 0};
  UDT::setsockopt(id, 0, UDT_LINGER, &none, sizeof none);
  py::gil_scoped_release released;
  UDT::close(id);
}

void Socket::bind(const std::string& host, int port) {
  const Address address = resolve(family_, host, port, true);
  without_gil("bind", [&] { return UDT::bind(id_, address.get(), address.length); });
}

void Socket::bind_descriptor(int descriptor) {
  without_gil("bind", [&] { return UDT::bind2(id_, descriptor); });
}

void Socket::listen(int backlog) {
  without_gil("listen", [&] { return UDT::listen(id_, backlog); });
}

py::tuple Socket::accept() {
  sockaddr_storage peer{};
  int length = sizeof peer;
  const UDTSOCKET id =
      without_gil("accept", [&] { return UDT::accept(id_, reinterpret_cast<sockaddr*>(&peer), &length); });
  return py::make_tuple(std::make_unique<Socket>(Accepted{id}, family_, type_), numeric(peer, family_));
}

void Socket::connect(const std::string& host, int port) {
  const Address address = resolve(family_, host, port, false);
  without_gil("connect", [&] { return UDT::connect(id_, address.get(), address.length); });
}

void Socket::close() {
  const UDTSOCKET id = id_.exchange(UDT::INVALID_SOCK);
  if (id == UDT::INVALID_SOCK) return;
  UdtFailure failure{0, {}};
  {
    py::gil_scoped_release released;
    if (UDT::close(id) == UDT::ERROR) failure = UdtFailure::take();
  }
  // libudt forgets a socket some seconds after its peer closed it.
  if (failure.code != 0 && failure.code != CUDTException::EINVSOCK) raise("close", failure);
}

int64_t Socket::send(const py::buffer& data) {
  const View part = view(data, false);
  return without_gil("send", [&] {
    return UDT::send(id_, part.data, static_cast<int>(std::min(part.size, kLargestCall)), 0);
  });
}

void Socket::send_all(const py::buffer& data) {
  const View all = view(data, false);
  without_gil("send", [&] {
    int result = 0;
    for (int64_t done = 0; done < all.size; done += result) {
      result = UDT::send(id_, all.data + done, static_cast<int>(std::min(all.size - done, kLargestCall)), 0);
      if (result == UDT::ERROR) break;
    }
    return result;
  });
}

py::bytes Socket::recv(int64_t size) {
  if (size <= 0) throw py::value_error("size must be positive");
  std::vector<char> data(static_cast<std::size_t>(std::min(size, kLargestCall)));
  const int got = without_gil("recv", [&] { return UDT::recv(id_, data.data(), static_cast<int>(data.size()), 0); });
  return py::bytes(data.data(), static_cast<std::size_t>(got));
}

int64_t Socket::recv_into(const py::buffer& data, int64_t size) {
  const View room = view(data, true);
  const int64_t wanted = size > 0 ? std::min(size, room.size) : room.size;
  return without_gil(
      "recv", [&] { return UDT::recv(id_, room.data, static_cast<int>(std::min(wanted, kLargestCall)), 0); });
}

int64_t Socket::recv_full(const py::buffer& data, int64_t size) {
  const View room = view(data, true);
  if (size < 0 || size > room.size) throw py::value_error("size is larger than the buffer");
  int64_t done = 0;
  UdtFailure failure{0, {}};
  {
    py::gil_scoped_release released;
    while (done < size) {
      const int got = UDT::recv(id_, room.data + done, static_cast<int>(std::min(size - done, kLargestCall)), 0);
      if (got == UDT::ERROR) {
        failure = UdtFailure::take();
        break;
      }
      done += got;
    }
  }
  // What arrived before a failure is not lost: the failure comes again on the next call.
  if (failure.code != 0 && failure.code != CUDTException::ETIMEOUT && done == 0) raise("recv", failure);
  return done;
}

int64_t Socket::sendmsg(const py::buffer& data, int lifetime_ms, bool in_order) {
  const View message = view(data, false);
  return without_gil("sendmsg", [&] {
    return UDT::sendmsg(id_, message.data, static_cast<int>(message.size), lifetime_ms, in_order);
  });
}

py::bytes Socket::recvmsg(int64_t size) {
  if (size <= 0) throw py::value_error("size must be positive");
  std::vector<char> data(static_cast<std::size_t>(std::min(size, kLargestCall)));
  const int got = without_gil("recvmsg", [&] { return UDT::recvmsg(id_, data.data(), static_cast<int>(data.size())); });
  return py::bytes(data.data(), static_cast<std::size_t>(got));
}

int64_t Socket::sendfile(const std::string& path, int64_t offset, int64_t size, int block) {
  return without_gil("sendfile", [&] { return UDT::sendfile2(id_, path.c_str(), &offset, size, block); });
}

int64_t Socket::recvfile(const std::string& path, int64_t offset, int64_t size, int block) {
  return without_gil("recvfile", [&] { return UDT::recvfile2(id_, path.c_str(), &offset, size, block); });
}

void Socket::setsockopt(int option, const py::object& value) {
  const auto name = static_cast<UDTOpt>(option);
  int result = 0;
  if (option == UDT_CC) {
    throw py::value_error("congestion control is set with use_fixed_rate() and use_native_control()");
  } else if (is_flag(option)) {
    const bool flag = value.cast<bool>();
    result = UDT::setsockopt(id_, 0, name, &flag, sizeof flag);
  } else if (option == UDT_MAXBW) {
    const auto bytes_per_second = value.cast<int64_t>();
    result = UDT::setsockopt(id_, 0, name, &bytes_per_second, sizeof bytes_per_second);
  } else if (option == UDT_LINGER) {
    const int seconds = value.cast<int>();
    const linger wait{seconds > 0, seconds};
    result = UDT::setsockopt(id_, 0, name, &wait, sizeof wait);
  } else {
    const int number = value.cast<int>();
    result = UDT::setsockopt(id_, 0, name, &number, sizeof number);
  }
  if (result == UDT::ERROR) raise_last("setsockopt");
}

py::object Socket::getsockopt(int option) const {
  if (option == UDT_CC) throw py::value_error("congestion control can't be read");
  if (is_flag(option)) return py::bool_(option_value<bool>(id_, option));
  if (option == UDT_MAXBW) return py::int_(option_value<int64_t>(id_, option));
  if (option == UDT_LINGER) {
    const auto wait = option_value<linger>(id_, option);
    return py::int_(wait.l_onoff ? wait.l_linger : 0);
  }
  return py::int_(option_value<int>(id_, option));
}

void Socket::use_fixed_rate(double rate_bps) {
  if (!(rate_bps > 0)) throw py::value_error("a fixed rate is positive");
  FixedRateFactory factory(rate_bps);
  if (UDT::setsockopt(id_, 0, UDT_CC, &factory, sizeof factory) == UDT::ERROR) raise_last("setsockopt");
}

void Socket::use_native_control() {
  CCCFactory<CUDTCC> factory;
  if (UDT::setsockopt(id_, 0, UDT_CC, &factory, sizeof factory) == UDT::ERROR) raise_last("setsockopt");
}

UDT::TRACEINFO Socket::perfmon(bool clear) const {
  UDT::TRACEINFO trace{};
  without_gil("perfmon", [&] { return UDT::perfmon(id_, &trace, clear); });
  return trace;
}

py::tuple Socket::getsockname() const {
  sockaddr_storage storage{};
  int length = sizeof storage;
  if (UDT::getsockname(id_, reinterpret_cast<sockaddr*>(&storage), &length) == UDT::ERROR) raise_last("getsockname");
  return numeric(storage, family_);
}

py::tuple Socket::getpeername() const {
  sockaddr_storage storage{};
  int length = sizeof storage;
  if (UDT::getpeername(id_, reinterpret_cast<sockaddr*>(&storage), &length) == UDT::ERROR) raise_last("getpeername");
  return numeric(storage, family_);
}

}  // namespace longhaul
