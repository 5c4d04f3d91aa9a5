// One direction of a network path in virtual time: a bottleneck with a queue, then a delay, with all that goes wrong.
// Deterministic: the same seed and the same packets give the same losses.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <queue>
#include <random>
#include <span>
#include <vector>

#include "numbers.hpp"

namespace longhaul::udt::virtual_time {

constexpr size_t kOverhead = 14 + 20 + 8;  // bytes of Ethernet, IPv4 and UDP headers on each datagram

struct Outage {
  Micros from = 0;
  Micros to = 0;  // everything that is sent in between is lost
};

struct LinkModel {
  double rate_bps = 100e6;       // with headers, as a shaper counts
  Micros delay = 40'000;         // one way, without queueing
  size_t buffer_bytes = 500'000;  // of the queue; a packet that does not fit is lost
  Micros jitter = 0;             // uniform, added to the delay
  bool reordering = false;       // jitter may let packets overtake
  double loss = 0;               // share of packets, behind the queue
  double burst = 1;              // packets: mean length of a burst of losses (Gilbert-Elliott); 1: independent losses
  double duplication = 0;        // share of packets that come twice
  std::vector<Outage> outages;
};

struct Parcel {
  Micros arrives_at = 0;
  uint64_t order = 0;  // breaks ties
  size_t flow = 0;
  std::vector<uint8_t> bytes;
};

class SimulatedLink {
 public:
  SimulatedLink(const LinkModel& model, uint64_t seed);

  // Says of a datagram whether it is lost, beside what the model does; for tests that need a certain loss.
  std::function<bool(std::span<const uint8_t> datagram, Micros now)> drop;

  void send(size_t flow, std::span<const uint8_t> datagram, Micros now);
  Micros next_arrival() const { return under_way_.empty() ? kNever : under_way_.top().arrives_at; }
  // The next parcel; only when next_arrival() has come. Give its memory back with `recycle`.
  Parcel take();
  void recycle(Parcel&& parcel) { spare_.push_back(std::move(parcel.bytes)); }

  void set_rate(double bits_per_second) { model_.rate_bps = bits_per_second; }
  const LinkModel& model() const { return model_; }

  // Counts of datagrams.
  int64_t offered = 0;
  int64_t lost = 0;        // by chance, outage or `drop`
  int64_t overflowed = 0;  // no room in the queue
  int64_t carried_bytes = 0;
  std::vector<uint32_t> queueing_us;  // of each datagram that was carried

 private:
  struct Later {
    bool operator()(const Parcel& one, const Parcel& other) const {
      return one.arrives_at != other.arrives_at ? one.arrives_at > other.arrives_at : one.order > other.order;
    }
  };

  bool chance(double probability) { return probability > 0 && unit_(random_) < probability; }
  bool is_lost(std::span<const uint8_t> datagram, Micros now);
  void deliver(size_t flow, std::span<const uint8_t> datagram, Micros leaves_at);

  LinkModel model_;
  std::mt19937_64 random_;
  std::uniform_real_distribution<double> unit_{0, 1};
  std::priority_queue<Parcel, std::vector<Parcel>, Later> under_way_;
  std::vector<std::vector<uint8_t>> spare_;
  double free_at_ = 0;  // when the bottleneck has sent all that is queued
  Micros last_arrival_ = 0;
  uint64_t order_ = 0;
  bool in_burst_ = false;
};

}  // namespace longhaul::udt::virtual_time
