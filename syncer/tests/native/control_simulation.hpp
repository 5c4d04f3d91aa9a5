// Flows under congestion control over one simulated bottleneck, packet by packet, deterministic and without a connection:
// what is tested is a law's decisions alone. Loss recovery is ideal: a receiver reports exactly what arrived.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <queue>
#include <random>
#include <string>
#include <vector>

#include "congestion.hpp"

namespace longhaul::udt::simulation {

using Nanos = int64_t;

constexpr double kPacketBits = 1514 * 8;
constexpr double kPayloadBits = 1456 * 8;

struct PathStep {
  Micros at = 0;
  double bits_per_second = 100e6;
  Micros delay = 40'000;  // one way; the way back has the same
  Micros jitter = 0;      // +- of the way there
  bool blocked = false;   // all is lost
  double loss = 0;        // by chance, beside the path's own
};

struct PathSettings {
  std::vector<PathStep> steps{PathStep{}};
  Micros period = 0;           // the steps repeat after this; 0: the last one holds
  double buffer_bits = 8e6;
  double loss = 0;             // by chance, after the bottleneck
  double burst_begin = 0;      // Gilbert-Elliott: a packet's chance that a burst begins, and that it ends
  double burst_end = 0;
  double burst_loss = 0;
  bool reorder = false;        // jitter of each packet for itself; else it wanders over 5 ms and keeps the order
  bool loss_first = false;     // lost before the bottleneck: what is lost takes nothing of the link
  uint64_t seed = 1;
};

struct FlowSettings {
  std::function<std::unique_ptr<CongestionControl>()> control;
  Micros start = 0;
  Micros stop = kNever;
  Micros extra_delay = 0;       // added to the way back
  Micros busy = 0;              // the application sends for `busy`, pauses for `idle`; 0: always
  Micros idle = 0;
  double stalls_per_second = 0; // the sender's host stands still for 5 to 10 ms
  double back_jitter = 0;       // microseconds: reports come late by up to this
};

struct FlowResult {
  std::vector<double> delivered_bits;  // payload, first arrivals, in bins of 100 ms
  int64_t sent = 0;
  int64_t lost = 0;
  int64_t overflowed = 0;
  double goodput(Micros from, Micros to) const;  // bits a second
};

struct Sample {
  Micros at;
  double queue;  // microseconds of the bottleneck's queue that a packet found
};

struct Result {
  std::vector<FlowResult> flows;
  std::vector<Sample> queue;  // thinned out: one a millisecond at most
  double offered_bits(Micros from, Micros to) const;
  double queue_share(double share, Micros from, Micros to) const;  // quantile, in milliseconds
  PathSettings path;
};

PathStep step_at(const PathSettings& path, Nanos at);

using Observer = std::function<void(Micros now, size_t flow, const CongestionControl&, const Feedback&)>;
Result simulate(const PathSettings& path, const std::vector<FlowSettings>& flows, Micros duration,
                const Observer& observer = {});

// Jain's index of the flows' goodputs.
double fairness(const Result& result, Micros from, Micros to);

FlowSettings flow_of(ControlKind kind, double rate = 0, double ceiling = 0, uint64_t seed = 1);
PathSettings constant_path(double bits_per_second, Micros round_trip, double buffer_bdp, double loss = 0);

}  // namespace longhaul::udt::simulation
