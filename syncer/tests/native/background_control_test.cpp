#include "background_control.hpp"

#include <doctest/doctest.h>

#include <vector>

#include "competitors.hpp"
#include "control_simulation.hpp"

namespace longhaul::udt {
namespace {

using namespace simulation;

constexpr Micros kSecond = 1'000'000;

FlowSettings background(uint64_t seed = 1) { return flow_of(ControlKind::kBackground, 0, 0, seed); }

TEST_CASE("background uses what nobody wants, within its target queue") {
  for (Micros rtt : {20'000, 80'000}) {
    for (double loss : {0.0, 0.001, 0.01}) {
      CAPTURE(rtt);
      CAPTURE(loss);
      Result result = simulate(constant_path(50e6, rtt, 4, loss), {background()}, 60 * kSecond);
      CHECK(result.flows[0].goodput(20 * kSecond, 60 * kSecond) > 0.6 * 50e6);
      CHECK(result.queue_share(0.95, 20 * kSecond, 60 * kSecond) < 60);
    }
  }
}

TEST_CASE("background yields to everything else") {
  std::vector<FlowSettings> others(2);
  others[0].control = [] { return std::make_unique<CubicCompetitor>(); };
  others[1] = flow_of(ControlKind::kBbr);
  for (const FlowSettings& other : others) {
    std::vector<FlowSettings> flows{background(), other};
    flows[1].start = 20 * kSecond;
    Result result = simulate(constant_path(50e6, 40'000, 2), flows, 60 * kSecond);
    CHECK(result.flows[0].goodput(10 * kSecond, 20 * kSecond) > 0.6 * 50e6);
    CHECK(result.flows[0].goodput(30 * kSecond, 60 * kSecond) < 0.15 * 50e6);
    CHECK(result.flows[1].goodput(30 * kSecond, 60 * kSecond) > 0.75 * 50e6);
  }
}

TEST_CASE("two background flows share, whoever came first") {
  std::vector<FlowSettings> flows{background(1), background(2)};
  flows[1].start = 15 * kSecond;
  Result result = simulate(constant_path(50e6, 40'000, 4), flows, 120 * kSecond);
  CHECK(fairness(result, 60 * kSecond, 120 * kSecond) > 0.8);
}

}  // namespace
}  // namespace longhaul::udt
