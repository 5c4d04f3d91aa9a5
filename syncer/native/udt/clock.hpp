// The clock of the threads: the core is given its times.
#pragma once

#include <ctime>

#include "numbers.hpp"

namespace longhaul::udt {

inline Micros monotonic_now() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return Micros{now.tv_sec} * 1'000'000 + now.tv_nsec / 1000;
}

}  // namespace longhaul::udt
