#include "congestion.hpp"

#include <doctest/doctest.h>

#include <memory>
#include <string>

#include "control_simulation.hpp"
#include "loss_share.hpp"
#include "path_delay.hpp"
#include "start_up_delay.hpp"
#include "windowed_filter.hpp"

// The laws but bbr, and the parts they are made of.
namespace longhaul::udt {
namespace {

using namespace simulation;

constexpr Micros kSecond = 1'000'000;

double share(const Result& result, double rate, Micros from, Micros to) {
  return result.flows[0].goodput(from, to) / (rate * kPayloadBits / kPacketBits);
}

TEST_CASE("a windowed maximum forgets what is older than its window") {
  WindowedMax largest(100);
  largest.update(0, 5);
  largest.update(50, 3);
  CHECK(largest.best(60, 0) == 5);
  CHECK(largest.best(100, 0) == 5);
  CHECK(largest.best(130, 0) == 3);
  CHECK(largest.best(400, -1) == -1);
  largest.update(401, 2);
  CHECK(largest.best(401, 0) == 2);
  largest.clear();
  CHECK(largest.best(401, 7) == 7);
}

TEST_CASE("a windowed minimum keeps the smallest of each part of its window") {
  WindowedMin smallest(1000);
  for (int64_t at = 0; at < 1000; at += 10) smallest.update(at, at == 500 ? 1 : 10);
  CHECK(smallest.best(1000, 0) == 1);
  CHECK(smallest.best(1480, 0) == 1);
  CHECK(smallest.best(1700, 0) == 10);
}

TEST_CASE("start-up's delay grows by a round's smallest, not by single samples") {
  StartUpDelay delay;
  for (int64_t round = 1; round < 4; ++round) {
    for (int sample = 0; sample < 10; ++sample) CHECK_FALSE(delay.observe(round, sample == 5 ? 90'000 : 80'000));
  }
  bool found = false;
  for (int sample = 0; sample < 10; ++sample) found = delay.observe(4, 91'000) || found;
  CHECK(found);
}

TEST_CASE("losses beyond those of the drained path are excess") {
  LossShare losses;
  losses.begin_quiet();
  losses.observe(1980, 20, true);
  CHECK(losses.chance() > 0.01);
  CHECK(losses.chance() < 0.03);
  losses.begin_judging();
  losses.observe(990, 10, false);
  CHECK_FALSE(losses.excess());
  losses.observe(900, 100, false);
  CHECK(losses.excess());
}

TEST_CASE("jitter is noise, a queue that builds up is none") {
  PathDelay jittery(10 * kSecond), filling(10 * kSecond);
  for (int i = 0; i < 400; ++i) {
    Feedback feedback;
    feedback.now = 10'000 * (i + 1);
    feedback.smoothed_rtt = 20'000;
    feedback.rtt = 80'000 + (i / 4 % 2) * 10'000;
    jittery.observe(feedback);
    feedback.rtt = 80'000 + i * 100;
    filling.observe(feedback);
  }
  CHECK(jittery.smallest_rtt() == doctest::Approx(0.08));
  CHECK(jittery.noise() > 0.003);
  CHECK(filling.noise() < 0.0005);
  CHECK(filling.queue() > 0.03);
  filling.begin_anew();
  CHECK(filling.queue() == 0);
}

TEST_CASE("each law says its name, and its rate and window are never nothing") {
  for (ControlKind kind : {ControlKind::kNative, ControlKind::kFixed, ControlKind::kBbr, ControlKind::kBackground}) {
    auto control = make_control({.kind = kind});
    CAPTURE(std::string(control->name()));
    CHECK(control->rate() > 0);
    CHECK(control->window() >= 2);
    CHECK_FALSE(control->state().empty());
    for (int i = 0; i < 50; ++i) {
      control->on_timeout(i * kSecond);
      CHECK(control->rate() > 0);
      CHECK(control->window() >= 2);
    }
    Feedback empty;
    empty.now = 60 * kSecond;
    control->on_feedback(empty);
    CHECK(control->rate() > 0);
    CHECK(control->window() >= 2);
  }
}

TEST_CASE("no law's rate exceeds its ceiling, and a ceiling can be lifted") {
  for (ControlKind kind : {ControlKind::kNative, ControlKind::kFixed, ControlKind::kBbr, ControlKind::kBackground}) {
    double ceiling = 40e6 / kPacketBits;
    double highest = 0;
    std::string name;
    Result result = simulate(constant_path(100e6, 40'000, 1), {flow_of(kind, 200e6 / kPacketBits, ceiling)}, 8 * kSecond,
                             [&](Micros, size_t, const CongestionControl& control, const Feedback&) {
                               highest = std::max(highest, control.rate());
                               name = control.name();
                             });
    CAPTURE(name);
    CHECK(highest <= ceiling);
    CHECK(result.flows[0].overflowed == 0);
    auto control = make_control({.kind = kind, .rate = 1e4, .ceiling = 100});
    CHECK(control->rate() <= 100);
    control->set_ceiling(10);
    CHECK(control->rate() == 10);
    control->set_ceiling(0);
    CHECK(control->rate() > 10);
  }
}

TEST_CASE("fixed sends at its rate, whatever is lost") {
  for (double loss : {0.0, 0.01, 0.1}) {
    double rate = 190e6;
    Result result = simulate(constant_path(200e6, 200'000, 1, loss), {flow_of(ControlKind::kFixed, rate / kPacketBits)}, 10 * kSecond);
    CHECK(share(result, rate, 2 * kSecond, 10 * kSecond) == doctest::Approx(1 - loss).epsilon(0.01));
  }
}

TEST_CASE("native fills a clean path, and start-up does not overfill it") {
  Result result = simulate(constant_path(100e6, 80'000, 1), {flow_of(ControlKind::kNative)}, 30 * kSecond);
  CHECK(share(result, 100e6, 10 * kSecond, 30 * kSecond) > 0.8);
  CHECK(result.queue_share(0.95, 0, 2 * kSecond) < 60);
  CHECK(static_cast<double>(result.flows[0].overflowed) < 0.02 * static_cast<double>(result.flows[0].sent));
}

TEST_CASE("two native flows share") {
  std::vector<FlowSettings> flows{flow_of(ControlKind::kNative, 0, 0, 1), flow_of(ControlKind::kNative, 0, 0, 2)};
  Result result = simulate(constant_path(50e6, 40'000, 1), flows, 60 * kSecond);
  CHECK(fairness(result, 20 * kSecond, 60 * kSecond) > 0.8);
}

}  // namespace
}  // namespace longhaul::udt
