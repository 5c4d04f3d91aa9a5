#include <pybind11/pybind11.h>
#include <udt/udt.h>
PYBIND11_MODULE(_udt, module) { UDT::startup(); (void)module; }
