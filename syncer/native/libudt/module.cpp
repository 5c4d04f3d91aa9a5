// The Python module syncer.native._libudt: sockets, epoll, rate control and the constants of libudt 4.11.

#include <pybind11/pybind11.h>
#include <sys/socket.h>
#include <udt/udt.h>

#include "epoll.hpp"
#include "errors.hpp"
#include "socket.hpp"

namespace py = pybind11;
using namespace longhaul;

namespace {

void define_constants(py::module_& module) {
#define LONGHAUL_CONSTANT(name) module.attr(#name) = static_cast<int>(name)
  LONGHAUL_CONSTANT(UDT_MSS);
  LONGHAUL_CONSTANT(UDT_SNDSYN);
  LONGHAUL_CONSTANT(UDT_RCVSYN);
  LONGHAUL_CONSTANT(UDT_CC);
  LONGHAUL_CONSTANT(UDT_FC);
  LONGHAUL_CONSTANT(UDT_SNDBUF);
  LONGHAUL_CONSTANT(UDT_RCVBUF);
  LONGHAUL_CONSTANT(UDT_LINGER);
  LONGHAUL_CONSTANT(UDP_SNDBUF);
  LONGHAUL_CONSTANT(UDP_RCVBUF);
  LONGHAUL_CONSTANT(UDT_MAXMSG);
  LONGHAUL_CONSTANT(UDT_MSGTTL);
  LONGHAUL_CONSTANT(UDT_RENDEZVOUS);
  LONGHAUL_CONSTANT(UDT_SNDTIMEO);
  LONGHAUL_CONSTANT(UDT_RCVTIMEO);
  LONGHAUL_CONSTANT(UDT_REUSEADDR);
  LONGHAUL_CONSTANT(UDT_MAXBW);
  LONGHAUL_CONSTANT(UDT_STATE);
  LONGHAUL_CONSTANT(UDT_EVENT);
  LONGHAUL_CONSTANT(UDT_SNDDATA);
  LONGHAUL_CONSTANT(UDT_RCVDATA);
  LONGHAUL_CONSTANT(UDT_EPOLL_IN);
  LONGHAUL_CONSTANT(UDT_EPOLL_OUT);
  LONGHAUL_CONSTANT(UDT_EPOLL_ERR);
  LONGHAUL_CONSTANT(INIT);
  LONGHAUL_CONSTANT(OPENED);
  LONGHAUL_CONSTANT(LISTENING);
  LONGHAUL_CONSTANT(CONNECTING);
  LONGHAUL_CONSTANT(CONNECTED);
  LONGHAUL_CONSTANT(BROKEN);
  LONGHAUL_CONSTANT(CLOSING);
  LONGHAUL_CONSTANT(CLOSED);
  LONGHAUL_CONSTANT(NONEXIST);
#undef LONGHAUL_CONSTANT
#define LONGHAUL_CODE(name) module.attr(#name) = CUDTException::name
  LONGHAUL_CODE(SUCCESS);
  LONGHAUL_CODE(ECONNSETUP);
  LONGHAUL_CODE(ENOSERVER);
  LONGHAUL_CODE(ECONNREJ);
  LONGHAUL_CODE(ESOCKFAIL);
  LONGHAUL_CODE(ECONNFAIL);
  LONGHAUL_CODE(ECONNLOST);
  LONGHAUL_CODE(ENOCONN);
  LONGHAUL_CODE(ERESOURCE);
  LONGHAUL_CODE(EINVOP);
  LONGHAUL_CODE(EBOUNDSOCK);
  LONGHAUL_CODE(ECONNSOCK);
  LONGHAUL_CODE(EINVPARAM);
  LONGHAUL_CODE(EINVSOCK);
  LONGHAUL_CODE(EUNBOUNDSOCK);
  LONGHAUL_CODE(ENOLISTEN);
  LONGHAUL_CODE(ESTREAMILL);
  LONGHAUL_CODE(EDGRAMILL);
  LONGHAUL_CODE(EDUPLISTEN);
  LONGHAUL_CODE(ELARGEMSG);
  LONGHAUL_CODE(EINVPOLLID);
  LONGHAUL_CODE(EASYNCSND);
  LONGHAUL_CODE(EASYNCRCV);
  LONGHAUL_CODE(ETIMEOUT);
  LONGHAUL_CODE(EPEERERR);
#undef LONGHAUL_CODE
}

void define_trace(py::module_& module) {
  py::class_<UDT::TRACEINFO> trace(module, "TRACEINFO", "What libudt counts for one socket; see Socket.perfmon.");
#define LONGHAUL_FIELD(name) trace.def_readonly(#name, &UDT::TRACEINFO::name)
  LONGHAUL_FIELD(msTimeStamp);
  LONGHAUL_FIELD(pktSentTotal);
  LONGHAUL_FIELD(pktRecvTotal);
  LONGHAUL_FIELD(pktSndLossTotal);
  LONGHAUL_FIELD(pktRcvLossTotal);
  LONGHAUL_FIELD(pktRetransTotal);
  LONGHAUL_FIELD(pktSentACKTotal);
  LONGHAUL_FIELD(pktRecvACKTotal);
  LONGHAUL_FIELD(pktSentNAKTotal);
  LONGHAUL_FIELD(pktRecvNAKTotal);
  LONGHAUL_FIELD(usSndDurationTotal);
  LONGHAUL_FIELD(pktSent);
  LONGHAUL_FIELD(pktRecv);
  LONGHAUL_FIELD(pktSndLoss);
  LONGHAUL_FIELD(pktRcvLoss);
  LONGHAUL_FIELD(pktRetrans);
  LONGHAUL_FIELD(pktSentACK);
  LONGHAUL_FIELD(pktRecvACK);
  LONGHAUL_FIELD(pktSentNAK);
  LONGHAUL_FIELD(pktRecvNAK);
  LONGHAUL_FIELD(mbpsSendRate);
  LONGHAUL_FIELD(mbpsRecvRate);
  LONGHAUL_FIELD(usSndDuration);
  LONGHAUL_FIELD(usPktSndPeriod);
  LONGHAUL_FIELD(pktFlowWindow);
  LONGHAUL_FIELD(pktCongestionWindow);
  LONGHAUL_FIELD(pktFlightSize);
  LONGHAUL_FIELD(msRTT);
  LONGHAUL_FIELD(mbpsBandwidth);
  LONGHAUL_FIELD(byteAvailSndBuf);
  LONGHAUL_FIELD(byteAvailRcvBuf);
#undef LONGHAUL_FIELD
}

void define_socket(py::module_& module) {
  py::class_<Socket>(module, "Socket")
      .def(py::init<int, int>(), py::arg("family") = static_cast<int>(AF_INET),
           py::arg("type") = static_cast<int>(SOCK_STREAM))
      .def_property_readonly("id", &Socket::id)
      .def_property_readonly("family", &Socket::family)
      .def_property_readonly("type", &Socket::type)
      .def_property_readonly("state", &Socket::state)
      .def("bind", &Socket::bind, py::arg("host"), py::arg("port"))
      .def("bind_descriptor", &Socket::bind_descriptor, py::arg("descriptor"))
      .def("listen", &Socket::listen, py::arg("backlog") = 64)
      .def("accept", &Socket::accept)
      .def("connect", &Socket::connect, py::arg("host"), py::arg("port"))
      .def("close", &Socket::close)
      .def("send", &Socket::send, py::arg("data"))
      .def("send_all", &Socket::send_all, py::arg("data"))
      .def("recv", &Socket::recv, py::arg("size"))
      .def("recv_into", &Socket::recv_into, py::arg("buffer"), py::arg("size") = 0)
      .def("recv_full", &Socket::recv_full, py::arg("buffer"), py::arg("size"))
      .def("sendmsg", &Socket::sendmsg, py::arg("data"), py::arg("lifetime_ms") = -1, py::arg("in_order") = false)
      .def("recvmsg", &Socket::recvmsg, py::arg("size"))
      .def("sendfile", &Socket::sendfile, py::arg("path"), py::arg("offset"), py::arg("size"),
           py::arg("block") = 364000)
      .def("recvfile", &Socket::recvfile, py::arg("path"), py::arg("offset"), py::arg("size"),
           py::arg("block") = 7280000)
      .def("setsockopt", &Socket::setsockopt, py::arg("option"), py::arg("value"))
      .def("getsockopt", &Socket::getsockopt, py::arg("option"))
      .def("use_fixed_rate", &Socket::use_fixed_rate, py::arg("rate_bps"),
           "Before connect, or on a listener for what it accepts from now on. Bits a second on the wire.")
      .def("use_native_control", &Socket::use_native_control, "libudt's own congestion control, as without any call.")
      .def("perfmon", &Socket::perfmon, py::arg("clear") = true)
      .def("getsockname", &Socket::getsockname)
      .def("getpeername", &Socket::getpeername);
}

}  // namespace

PYBIND11_MODULE(_libudt, module) {
  module.doc() = "libudt 4.11, the peer to hold our own UDT against. It starts with the first socket; do not fork after.";
  define_exception(module);
  define_constants(module);
  define_trace(module);
  define_socket(module);
  py::class_<Epoll>(module, "Epoll")
      .def(py::init<>())
      .def("add", &Epoll::add, py::arg("socket"), py::arg("events"))
      .def("add_descriptor", &Epoll::add_descriptor, py::arg("descriptor"), py::arg("events"))
      .def("remove", &Epoll::remove, py::arg("socket"))
      .def("remove_descriptor", &Epoll::remove_descriptor, py::arg("descriptor"))
      .def("wait", &Epoll::wait, py::arg("timeout_ms"));
  module.def("startup", [] { return UDT::startup(); });
  module.def("cleanup", [] {
    py::gil_scoped_release released;
    return UDT::cleanup();
  });
}
