// The Python module syncer.native._udt. Calls that can wait release the GIL; a buffer's bytes are copied once, between it
// and the connection's packets. syncer.udt is its face for people.

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "clock.hpp"
#include "endpoint.hpp"
#include "errors_python.hpp"
#include "file_transfer.hpp"
#include "socket.hpp"

namespace py = pybind11;
using namespace longhaul::udt;

namespace {

unsigned long main_thread = 0;

constexpr double kLongestTimeout = 1e9;  // seconds; longer ones are for ever

// None: for ever. 0: not at all. On the main thread Ctrl-C ends it.
Patience patience_of(const std::optional<double>& timeout_s) {
  Patience patience;
  if (timeout_s) {
    if (!(*timeout_s >= 0)) throw Error(ErrorKind::kMisuse, "a timeout must not be negative");
    if (*timeout_s == 0) return Patience::none();
    if (*timeout_s < kLongestTimeout) {
      patience.until = monotonic_now() + std::max<Micros>(static_cast<Micros>(std::ceil(*timeout_s * 1e6)), 1);
    }
  }
  if (PyThread_get_thread_ident() == main_thread) {
    patience.interruption = [] {
      py::gil_scoped_acquire acquired;
      if (PyErr_CheckSignals() != 0) throw py::error_already_set();
    };
  }
  return patience;
}

struct View {
  py::buffer_info info;
  uint8_t* data;
  size_t size;
  std::span<uint8_t> span() const { return {data, size}; }
};

View view_of(const py::buffer& buffer, bool writable) {
  py::buffer_info info = buffer.request(writable);
  py::ssize_t contiguous = info.itemsize;
  for (py::ssize_t axis = info.ndim; axis-- > 0;) {
    const auto at = static_cast<size_t>(axis);
    if (info.shape[at] > 1 && info.strides[at] != contiguous) {
      throw Error(ErrorKind::kMisuse, "the buffer must be contiguous");
    }
    contiguous *= info.shape[at];
  }
  auto* data = static_cast<uint8_t*>(info.ptr);
  const auto size = static_cast<size_t>(info.size * info.itemsize);
  return {std::move(info), data, size};
}

size_t size_of(int64_t size) {
  if (size < 0) throw Error(ErrorKind::kMisuse, "a size must not be negative");
  return static_cast<size_t>(size);
}

// A bytes object that `fill` writes in place; it returns how many of them count.
template <typename Fill>
py::bytes fresh_bytes(size_t size, Fill fill) {
  PyObject* made = PyBytes_FromStringAndSize(nullptr, static_cast<py::ssize_t>(size));
  if (made == nullptr) throw py::error_already_set();
  py::object owner = py::reinterpret_steal<py::object>(made);
  const size_t got = fill(std::span<uint8_t>(reinterpret_cast<uint8_t*>(PyBytes_AS_STRING(made)), size));
  owner.release();
  if (got < size && _PyBytes_Resize(&made, static_cast<py::ssize_t>(got)) != 0) throw py::error_already_set();
  return py::reinterpret_steal<py::bytes>(made);
}

// Owns the socket: what drops the last reference may have to wait for a thread, without the GIL.
class Handle {
 public:
  explicit Handle(std::unique_ptr<Socket> socket) : socket_(std::move(socket)) {}
  Handle(const Settings& settings, int kind)
      : socket_(std::make_unique<Socket>(settings, kind == 1 ? SocketKind::kStream : SocketKind::kDatagram)) {
    if (kind != 1 && kind != 2) throw Error(ErrorKind::kMisuse, "kind is 1 (stream) or 2 (messages)");
  }
  ~Handle() {
    py::gil_scoped_release released;
    socket_.reset();
  }
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;

  Socket& operator*() const { return *socket_; }
  Socket* operator->() const { return socket_.get(); }

