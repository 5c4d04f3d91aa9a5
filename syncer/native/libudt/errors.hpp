// One Python exception for every failure that libudt reports.
#pragma once

#include <pybind11/pybind11.h>

#include <string>

namespace longhaul {

// libudt keeps its last error per thread: take it on the thread that made the call, before any other libudt call.
struct UdtFailure {
  int code;
  std::string text;

  static UdtFailure take();
};

void define_exception(pybind11::module_& module);

// Both need the GIL.
[[noreturn]] void raise(const char* operation, const UdtFailure& failure);
[[noreturn]] void raise_last(const char* operation);

}  // namespace longhaul
