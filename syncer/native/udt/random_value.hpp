// Values that nobody can guess.
#pragma once

#include <sys/random.h>

namespace longhaul::udt {

template <typename Value>
Value random_value() {
  Value value{};
  // For up to 256 bytes it neither fails nor falls short once the pool is ready.
  while (getrandom(&value, sizeof value, 0) != static_cast<ssize_t>(sizeof value)) {
  }
  return value;
}

}  // namespace longhaul::udt
