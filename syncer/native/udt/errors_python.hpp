// The exceptions of the Python module: one class for each kind of error, in a tree under UdtError, which is an OSError.
#pragma once

#include <pybind11/pybind11.h>

namespace longhaul::udt {

void define_errors(pybind11::module_& module);

}  // namespace longhaul::udt
