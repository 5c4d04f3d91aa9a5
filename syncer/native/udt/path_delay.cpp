#include "path_delay.hpp"

#include <algorithm>
#include <cmath>

namespace longhaul::udt {

namespace {
constexpr Micros kShortestWindow = 10'000;
constexpr Micros kLongestWindow = 60'000;
constexpr double kSmoothing = 0.1;
}  // namespace

void PathDelay::observe(const Feedback& feedback) {
  if (feedback.rtt <= 0) return;
  Micros now = feedback.now;
  auto rtt = static_cast<double>(feedback.rtt);
  bool forward = feedback.forward_delay.has_value();
  if (forward != forward_) {
    base_.clear();  // another scale
    recent_.clear();
    forward_ = forward;
  }
  double delay = forward ? static_cast<double>(*feedback.forward_delay) : rtt;
  rtts_.update(now, rtt);
  base_.update(now, delay);
  Micros window = std::clamp<Micros>(feedback.smoothed_rtt / 2, kShortestWindow, kLongestWindow);
  recent_.set_window(window);
  recent_.update(now, delay);
  smallest_rtt_ = rtts_.best(now, rtt) * 1e-6;
  queue_ = std::max(0.0, recent_.best(now, delay) - base_.best(now, delay)) * 1e-6;
  if (now - look_at_ > 2 * window) {
    // Only falls count, twice: a queue that fills steadily is no noise.
    looks_ += 1;
    if (measured_) noise_ += std::max(kSmoothing, 1 / looks_) * (2 * std::max(0.0, look_ - queue_) - noise_);
    look_ = queue_;
    look_at_ = now;
  }
  measured_ = true;
}

void PathDelay::begin_anew() {
  rtts_.clear();
  base_.clear();
  recent_.clear();
  queue_ = 0;
  look_ = 0;
}

}  // namespace longhaul::udt
