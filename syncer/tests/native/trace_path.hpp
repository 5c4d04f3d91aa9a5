// A trace file of topologies/traces as a simulated path.
#pragma once

#include <string>

#include "control_simulation.hpp"

namespace longhaul::udt::simulation {

// Towards the subscriber, or from it (`up`). Throws std::runtime_error for what cannot be read.
PathSettings read_trace(const std::string& file, bool up);

}  // namespace longhaul::udt::simulation
