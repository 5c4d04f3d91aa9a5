#include "errors.hpp"

#include <udt/udt.h>

namespace py = pybind11;

namespace longhaul {

namespace {
PyObject* exception_type = nullptr;
}

UdtFailure UdtFailure::take() {
  UdtFailure failure{UDT::getlasterror_code(), UDT::getlasterror_desc()};
  UDT::getlasterror().clear();
  return failure;
}

void define_exception(py::module_& module) {
  exception_type = PyErr_NewExceptionWithDoc(
      "syncer.native._libudt.UDTException",
      "A libudt call failed. args is (code, message); code is also an attribute.", PyExc_Exception, nullptr);
  module.add_object("UDTException", py::reinterpret_borrow<py::object>(exception_type));
}

void raise(const char* operation, const UdtFailure& failure) {
  py::object error = py::reinterpret_borrow<py::object>(exception_type)(
      failure.code, std::string(operation) + ": " + failure.text);
  error.attr("code") = failure.code;
  PyErr_SetObject(exception_type, error.ptr());
  throw py::error_already_set();
}

void raise_last(const char* operation) { raise(operation, UdtFailure::take()); }

}  // namespace longhaul
