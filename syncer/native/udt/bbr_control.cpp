#include "bbr_control.hpp"

#include <algorithm>
#include <cmath>

namespace longhaul::udt {

namespace {
constexpr double kInitialWindow = 32;
constexpr double kStartUpGain = 2.77;
constexpr double kDrainGain = 0.5;
constexpr double kSlowest = 1;  // packets a second
constexpr double kSmallestWindow = 4;
constexpr Micros kBaseHistory = 10'000'000;
}  // namespace

BbrControl::BbrControl(const ControlSettings& settings)
    : ceiling_(settings.ceiling),
      packet_bits_(settings.packet_bits),
      bandwidth_(kInitialWindow / 0.1),
      gain_(kStartUpGain),
      rates_(4),
      rtts_(kBaseHistory),
      base_delay_(kBaseHistory),
      recent_delay_(20'000) {}

double BbrControl::rate() const {
  double rate = std::max(gain_ * bandwidth_, kSlowest);
  return ceiling_ > 0 ? std::min(rate, ceiling_) : rate;
}

double BbrControl::window() const {
  double round_trip = smallest_rtt_ + 0.02;
  return std::max(phase_ == Phase::kStartUp ? kInitialWindow : kSmallestWindow, 2 * bandwidth_ * round_trip);
}

std::string_view BbrControl::state() const {
  switch (phase_) {
    case Phase::kStartUp: return "start-up";
    case Phase::kDrain: return "drain";
    default: return "cruise";
  }
}

double BbrControl::target_queue() const { return 0.5 / std::sqrt(std::max(bandwidth_, 10.0)); }

void BbrControl::observe_delay(const Feedback& feedback) {
  if (feedback.rtt <= 0) return;
  rtts_.update(feedback.now, static_cast<double>(feedback.rtt));
  smallest_rtt_ = rtts_.best(feedback.now, static_cast<double>(feedback.rtt)) * 1e-6;
  double delay = static_cast<double>(feedback.forward_delay.value_or(feedback.rtt));
  base_delay_.update(feedback.now, delay);
  recent_delay_.set_window(std::clamp<Micros>(feedback.smoothed_rtt / 2, 10'000, 60'000));
  recent_delay_.update(feedback.now, delay);
  queue_ = (recent_delay_.best(feedback.now, delay) - base_delay_.best(feedback.now, delay)) * 1e-6;
}

void BbrControl::observe_rate(const Feedback& feedback, bool) {
  if (feedback.delivery_rate <= 0) return;
  if (feedback.sample_interval < static_cast<Micros>(smallest_rtt_ * 0.9e6)) return;
  double rate = feedback.delivery_rate;
  double sent = static_cast<double>(feedback.sample_delivered + feedback.sample_lost);
  if (sent > 0) rate *= sent / std::max<double>(1, static_cast<double>(feedback.sample_delivered));
  rate = std::min(rate, 1.2 * feedback.delivery_rate);
  if (feedback.application_limited && rate < bandwidth_) return;
  rates_.update(rounds_.count(), rate);
  bandwidth_ = rates_.best(rounds_.count(), rate);
  measured_ = true;
}

void BbrControl::start_up(const Feedback& feedback, bool new_round) {
  bool full = start_up_delay_.observe(rounds_.count(), feedback.rtt);
  if (new_round && !feedback.application_limited) {
    if (bandwidth_ > 1.25 * plateau_) {
      plateau_ = bandwidth_;
      plateau_rounds_ = 0;
    } else if (++plateau_rounds_ >= 3) {
      full = true;
    }
  }
  if (full) phase_ = Phase::kDrain;
}

void BbrControl::on_feedback(const Feedback& feedback) {
  bool new_round = rounds_.observe(feedback);
  observe_delay(feedback);
  observe_rate(feedback, new_round);
  if (phase_ == Phase::kStartUp) start_up(feedback, new_round);
  if (phase_ == Phase::kDrain && queue_ <= target_queue()) phase_ = Phase::kCruise;
  switch (phase_) {
    case Phase::kStartUp: gain_ = kStartUpGain; break;
    case Phase::kDrain: gain_ = kDrainGain; break;
    case Phase::kCruise:
      gain_ = std::clamp(1 + 0.4 * (target_queue() - queue_) / (smallest_rtt_ + 0.015), 0.75, 1.1);
      break;
  }
}

void BbrControl::on_timeout(Micros) {
  bandwidth_ = std::max(bandwidth_ / 2, kSlowest);
  rates_.clear();
}

}  // namespace longhaul::udt