 private:
  std::unique_ptr<Socket> socket_;
};

using Timeout = std::optional<double>;

std::unique_ptr<Handle> accept(Handle& handle, const Timeout& timeout_s) {
  const Patience patience = patience_of(timeout_s);
  std::unique_ptr<Socket> accepted;
  {
    py::gil_scoped_release released;
    accepted = handle->accept(patience);
  }
  return std::make_unique<Handle>(std::move(accepted));
}

void connect(Handle& handle, int family, const std::string& host, int port, const Timeout& timeout_s) {
  const Patience patience = patience_of(timeout_s);
  py::gil_scoped_release released;
  handle->connect(family, host, port, patience);
}

int64_t send(Handle& handle, const py::buffer& data, const Timeout& timeout_s) {
  const View view = view_of(data, false);
  const Patience patience = patience_of(timeout_s);
  py::gil_scoped_release released;
  return static_cast<int64_t>(handle->write(view.span(), false, patience));
}

void send_all(Handle& handle, const py::buffer& data, const Timeout& timeout_s) {
  const View view = view_of(data, false);
  const Patience patience = patience_of(timeout_s);
  py::gil_scoped_release released;
  handle->write(view.span(), true, patience);
}

py::bytes recv(Handle& handle, int64_t size, const Timeout& timeout_s) {
  // No more than can be there at once: a generous caller costs no memory.
  const size_t most = std::max<size_t>(handle->settings().receive_buffer_bytes, 1 << 16);
  const Patience patience = patience_of(timeout_s);
  return fresh_bytes(std::min(size_of(size), most), [&](std::span<uint8_t> out) {
    py::gil_scoped_release released;
    return handle->read(out, false, patience);
  });
}

int64_t recv_into(Handle& handle, const py::buffer& buffer, int64_t size, const Timeout& timeout_s, bool full) {
  const View view = view_of(buffer, true);
  const size_t wanted = size == 0 ? view.size : size_of(size);
  if (wanted > view.size) throw Error(ErrorKind::kMisuse, "size is larger than the buffer");
  const Patience patience = patience_of(timeout_s);
  py::gil_scoped_release released;
  return static_cast<int64_t>(handle->read({view.data, wanted}, full, patience));
}

void sendmsg(Handle& handle, const py::buffer& data, double lifetime_ms, bool in_order, const Timeout& timeout_s) {
  const View view = view_of(data, false);
  const Patience patience = patience_of(timeout_s);
  const Micros lifetime = lifetime_ms < 0 ? -1 : static_cast<Micros>(std::min(lifetime_ms, 1e12) * 1000);
  py::gil_scoped_release released;
  handle->write_message(view.span(), lifetime, in_order, patience);
}

py::object recvmsg_into(Handle& handle, const py::buffer& buffer, const Timeout& timeout_s) {
  const View view = view_of(buffer, true);
  const Patience patience = patience_of(timeout_s);
  std::optional<size_t> got;
  {
    py::gil_scoped_release released;
    got = handle->read_message(view.span(), patience);
  }
  return py::cast(got);
}

int64_t sendfile(Handle& handle, int descriptor, int64_t offset, int64_t size, const Timeout& timeout_s) {
  const Patience patience = patience_of(timeout_s);
  py::gil_scoped_release released;
  return send_file(*handle, descriptor, offset, size, patience);
}

int64_t recvfile(Handle& handle, int descriptor, int64_t offset, int64_t size, const Timeout& timeout_s) {
  const Patience patience = patience_of(timeout_s);
  py::gil_scoped_release released;
  return receive_file(*handle, descriptor, offset, size, patience);
}

bool wait_unsent_below(Handle& handle, int64_t packets, const Timeout& timeout_s) {
  const Patience patience = patience_of(timeout_s);
  py::gil_scoped_release released;
  return handle->wait_unsent_below(packets, patience);
}

bool wait_delivered(Handle& handle, const Timeout& timeout_s) {
  const Patience patience = patience_of(timeout_s);
  py::gil_scoped_release released;
  return handle->wait_delivered(patience);
}

int64_t close(Handle& handle, double linger_s) {
  const Patience linger = patience_of(linger_s);
  py::gil_scoped_release released;
  return static_cast<int64_t>(handle->close(linger));
}

double seconds(Micros time) { return static_cast<double>(time) / 1e6; }

py::dict statistics(const Handle& handle) {
  SocketStatistics all;
  {
    py::gil_scoped_release released;
    all = handle->statistics();
  }
  const Statistics& own = all.connection;
  py::dict result;
  result["age_s"] = seconds(own.age);
  result["packets_sent"] = own.packets_sent;
  result["packets_retransmitted"] = own.packets_retransmitted;
  result["packets_lost"] = own.packets_lost;
  result["packets_spurious"] = own.packets_spurious;
  result["packets_delivered"] = own.packets_delivered;
  result["packets_received"] = own.packets_received;
  result["packets_duplicate"] = own.packets_duplicate;
  result["packets_missing"] = own.packets_missing;
  result["bytes_sent"] = own.bytes_sent;
  result["bytes_delivered"] = own.bytes_delivered;
  result["bytes_received"] = own.bytes_received;
  result["probes"] = own.probes;
  result["timeouts"] = own.timeouts;
  result["acknowledgements_sent"] = own.acknowledgements_sent;
  result["acknowledgements_received"] = own.acknowledgements_received;
  result["loss_reports_sent"] = own.loss_reports_sent;
  result["loss_reports_received"] = own.loss_reports_received;
  result["rtt_s"] = seconds(own.rtt);
  result["rtt_variance_s"] = seconds(own.rtt_variance);
  result["min_rtt_s"] = seconds(own.min_rtt);
  result["target_bps"] = own.target_bps;
  result["delivered_bps"] = own.delivered_bps;
  result["window_packets"] = own.window_packets;
  result["in_flight_packets"] = own.in_flight_packets;
  result["unsent_packets"] = own.unsent_packets;
  result["send_buffer_packets"] = own.send_buffer_packets;
  result["receive_buffer_packets"] = own.receive_buffer_packets;
  result["last_heard_ago_s"] = seconds(own.last_heard_ago);
  result["extended_peer"] = own.extended_peer;
  result["control"] = all.control;
  result["control_state"] = all.control_state;
  result["mss_bytes"] = all.agreement.mss;
  result["socket_id"] = all.agreement.own_socket_id;
  result["peer_window_packets"] = all.agreement.peer_window;
  result["kernel_drops"] = all.endpoint.kernel_drops;
  result["udp_receive_buffer_bytes"] = all.endpoint.receive_buffer_bytes;
  result["udp_send_buffer_bytes"] = all.endpoint.send_buffer_bytes;
  result["sends_segmented"] = all.endpoint.sends_segmented;
  result["receives_merged"] = all.endpoint.receives_merged;
  return result;
}

py::tuple pair_of(const SocketAddress& address) { return py::make_tuple(address.host(), address.port()); }

ControlKind control_of(const std::string& name) {
  if (name == "bbr") return ControlKind::kBbr;
  if (name == "fixed") return ControlKind::kFixed;
  if (name == "native") return ControlKind::kNative;
  if (name == "background") return ControlKind::kBackground;
  throw Error(ErrorKind::kMisuse, "control is 'bbr', 'fixed', 'native' or 'background', not '" + name + "'");
}

const char* name_of(ControlKind kind) {
  switch (kind) {
    case ControlKind::kNative:
      return "native";
    case ControlKind::kFixed:
      return "fixed";
    case ControlKind::kBackground:
      return "background";
    case ControlKind::kBbr:
      break;
  }
  return "bbr";
}

Micros micros_of(double seconds) {
  if (!(seconds >= 0)) throw Error(ErrorKind::kMisuse, "a time must not be negative");
  return static_cast<Micros>(std::min(seconds, kLongestTimeout) * 1e6);
}

void define_settings(py::module_& module) {
  py::class_<Settings>(module, "Settings", "What a socket can be told before it connects or listens.")
      .def(py::init<>())
      .def_readwrite("mss", &Settings::mss)
      .def_readwrite("send_buffer_bytes", &Settings::send_buffer_bytes)
      .def_readwrite("receive_buffer_bytes", &Settings::receive_buffer_bytes)
      .def_property(
          "control", [](const Settings& own) { return name_of(own.control); },
          [](Settings& own, const std::string& name) { own.control = control_of(name); })
      .def_readwrite("rate_bps", &Settings::rate_bps)
      .def_readwrite("ceiling_bps", &Settings::ceiling_bps)
      .def_property(
          "dead_after_s", [](const Settings& own) { return seconds(own.dead_after); },
          [](Settings& own, double value) { own.dead_after = micros_of(value); })
      .def_property(
          "connect_timeout_s", [](const Settings& own) { return seconds(own.connect_timeout); },
          [](Settings& own, double value) { own.connect_timeout = micros_of(value); })
      .def_readwrite("extensions", &Settings::extensions)
      .def_readwrite("rendezvous", &Settings::rendezvous)
      .def_readwrite("reuse_address", &Settings::reuse_address)
      .def_readwrite("max_connections", &Settings::max_connections)
      .def_readwrite("udp_receive_buffer_bytes", &Settings::udp_receive_buffer_bytes)
      .def_readwrite("udp_send_buffer_bytes", &Settings::udp_send_buffer_bytes)
      .def_readwrite("offload", &Settings::offload);
}

void define_socket(py::module_& module) {
  const auto no_timeout = py::arg("timeout_s") = py::none();
  py::class_<Handle>(module, "Socket", "A UDT socket. Timeouts are seconds; None: for ever, 0: don't wait.")
      .def(py::init<const Settings&, int>(), py::arg("settings"), py::arg("kind") = 1)
      .def_property_readonly("kind", [](const Handle& own) { return static_cast<int>(own->kind()); })
      .def_property_readonly("settings", [](const Handle& own) { return own->settings(); })
      .def("configure", [](Handle& own, const Settings& settings) { own->configure(settings); }, py::arg("settings"))
      .def("bind",
           [](Handle& own, int family, const std::string& host, int port) {
             py::gil_scoped_release released;
             own->bind(family, host, port);
           },
           py::arg("family"), py::arg("host"), py::arg("port"))
      .def("bind_descriptor", [](Handle& own, int descriptor) { own->bind_descriptor(descriptor); },
           py::arg("descriptor"))
      .def("listen", [](Handle& own, int64_t backlog) { own->listen(size_of(backlog)); }, py::arg("backlog") = 64)
      .def("accept", &accept, no_timeout)
      .def("connect", &connect, py::arg("family"), py::arg("host"), py::arg("port"), no_timeout)
      .def("connect_result", [](const Handle& own) { own->connect_result(); })
      .def("send", &send, py::arg("data"), no_timeout)
      .def("send_all", &send_all, py::arg("data"), no_timeout)
      .def("recv", &recv, py::arg("size"), no_timeout)
      .def("recv_into", &recv_into, py::arg("buffer"), py::arg("size") = 0, no_timeout, py::arg("full") = false)
      .def("finish", [](Handle& own) { own->finish(); })
      .def("sendmsg", &sendmsg, py::arg("data"), py::arg("lifetime_ms") = -1.0, py::arg("in_order") = false, no_timeout)
      .def("recvmsg_into", &recvmsg_into, py::arg("buffer"), no_timeout)
      .def("sendfile", &sendfile, py::arg("descriptor"), py::arg("offset"), py::arg("size"), no_timeout)
      .def("recvfile", &recvfile, py::arg("descriptor"), py::arg("offset"), py::arg("size"), no_timeout)
      .def("wait_unsent_below", &wait_unsent_below, py::arg("packets"), no_timeout)
      .def("wait_delivered", &wait_delivered, no_timeout)
      .def("close", &close, py::arg("linger_s") = 0.0)
      .def("abort", [](Handle& own) {
        py::gil_scoped_release released;
        own->abort();
      })
      .def_property_readonly("state", [](const Handle& own) { return static_cast<int>(own->state()); })
      .def_property_readonly("can_read", [](const Handle& own) { return own->can_read(); })
      .def_property_readonly("can_write", [](const Handle& own) { return own->can_write(); })
      .def("readable_descriptor", [](Handle& own) { return own->readable_descriptor(); })
      .def("writable_descriptor", [](Handle& own) { return own->writable_descriptor(); })
      .def_property_readonly("readable_bytes", [](const Handle& own) { return own->readable_bytes(); })
      .def_property_readonly("unsent_packets", [](const Handle& own) { return own->unsent_packets(); })
      .def_property_readonly("undelivered_bytes", [](const Handle& own) { return own->undelivered_bytes(); })
      .def("local_address", [](const Handle& own) { return pair_of(own->local_address()); })
      .def("peer_address", [](const Handle& own) { return pair_of(own->peer_address()); })
      .def("statistics", &statistics)
      .def("set_rate_bps", [](Handle& own, double rate) { own->set_rate_bps(rate); }, py::arg("bits_per_second"));
}

}  // namespace

PYBIND11_MODULE(_udt, module) {
  module.doc() = "UDT: sockets over the project's own implementation. See syncer.udt.";
  main_thread = py::module_::import("threading").attr("main_thread")().attr("ident").cast<unsigned long>();
  define_errors(module);
  define_settings(module);
  define_socket(module);
  module.def("shutdown", [] {
    py::gil_scoped_release released;
    Endpoint::stop_all();
  }, "Ends every socket of the process, telling the peers. Called at exit.");
  py::module_::import("atexit").attr("register")(module.attr("shutdown"));
}
