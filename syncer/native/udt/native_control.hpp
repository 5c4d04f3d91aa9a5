// `native`: the default congestion control of draft-gg-udt-03, section 6: additive increase by the estimated spare
// capacity every SYN, multiplicative decrease of the rate on a new loss, and a window of what the receiver takes in.
//
// Departures. Slow start is paced, and ends also when the round trip's delay grows (RFC 9406), since the draft's would
// fill the bottleneck's queue up to the flow window. The capacity of a peer that does not tell it (packet pairs mean little
// on such paths) is taken for somewhat more than the best rate of late.
#pragma once

#include <random>

#include "congestion.hpp"
#include "round_trips.hpp"
#include "start_up_delay.hpp"
#include "windowed_filter.hpp"

namespace longhaul::udt {

class NativeControl final : public CongestionControl {
 public:
  explicit NativeControl(const ControlSettings& settings);

  void on_feedback(const Feedback& feedback) override;
  void on_timeout(Micros now) override;
  void set_ceiling(double packets_per_second) override { ceiling_ = packets_per_second; }

  double rate() const override;
  double window() const override { return window_; }
  std::string_view name() const override { return "native"; }
  std::string_view state() const override { return slow_start_ ? "slow-start" : "avoidance"; }

 private:
  void observe_receive_rate(const Feedback& feedback);
  void on_loss(const Feedback& feedback);
  void leave_slow_start();
  void increase(Micros now);

  std::mt19937_64 random_;
  double ceiling_;
  double packet_bits_;
  bool slow_start_ = true;
  bool loss_before_increase_ = false;
  double period_;       // seconds between two packets
  double window_;       // packets
  double round_trip_ = 0.1;  // seconds
  double receive_rate_ = 0;  // packets a second, smoothed
  double capacity_ = 0;      // packets a second, smoothed, as told
  WindowedMax best_rate_;    // received, lately
  Micros last_increase_ = 0;
  Micros rate_since_ = 0;
  int64_t rate_delivered_ = 0;

  // The decrease of the draft: at most kDecreases in one congestion period, at random places among its NAKs.
  PacketNumber period_end_ = -1;  // the last packet sent before the newest decrease
  double mean_naks_ = 1;
  int64_t naks_ = 1;
  int64_t decreases_ = 1;
  int64_t decrease_every_ = 1;

  RoundTrips rounds_;
  StartUpDelay start_up_delay_;
};

}  // namespace longhaul::udt
