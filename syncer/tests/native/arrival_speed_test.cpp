#include "arrival_speed.hpp"

#include <doctest/doctest.h>

namespace longhaul::udt {
namespace {

TEST_CASE("an even stream's speed is told, by the packet") {
  ArrivalSpeed speed;
  CHECK(speed.rate() == 0);
  for (uint32_t i = 0; i < 40; ++i) speed.on_arrival(i, 1'000 + i * 100);
  CHECK(speed.rate() == doctest::Approx(10'000));
}

TEST_CASE("pauses do not count, nor does how packets were read") {
  ArrivalSpeed paused;
  Micros now = 1'000;
  for (uint32_t i = 0; i < 200; ++i) paused.on_arrival(i, now += i % 8 == 0 ? 80'000 : 100);
  CHECK(paused.rate() == doctest::Approx(10'000).epsilon(0.01));

  ArrivalSpeed batched;  // four at a time, every 400 us
  for (uint32_t i = 0; i < 200; ++i) batched.on_arrival(i, 1'000 + i / 4 * 400);
  CHECK(batched.rate() == doctest::Approx(10'000).epsilon(0.01));

  ArrivalSpeed bursts;  // sixteen that are read together after a round trip
  for (uint32_t i = 0; i < 200; ++i) bursts.on_arrival(i, 1'000 + i / 16 * 80'000);
  CHECK(bursts.rate() == doctest::Approx(16'000).epsilon(0.01));
}

TEST_CASE("the capacity is that of the pairs") {
  ArrivalSpeed speed;
  Micros now = 1'000;
  for (uint32_t i = 0; i < 16 * 20; ++i) speed.on_arrival(i, now += i % 16 == 1 ? 20 : 200);
  CHECK(speed.capacity() == doctest::Approx(50'000).epsilon(0.01));
  CHECK(speed.rate() < 6'000);
}

}  // namespace
}  // namespace longhaul::udt
