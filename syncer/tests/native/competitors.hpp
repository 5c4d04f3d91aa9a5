// What a connection of ours meets on the Internet, simplified: TCP cubic and BBR version 1.
#pragma once

#include <algorithm>
#include <cmath>

#include "congestion.hpp"
#include "round_trips.hpp"
#include "windowed_filter.hpp"

namespace longhaul::udt::simulation {

// Cubic (RFC 9438) with HyStart left out, its TCP-friendly region kept, paced at 1.2 windows a round trip as Linux does.
class CubicCompetitor final : public CongestionControl {
 public:
  void on_feedback(const Feedback& feedback) override {
    now_ = feedback.now;
    rtt_ = static_cast<double>(std::max<Micros>(feedback.smoothed_rtt, 1)) * 1e-6;
    if (feedback.newly_lost > 0 && feedback.largest_lost >= recover_) {
      recover_ = feedback.next_new;
      largest_ = window_ < largest_ ? window_ * (1 + kBeta) / 2 : window_;
      window_ = std::max(window_ * kBeta, 2.0);
      threshold_ = window_;
      reno_ = window_;
      epoch_ = feedback.now;
      return;
    }
    double delivered = static_cast<double>(feedback.newly_delivered);
    if (window_ < threshold_) {
      window_ += delivered;
      return;
    }
    double elapsed = static_cast<double>(feedback.now - epoch_) * 1e-6 + rtt_;
    double k = std::cbrt(largest_ * (1 - kBeta) / kC);
    double target = std::min(kC * std::pow(elapsed - k, 3) + largest_, 1.5 * window_);
    reno_ += 3 * (1 - kBeta) / (1 + kBeta) * delivered / window_;
    if (target > window_) window_ += (target - window_) / window_ * delivered;
    window_ = std::max(window_, reno_);
  }
  void on_timeout(Micros) override {
    threshold_ = std::max(window_ / 2, 2.0);
    window_ = 2;
  }
  void set_ceiling(double) override {}
  double rate() const override { return (window_ < threshold_ ? 2 : 1.2) * window_ / rtt_; }
  double window() const override { return std::max(window_, 2.0); }
  std::string_view name() const override { return "cubic"; }
  std::string_view state() const override { return window_ < threshold_ ? "slow-start" : "avoidance"; }

 private:
  static constexpr double kBeta = 0.7, kC = 0.4;
  double window_ = 10, threshold_ = 1e9, largest_ = 0, reno_ = 10, rtt_ = 0.1;
  PacketNumber recover_ = 0;
  Micros epoch_ = 0, now_ = 0;
};

// BBR version 1 as first published: gain cycle, 2 BDP of window, PROBE_RTT of 4 packets.
class BbrOneCompetitor final : public CongestionControl {
 public:
  void on_feedback(const Feedback& feedback) override {
    bool round = rounds_.observe(feedback);
    Micros now = feedback.now;
    if (feedback.rtt > 0 && (feedback.rtt <= smallest_ || now - smallest_at_ > 10'000'000)) {
      if (feedback.rtt > smallest_ && phase_ != kProbeRtt) {
        phase_ = kProbeRtt;
        until_ = now + 200'000 + feedback.rtt;
      }
      smallest_ = feedback.rtt;
      smallest_at_ = now;
    }
    if (feedback.delivery_rate > 0) rates_.update(rounds_.count(), feedback.delivery_rate);
    rate_ = rates_.best(rounds_.count(), rate_);
    if (phase_ == kStartUp && round) {
      if (rate_ > plateau_ * 1.25) {
        plateau_ = rate_;
        flat_ = 0;
      } else if (++flat_ >= 3) {
        phase_ = kDrain;
      }
    }
    double bdp = rate_ * static_cast<double>(smallest_) * 1e-6;
    if (phase_ == kDrain && static_cast<double>(feedback.in_flight) <= bdp) begin_cycle(now);
    if (phase_ == kProbeRtt && now > until_) {
      if (flat_ >= 3) begin_cycle(now);
      else phase_ = kStartUp;
    }
    if (phase_ == kCycle) {
      bool over = now - since_ > smallest_;
      if (place_ == 0) over = over && (static_cast<double>(feedback.in_flight) >= 1.25 * bdp || feedback.newly_lost > 0);
      if (place_ == 1) over = over || static_cast<double>(feedback.in_flight) <= bdp;
      if (over) {
        place_ = (place_ + 1) % 8;
        since_ = now;
      }
    }
  }
  void on_timeout(Micros) override {}
  void set_ceiling(double) override {}
  double rate() const override {
    double gain = phase_ == kStartUp ? 2.89 : phase_ == kDrain ? 0.35 : place_ == 0 ? 1.25 : place_ == 1 ? 0.75 : 1;
    return std::max(gain * rate_, 1.0);
  }
  double window() const override {
    if (phase_ == kProbeRtt) return 4;
    double bdp = rate_ * static_cast<double>(std::min<Micros>(smallest_, 10'000'000)) * 1e-6;
    return std::max(32.0, (phase_ == kStartUp ? 2.89 : 2) * bdp + 3 + rate_ * 0.005);
  }
  std::string_view name() const override { return "bbr1"; }
  std::string_view state() const override { return phase_ == kProbeRtt ? "probe-rtt" : "bandwidth"; }

 private:
  enum Phase { kStartUp, kDrain, kCycle, kProbeRtt };
  void begin_cycle(Micros now) {
    phase_ = kCycle;
    place_ = 2;
    since_ = now;
  }
  Phase phase_ = kStartUp;
  RoundTrips rounds_;
  WindowedMax rates_{10};
  double rate_ = 320, plateau_ = 0;
  int flat_ = 0, place_ = 0;
  Micros smallest_ = kNever, smallest_at_ = 0, since_ = 0, until_ = 0;
};

}  // namespace longhaul::udt::simulation
