#include "background_control.hpp"

#include <algorithm>
#include <cmath>

namespace longhaul::udt {

namespace {
constexpr double kTarget = 0.030;  // seconds of queue; LEDBAT++ has 60 ms, RFC 6817 at most 100
constexpr double kSmallestTarget = 0.002;
constexpr double kInitialWindow = 4;
constexpr double kSmallestWindow = 2;
constexpr double kLossThreshold = 0.06;  // lost by chance: this share of a round, and what deviates
constexpr Micros kBaseHistory = 60'000'000;
constexpr Micros kRecent = 100'000;
constexpr double kSlowdownEvery = 9;  // times as long as a slowdown takes
constexpr double kPacingGain = 1.25;  // above window / round trip, so that the window governs
}  // namespace

BackgroundControl::BackgroundControl(const ControlSettings& settings)
    : ceiling_(settings.ceiling),
      window_(kInitialWindow),
      target_(kTarget),
      base_delay_(kBaseHistory),
      recent_delay_(kRecent),
      base_round_trip_(kBaseHistory),
      longest_queue_(kBaseHistory) {}

double BackgroundControl::rate() const {
  double rate = kPacingGain * window_ / std::max(round_trip_, 1e-4);
  return ceiling_ > 0 ? std::min(rate, ceiling_) : rate;
}

std::string_view BackgroundControl::state() const {
  switch (phase_) {
    case Phase::kSlowStart: return "slow-start";
    case Phase::kSlowdown: return "slowdown";
    default: return "steady";
  }
}

// LEDBAT++: slower than others where the base delay is short against the target.
double BackgroundControl::gain() const {
  double base = std::max(base_round_trip_.best(0, 1e5) * 1e-6, 1e-4);
  return 1 / std::min(16.0, std::ceil(2 * kTarget / base));
}

void BackgroundControl::observe_delay(const Feedback& feedback) {
  if (feedback.smoothed_rtt > 0) round_trip_ = static_cast<double>(feedback.smoothed_rtt) * 1e-6;
  if (feedback.rtt <= 0) return;
  base_round_trip_.update(feedback.now, static_cast<double>(feedback.rtt));
  double delay = static_cast<double>(feedback.forward_delay.value_or(feedback.rtt));
  base_delay_.update(feedback.now, delay);
  recent_delay_.set_window(std::clamp<Micros>(feedback.smoothed_rtt, 10'000, kRecent));
  recent_delay_.update(feedback.now, delay);
  queue_ = (recent_delay_.best(feedback.now, delay) - base_delay_.best(feedback.now, delay)) * 1e-6;
  longest_queue_.update(feedback.now, queue_);
}

void BackgroundControl::observe_loss(const Feedback& feedback, bool new_round) {
  round_lost_ += feedback.newly_lost;
  round_delivered_ += feedback.newly_delivered;
  if (feedback.newly_lost > 0 && !reduced_this_round_) {
    double longest = longest_queue_.best(feedback.now, 0);
    bool queued = queue_ > 0.001 && queue_ > 0.5 * longest;
    double expected = kLossThreshold * static_cast<double>(round_lost_ + round_delivered_);
    bool many = static_cast<double>(round_lost_) > expected + 3 * std::sqrt(expected) + 2;
    if (queued || many) {
      reduced_this_round_ = true;
      // A buffer that is shorter than the target would never show that others need it.
      if (queued) target_ = std::clamp(0.4 * longest, kSmallestTarget, kTarget);
      window_ = std::max(window_ / 2, kSmallestWindow);
      ssthresh_ = window_;
      if (phase_ == Phase::kSlowStart) {
        phase_ = Phase::kSteady;
        first_slow_start_ = false;
        if (slowdown_at_ == kNever) slowdown_at_ = feedback.now + 2 * feedback.smoothed_rtt;
      }
    }
  }
  if (new_round) {
    reduced_this_round_ = false;
    round_lost_ = 0;
    round_delivered_ = 0;
  }
}

void BackgroundControl::on_feedback(const Feedback& feedback) {
  bool new_round = rounds_.observe(feedback);
  observe_delay(feedback);
  observe_loss(feedback, new_round);
  was_limited_ = was_limited_ || feedback.application_limited;

  if (phase_ == Phase::kSlowdown) {
    if (feedback.now < slowdown_until_) return;
    phase_ = Phase::kSlowStart;
  }
  if (phase_ == Phase::kSlowStart) {
    if (!feedback.application_limited) window_ += gain() * static_cast<double>(feedback.newly_delivered);
    if (window_ >= ssthresh_ || (first_slow_start_ && queue_ > 0.75 * target_)) {
      phase_ = Phase::kSteady;
      first_slow_start_ = false;
      Micros slowdown = slowdown_since_ > 0 ? feedback.now - slowdown_since_ : 0;
      slowdown_at_ = feedback.now + std::max(static_cast<Micros>(kSlowdownEvery * static_cast<double>(slowdown)),
                                             2 * feedback.smoothed_rtt);
    }
    return;
  }
  if (feedback.now >= slowdown_at_) {
    ssthresh_ = window_;
    window_ = kSmallestWindow;
    target_ = std::min(kTarget, 1.2 * target_);
    phase_ = Phase::kSlowdown;
    slowdown_since_ = feedback.now;
    slowdown_until_ = feedback.now + 2 * feedback.smoothed_rtt;
    return;
  }
  if (new_round) on_round(feedback.now);
}

void BackgroundControl::on_round(Micros) {
  if (reduced_this_round_) return;
  double grown = was_limited_ ? 0 : gain();
  was_limited_ = false;
  // Below the target by additive increase, above it by a decrease in proportion, of half at most.
  double above = queue_ / target_ - 1;
  double change = above <= 0 ? grown * std::max(1.0, window_ / 64) * std::min(1.0, -4 * above)
                             : std::max(grown - window_ * above, -window_ / 2);
  window_ = std::max(window_ + change, kSmallestWindow);
}

void BackgroundControl::on_timeout(Micros) {
  window_ = std::max(window_ / 2, kSmallestWindow);
  ssthresh_ = std::min(ssthresh_, std::max(window_, kSmallestWindow));
}

}  // namespace longhaul::udt
