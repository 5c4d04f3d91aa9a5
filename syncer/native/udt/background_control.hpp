// `background`: takes what nobody else wants. LEDBAT (RFC 6817) on the one-way delay, with LEDBAT++'s modified slow start,
// multiplicative decrease and periodic slowdown (draft-irtf-iccrg-ledbat-plus-plus), so that its own queue is not taken
// for the path's delay and two of them share.
//
// A loss halves the window only when the queue is long for this path: on a long lossy path LEDBAT would else carry nothing.
#pragma once

#include "congestion.hpp"
#include "round_trips.hpp"
#include "windowed_filter.hpp"

namespace longhaul::udt {

class BackgroundControl final : public CongestionControl {
 public:
  explicit BackgroundControl(const ControlSettings& settings);

  void on_feedback(const Feedback& feedback) override;
  void on_timeout(Micros now) override;
  void set_ceiling(double packets_per_second) override { ceiling_ = packets_per_second; }

  double rate() const override;
  double window() const override { return window_; }
  std::string_view name() const override { return "background"; }
  std::string_view state() const override;

 private:
  enum class Phase { kSlowStart, kSteady, kSlowdown };

  void observe_delay(const Feedback& feedback);
  void observe_loss(const Feedback& feedback, bool new_round);
  void on_round(Micros now);
  double gain() const;

  double ceiling_;
  Phase phase_ = Phase::kSlowStart;
  bool first_slow_start_ = true;
  double window_;            // packets
  double target_;            // seconds of queue
  double ssthresh_ = 1e12;   // packets
  double round_trip_ = 0.1;  // seconds, smoothed
  double queue_ = 0;         // seconds
  Micros slowdown_at_ = kNever;
  Micros slowdown_since_ = 0;
  Micros slowdown_until_ = 0;

  WindowedMin base_delay_;
  WindowedMin recent_delay_;
  WindowedMin base_round_trip_;
  WindowedMax longest_queue_;
  RoundTrips rounds_;
  int64_t round_lost_ = 0;
  int64_t round_delivered_ = 0;
  bool reduced_this_round_ = false;
  bool was_limited_ = false;  // by the application, in this round
};

}  // namespace longhaul::udt
