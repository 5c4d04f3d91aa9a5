#include "errors_python.hpp"

#include <cerrno>
#include <exception>

#include "errors.hpp"

namespace py = pybind11;

namespace longhaul::udt {
namespace {

constexpr size_t kKinds = static_cast<size_t>(ErrorKind::kSystem) + 1;
PyObject* exceptions[kKinds] = {};  // the module's for ever
int numbers[kKinds] = {};

PyObject* make(py::module_& module, const char* name, const char* doc, std::initializer_list<PyObject*> bases) {
  py::tuple all(bases.size());
  size_t index = 0;
  for (PyObject* base : bases) all[index++] = py::reinterpret_borrow<py::object>(base);
  const std::string full = std::string("syncer.udt.") + name;
  PyObject* made = PyErr_NewExceptionWithDoc(full.c_str(), doc, all.ptr(), nullptr);
  if (made == nullptr) throw py::error_already_set();
  module.attr(name) = py::reinterpret_borrow<py::object>(made);
  return made;
}

void assign(ErrorKind kind, PyObject* exception, int number) {
  exceptions[static_cast<size_t>(kind)] = exception;
  numbers[static_cast<size_t>(kind)] = number;
}

void raise(const Error& error) {
  const auto kind = static_cast<size_t>(error.kind());
  const int number = error.number() != 0 ? error.number() : numbers[kind];
  py::object value = py::reinterpret_steal<py::object>(
      PyObject_CallFunction(exceptions[kind], "is", number, error.what()));
  if (value) PyErr_SetObject(exceptions[kind], value.ptr());
}

}  // namespace

void define_errors(py::module_& module) {
  PyObject* base = make(module, "UdtError", "Whatever a UDT socket fails with. ``errno`` is the nearest of the system's.",
                        {PyExc_OSError});
  assign(ErrorKind::kSystem, base, EIO);
  assign(ErrorKind::kMisuse,
         make(module, "Misuse", "The call makes no sense in this state, or an argument is out of range.",
              {base, PyExc_ValueError}),
         EINVAL);
  assign(ErrorKind::kNotConnected, make(module, "NotConnected", "The socket is not connected yet.", {base}), ENOTCONN);
  assign(ErrorKind::kClosed, make(module, "Closed", "The socket, or its writing end, was closed at this end.", {base}),
         EBADF);
  assign(ErrorKind::kWouldBlock,
         make(module, "WouldBlock", "A call that may not wait would have to.", {base, PyExc_BlockingIOError}), EAGAIN);
  assign(ErrorKind::kTimedOut,
         make(module, "TimedOut", "The deadline passed; the socket is as it was.", {base, PyExc_TimeoutError}),
         ETIMEDOUT);
  assign(ErrorKind::kMessageTooLarge,
         make(module, "MessageTooLarge", "The message is larger than the send buffer, or empty.", {base}), EMSGSIZE);
  assign(ErrorKind::kAddressInUse, make(module, "AddressInUse", "Another socket is bound there.", {base}), EADDRINUSE);
  assign(ErrorKind::kRefused,
         make(module, "ConnectionRefused", "Nobody listens there, or the listener said no.",
              {base, PyExc_ConnectionRefusedError}),
         ECONNREFUSED);
  PyObject* lost = make(module, "ConnectionLost", "The connection ended before all had arrived.",
                        {base, PyExc_ConnectionError});
  assign(ErrorKind::kBroken,
         make(module, "Broken", "The peer closed before all had arrived.", {lost, PyExc_ConnectionResetError}),
         ECONNRESET);
  assign(ErrorKind::kSilent,
         make(module, "PeerSilent", "Nothing was heard of the peer for too long (``dead_after_s``).", {lost}),
         EHOSTUNREACH);
  py::register_exception_translator([](std::exception_ptr pending) {
    try {
      if (pending) std::rethrow_exception(pending);
    } catch (const Error& error) {
      raise(error);
    }
  });
}

}  // namespace longhaul::udt
