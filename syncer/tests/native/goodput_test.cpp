// What reaches the other side, as a share of the link's rate, after the first three seconds: simulated, so that a change
// that costs speed is seen at once. The rest of a rate is headers (4%) and what the path loses.
#include <doctest/doctest.h>

#include <algorithm>
#include <vector>

#include "simulation.hpp"

namespace longhaul::udt::virtual_time {
namespace {

constexpr Micros kSecond = 1'000'000;
constexpr Micros kStart = 1'000'000;

struct Path {
  double mbps;
  Micros rtt;
  double loss;
  double burst = 1;
  double buffer_bdp = 1;
};

struct Outcome {
  double share = 0;    // of the rate
  double again = 0;    // packets sent again for each that was lost
  double queue_ms = 0;  // 95th percentile
};

Outcome measure(const Path& path, ControlKind control, bool extensions) {
  LinkModel link;
  link.rate_bps = path.mbps * 1e6;
  link.delay = path.rtt / 2;
  link.buffer_bytes = static_cast<size_t>(path.buffer_bdp * link.rate_bps * static_cast<double>(path.rtt) / 8e6);
  link.loss = path.loss;
  link.burst = path.burst;
  Simulation simulation(link, link, 1, kStart);
  ConnectionSettings settings = settings_for(link, path.rtt);
  settings.initial_rtt = path.rtt;
  settings.extensions = extensions;
  settings.control.kind = control;
  settings.control.rate = 0.98 * link.rate_bps / settings.control.packet_bits;
  auto& flow = simulation.add_flow(settings, settings);
  flow.left->to_write = ~uint64_t{0} / 2;
  simulation.run(kStart + 3 * kSecond);
  const uint64_t read = flow.right->read;
  const size_t carried = simulation.to_right.queueing_us.size();
  simulation.run(kStart + 13 * kSecond);
  CHECK(flow.right->intact);

  Outcome outcome;
  outcome.share = static_cast<double>(flow.right->read - read) * 8 / 10 / link.rate_bps;
  const Statistics sent = flow.left->connection.statistics(simulation.now());
  const auto lost = static_cast<double>(simulation.to_right.lost + simulation.to_right.overflowed);
  outcome.again = static_cast<double>(sent.packets_retransmitted) / std::max(lost, 1.0);
  std::vector<uint32_t> waits(simulation.to_right.queueing_us.begin() + static_cast<ptrdiff_t>(carried),
                              simulation.to_right.queueing_us.end());
  const auto at = waits.begin() + static_cast<ptrdiff_t>(waits.size() * 95 / 100);
  std::nth_element(waits.begin(), at, waits.end());
  outcome.queue_ms = *at / 1e3;
  return outcome;
}

// Millions of packets: too slow with sanitizers, which have enough of them in the other tests.
TEST_CASE("bbr fills the pipe, and keeps the queue short" * doctest::skip(SANITIZED)) {
  struct Case {
    Path path;
    double share;
  };
  for (const Case& each : {
           Case{{200, 10'000, 0}, 0.95},
           Case{{200, 80'000, 0}, 0.95},
           Case{{200, 80'000, 0.001}, 0.94},
           Case{{200, 80'000, 0.01}, 0.93},
           Case{{200, 80'000, 0.01, 20}, 0.92},
           Case{{200, 200'000, 0.01}, 0.92},
           Case{{200, 80'000, 0.05}, 0.83},
           Case{{200, 200'000, 0.05}, 0.85},
           Case{{20, 300'000, 0.01}, 0.90},
           Case{{200, 80'000, 0.01, 1, 5}, 0.92},
       }) {
    CAPTURE(each.path.mbps);
    CAPTURE(each.path.rtt);
    CAPTURE(each.path.loss);
    CAPTURE(each.path.burst);
    const Outcome outcome = measure(each.path, ControlKind::kBbr, true);
    CHECK(outcome.share >= each.share);
    CHECK(outcome.again <= 1.05);
    CHECK(outcome.queue_ms <= static_cast<double>(each.path.rtt) / 1e3 / 2);
  }
}

TEST_CASE("a fixed rate holds whatever is lost, towards our own peers and plain ones" * doctest::skip(SANITIZED)) {
  for (const double loss : {0.0, 0.01, 0.05}) {
    CAPTURE(loss);
    CHECK(measure({200, 80'000, loss}, ControlKind::kFixed, true).share >= 0.94 * (1 - loss) - 0.005);
    CHECK(measure({200, 80'000, loss}, ControlKind::kFixed, false).share >= 0.94 * (1 - 2.5 * loss) - 0.005);
  }
}

TEST_CASE("bbr towards a plain peer does not collapse" * doctest::skip(SANITIZED)) {
  for (const double loss : {0.0, 0.001, 0.01, 0.05}) {
    CAPTURE(loss);
    CHECK(measure({200, 80'000, loss}, ControlKind::kBbr, false).share >= 0.6);
  }
}

}  // namespace
}  // namespace longhaul::udt::virtual_time
