#include "bbr_control.hpp"

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "competitors.hpp"
#include "control_simulation.hpp"
#include "trace_path.hpp"

// What `bbr` promises, over simulated paths: shares are of what was possible, payload over packets and less chance losses.
namespace longhaul::udt {
namespace {

using namespace simulation;

constexpr Micros kSecond = 1'000'000;
constexpr Micros kLength = 12 * kSecond;
constexpr Micros kCountedFrom = 3 * kSecond;

double possible_share(const Result& result, double rate, double loss, Micros from = kCountedFrom, Micros to = kLength) {
  return result.flows[0].goodput(from, to) / (rate * kPayloadBits / kPacketBits * (1 - loss));
}

double overflow_share(const Result& result) {
  return static_cast<double>(result.flows[0].overflowed) / static_cast<double>(result.flows[0].sent);
}

FlowSettings bbr(uint64_t seed = 1) { return flow_of(ControlKind::kBbr, 0, 0, seed); }

TEST_CASE("bbr fills the pipe, with chance losses as without, and keeps its queue small") {
  for (double rate : {20e6, 200e6}) {
    for (Micros rtt : {10'000, 80'000, 200'000}) {
      for (double loss : {0.0, 0.01, 0.05}) {
        for (double buffer : {0.1, 1.0, 5.0}) {
          CAPTURE(rate);
          CAPTURE(rtt);
          CAPTURE(loss);
          CAPTURE(buffer);
          Result result = simulate(constant_path(rate, rtt, buffer, loss), {bbr()}, kLength);
          CHECK(possible_share(result, rate, loss) > 0.975);
          CHECK(result.queue_share(0.95, kCountedFrom, kLength) < 65);
          CHECK(overflow_share(result) < (buffer < 1 ? 0.15 : 0.04));
        }
      }
    }
  }
}

TEST_CASE("bbr fills the pipe when losses come in bursts") {
  for (Micros rtt : {20'000, 80'000, 200'000}) {
    PathSettings path = constant_path(100e6, rtt, 1);
    path.burst_begin = 0.001;
    path.burst_end = 0.05;
    path.burst_loss = 0.5;
    double loss = 0.5 * 0.001 / 0.051;
    CHECK(possible_share(simulate(path, {bbr()}, kLength), 100e6, loss) > 0.97);
  }
}

TEST_CASE("chance losses up to 15% do not slow bbr down") {
  for (double loss : {0.1, 0.15}) {
    CHECK(possible_share(simulate(constant_path(100e6, 80'000, 1, loss), {bbr()}, kLength), 100e6, loss) > 0.96);
  }
}

TEST_CASE("jitter does not pass for a queue") {
  for (double rate : {20e6, 200e6}) {
    for (Micros rtt : {80'000, 200'000}) {
      for (bool reorder : {false, true}) {
        CAPTURE(rate);
        CAPTURE(rtt);
        CAPTURE(reorder);
        PathSettings path = constant_path(rate, rtt, 1, 0.01);
        path.steps[0].jitter = 10'000;
        path.reorder = reorder;
        CHECK(possible_share(simulate(path, {bbr()}, kLength), rate, 0.01) > 0.96);
      }
    }
  }
}

TEST_CASE("hosts that stand still, and reports that come late, cost little") {
  FlowSettings flow = bbr();
  flow.stalls_per_second = 5;
  flow.back_jitter = 10'000;
  CHECK(possible_share(simulate(constant_path(200e6, 80'000, 1, 0.01), {flow}, kLength), 200e6, 0.01) > 0.95);
}

TEST_CASE("a slow link is filled without minutes of queue") {
  Result result = simulate(constant_path(64e3, 100'000, 40), {bbr()}, 60 * kSecond);
  CHECK(possible_share(result, 64e3, 0, 10 * kSecond, 60 * kSecond) > 0.9);
  CHECK(result.queue_share(0.5, 30 * kSecond, 60 * kSecond) < 1000);
}

TEST_CASE("start-up ends before it fills a deep buffer") {
  Result result = simulate(constant_path(100e6, 80'000, 10), {bbr()}, 3 * kSecond);
  CHECK(result.queue_share(1, 0, 3 * kSecond) < 250);
  CHECK(result.flows[0].overflowed == 0);
}

TEST_CASE("a rate that falls to a tenth leaves no standing queue") {
  PathSettings path;
  path.buffer_bits = 32e6;
  path.steps = {{0, 100e6, 30'000, 0, false, 0}, {8 * kSecond, 10e6, 30'000, 0, false, 0}};
  Result result = simulate(path, {bbr()}, 16 * kSecond);
  CHECK(result.flows[0].goodput(9 * kSecond, 16 * kSecond) > 0.93 * 10e6);
  CHECK(result.queue_share(0.95, 9 * kSecond, 16 * kSecond) < 120);
}

TEST_CASE("a rate that rises tenfold is found within two seconds") {
  PathSettings path;
  path.buffer_bits = 8e6;
  path.steps = {{0, 10e6, 30'000, 0, false, 0}, {8 * kSecond, 100e6, 30'000, 0, false, 0}};
  Result result = simulate(path, {bbr()}, 16 * kSecond);
  CHECK(result.flows[0].goodput(10 * kSecond, 16 * kSecond) > 0.92 * 100e6);
}

TEST_CASE("a path that becomes longer is no queue, one that becomes shorter no emptiness") {
  for (Micros delay : {50'000, 5'000}) {
    PathSettings path;
    path.buffer_bits = 8e6;
    path.steps = {{0, 100e6, 20'000, 0, false, 0}, {8 * kSecond, 100e6, delay, 0, false, 0}};
    Result result = simulate(path, {bbr()}, 20 * kSecond);
    CHECK(result.flows[0].goodput(9 * kSecond, 12 * kSecond) > 0.7 * 100e6);
    CHECK(result.flows[0].goodput(12 * kSecond, 20 * kSecond) > 0.94 * 100e6);
  }
}

TEST_CASE("an outage is over a second after it ended") {
  PathSettings path;
  path.buffer_bits = 8e6;
  path.steps = {{0, 50e6, 30'000, 0, false, 0}, {6 * kSecond, 50e6, 30'000, 0, true, 0}, {8 * kSecond, 50e6, 30'000, 0, false, 0}};
  Result result = simulate(path, {bbr()}, 14 * kSecond);
  CHECK(result.flows[0].goodput(9'500'000, 14 * kSecond) > 0.9 * 50e6);
}

TEST_CASE("an application that pauses finds its rate again at once") {
  FlowSettings flow = bbr();
  flow.busy = 2 * kSecond;
  flow.idle = 3 * kSecond;
  Result result = simulate(constant_path(100e6, 80'000, 1), {flow}, 20 * kSecond);
  // Of the third and fourth burst of two seconds, all but the first round trips.
  CHECK(result.flows[0].goodput(10 * kSecond, 20 * kSecond) > 0.35 * 100e6);
}

TEST_CASE("mobile links: 85% of what they offer, with less than 200 ms of queue") {
  for (bool up : {false, true}) {
    for (const char* name : {"lte-driving", "5g-driving"}) {
      CAPTURE(name);
      CAPTURE(up);
      PathSettings path = read_trace(std::string(TRACES_DIRECTORY) + "/" + name + ".trace", up);
      Micros length = 120 * kSecond;
      Result result = simulate(path, {bbr()}, length);
      double seconds = static_cast<double>(length - kCountedFrom) * 1e-6;
      CHECK(result.flows[0].goodput(kCountedFrom, length) * seconds > 0.85 * result.offered_bits(kCountedFrom, length));
      CHECK(result.queue_share(0.95, kCountedFrom, length) < 215);
    }
  }
}

TEST_CASE("two flows come to share, whenever they start") {
  for (double buffer : {1.0, 5.0}) {
    for (double loss : {0.0, 0.01}) {
      for (Micros start : {Micros{0}, 10 * kSecond}) {
        CAPTURE(buffer);
        CAPTURE(loss);
        CAPTURE(start);
        std::vector<FlowSettings> flows{bbr(1), bbr(2)};
        flows[1].start = start;
        Result result = simulate(constant_path(100e6, 80'000, buffer, loss), flows, start + 40 * kSecond);
        CHECK(fairness(result, start + 15 * kSecond, start + 40 * kSecond) > 0.95);
        double sum = result.flows[0].goodput(start, start + 40 * kSecond) + result.flows[1].goodput(start, start + 40 * kSecond);
        CHECK(sum > 0.9 * 100e6 * (1 - loss));
      }
    }
  }
}

TEST_CASE("a long round trip does not starve beside a short one, nor the other way round") {
  std::vector<FlowSettings> flows{bbr(1), bbr(2)};
  flows[1].extra_delay = 60'000;
  flows[1].start = 5 * kSecond;
  Result result = simulate(constant_path(100e6, 20'000, 4), flows, 60 * kSecond);
  for (const FlowResult& flow : result.flows) CHECK(flow.goodput(20 * kSecond, 60 * kSecond) > 0.2 * 100e6);
}

TEST_CASE("beside TCP neither starves") {
  for (bool cubic : {true, false}) {
    for (bool first : {true, false}) {
      CAPTURE(cubic);
      CAPTURE(first);
      FlowSettings other;
      if (cubic) other.control = [] { return std::make_unique<CubicCompetitor>(); };
      else other.control = [] { return std::make_unique<BbrOneCompetitor>(); };
      std::vector<FlowSettings> flows{bbr(), other};
      flows[first ? 1 : 0].start = 5 * kSecond;
      Result result = simulate(constant_path(50e6, 40'000, 1), flows, 65 * kSecond);
      CHECK(result.flows[0].goodput(15 * kSecond, 65 * kSecond) > 0.15 * 50e6);
      CHECK(result.flows[1].goodput(15 * kSecond, 65 * kSecond) > 0.15 * 50e6);
    }
  }
}

TEST_CASE("feedback in lumps, as of a plain UDT4 peer behind a hole, does not make it collapse") {
  BbrControl control({});
  Micros now = 0;
  int64_t delivered = 0;
  double rtt = 0.08;
  // 10,000 packets a second come out, but come to light once in 200 ms.
  for (int i = 0; i < 2000; ++i) {
    now += 10'000;
    Feedback feedback;
    feedback.now = now;
    feedback.rtt = static_cast<Micros>(rtt * 1e6) + (i > 500 ? 40'000 : 0);
    feedback.smoothed_rtt = feedback.rtt;
    if (i % 20 == 19) {
      feedback.newly_delivered = 2000;
      feedback.prior_delivered = delivered;
      delivered += feedback.newly_delivered;
      feedback.delivery_rate = 10'000;
      feedback.sample_interval = 200'000;
      feedback.sample_delivered = 2000;
    }
    feedback.delivered = delivered;
    feedback.in_flight = 1200;
    control.on_feedback(feedback);
  }
  CHECK(control.rate() > 5'000);
}

}  // namespace
}  // namespace longhaul::udt
