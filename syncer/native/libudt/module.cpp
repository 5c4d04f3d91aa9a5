// The Python module syncer.native._libudt: sockets, epoll, rate control and the constants of libudt 4.11.

#include <pybind11/pybind11.h>
#include <sys/socket.h>
#include <udt/udt.h>

#include "adaptive_rate.hpp"
#include "epoll.hpp"
#include "errors.hpp"
#include "loss_tracker.hpp"
#include "rate_control.hpp"
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

void define_rate_control(py::module_& module) {
  py::class_<RateStatus>(module, "RateStatus", "A snapshot of a rate control.")
      .def_property_readonly("state", [](const RateStatus& status) { return std::string(status.state); })
      .def_readonly("target_bps", &RateStatus::target_bps)
      .def_readonly("delivered_bps", &RateStatus::delivered_bps)
      .def_readonly("loss", &RateStatus::loss)
      .def_readonly("rtt_us", &RateStatus::rtt_us)
      .def_readonly("min_rtt_us", &RateStatus::min_rtt_us)
      .def_readonly("packets_sent", &RateStatus::packets_sent)
      .def_readonly("packets_arrived", &RateStatus::packets_arrived)
      .def_readonly("packets_received", &RateStatus::packets_received)
      .def_readonly("packets_missing", &RateStatus::packets_missing)
      .def_readonly("naks_repeated", &RateStatus::naks_repeated)
      .def_readonly("timeouts", &RateStatus::timeouts);

  const auto setting = [](double RateSettings::*field) {
    return [field](RateShared& shared, double value) {
      if (value < 0) throw py::value_error("a rate is not negative");
      RateSettings settings = shared.settings();
      settings.*field = value;
      shared.set(settings);
    };
  };
  py::class_<RateShared, std::shared_ptr<RateShared>>(
      module, "RateControl", "The rate control of one connection. May be set at any time; outlives the socket.")
      .def_property(
          "rate_bps", [](const RateShared& shared) { return shared.settings().rate_bps; },
          setting(&RateSettings::rate_bps), "Bits a second on the wire, headers counted; 0: adaptive.")
      .def_property(
          "floor_bps", [](const RateShared& shared) { return shared.settings().floor_bps; },
          setting(&RateSettings::floor_bps), "Adaptive never goes below.")
      .def_property(
          "ceiling_bps", [](const RateShared& shared) { return shared.settings().ceiling_bps; },
          setting(&RateSettings::ceiling_bps), "Adaptive never goes above; 0: no ceiling.")
      .def("status", &RateShared::status);

  py::class_<AdaptiveRate>(module, "AdaptiveRate", "The adaptive law alone, for tests. Rates are packets a second.")
      .def(py::init<double, double>(), py::arg("floor"), py::arg("ceiling"))
      .def(
          "on_feedback",
          [](AdaptiveRate& rate, int64_t now_us, int64_t receiver_us, int64_t sent, int64_t arrived, int64_t rtt_us) {
            rate.on_feedback({now_us, receiver_us, sent, arrived, rtt_us});
          },
          py::arg("now_us"), py::arg("receiver_us"), py::arg("sent_packets"), py::arg("arrived_packets"),
          py::arg("rtt_us"))
      .def_property_readonly("rate", &AdaptiveRate::rate)
      .def_property_readonly("window", &AdaptiveRate::window)
      .def_property_readonly("min_rtt_us", &AdaptiveRate::min_rtt_us)
      .def_property_readonly("state", [](const AdaptiveRate& rate) {
        return rate.state() == AdaptiveRate::State::kStart ? "start"
               : rate.state() == AdaptiveRate::State::kDrain ? "drain"
                                                             : "hold";
      });

  py::class_<LossTracker>(module, "LossTracker", "The receiver's list of missing packets alone, for tests.")
      .def(py::init<>())
      .def("arrived", &LossTracker::arrived, py::arg("sequence"), py::arg("now_us"))
      .def(
          "overdue",
          [](LossTracker& tracker, int64_t now_us, int64_t patience_us, std::size_t max_words) {
            py::list words;
            for (int32_t word : tracker.overdue(now_us, patience_us, max_words)) words.append(static_cast<uint32_t>(word));
            return words;
          },
          py::arg("now_us"), py::arg("patience_us"), py::arg("max_words"))
      .def_property_readonly("missing_packets", &LossTracker::missing_packets);
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
      .def(
          "use_rate_control",
          [](Socket& socket, double rate_bps, double floor_bps, double ceiling_bps) {
            socket.use_rate_control({rate_bps, floor_bps, ceiling_bps});
          },
          py::arg("rate_bps") = 0.0, py::arg("floor_bps") = 300e3, py::arg("ceiling_bps") = 0.0)
      .def("use_fixed_rate", &Socket::use_fixed_rate, py::arg("rate_bps"),
           "Before connect, or on a listener for what it accepts from now on. Bits a second on the wire.")
      .def("use_native_control", &Socket::use_native_control, "libudt's own congestion control, as without any call.")
      .def("rate_control", &Socket::rate_control)
      .def("wait_unsent_below", &Socket::wait_unsent_below, py::arg("packets"), py::arg("timeout_ms"))
      .def("perfmon", &Socket::perfmon, py::arg("clear") = true)
      .def("getsockname", &Socket::getsockname)
      .def("getpeername", &Socket::getpeername);
}

}  // namespace

PYBIND11_MODULE(_libudt, module) {
  module.doc() = "libudt 4.11 with a rate control of our own. libudt starts with the first socket; do not fork after.";
  define_exception(module);
  define_constants(module);
  define_trace(module);
  define_rate_control(module);
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
