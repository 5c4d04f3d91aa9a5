#include "native_control.hpp"

#include <algorithm>
#include <cmath>

namespace longhaul::udt {

namespace {
constexpr Micros kSyn = 10'000;
constexpr double kSynSeconds = 0.01;
constexpr double kInitialWindow = 16;
constexpr double kDecrease = 1.125;
constexpr int64_t kDecreases = 5;
constexpr double kSmoothing = 0.125;
constexpr double kNakSmoothing = 0.03;
// The draft's constant: 1.5e-6 bytes a bit of spare capacity, over the packet's bytes.
constexpr double kIncrease = 1.5e-6;
constexpr Micros kBestRateHistory = 30'000'000;
constexpr double kHeadroom = 1.25;  // of the capacity over the best rate
constexpr double kShortestPeriod = 1e-7;
constexpr double kLongestPeriod = 1;
}  // namespace

NativeControl::NativeControl(const ControlSettings& settings)
    : random_(settings.seed), ceiling_(settings.ceiling), packet_bits_(settings.packet_bits), window_(kInitialWindow), best_rate_(kBestRateHistory) {
  period_ = round_trip_ / kInitialWindow;
}

double NativeControl::rate() const {
  double rate = 1 / period_;
  return ceiling_ > 0 ? std::min(rate, ceiling_) : rate;
}

void NativeControl::observe_receive_rate(const Feedback& feedback) {
  double told = feedback.peer_receive_rate;
  if (told <= 0) {
    // A peer that does not say: count what it acknowledges over a SYN or more.
    if (rate_since_ == 0) {
      rate_since_ = feedback.now;
      rate_delivered_ = feedback.delivered;
    }
    Micros elapsed = feedback.now - rate_since_;
    if (elapsed < std::max<Micros>(kSyn, feedback.smoothed_rtt / 4)) return;
    told = static_cast<double>(feedback.delivered - rate_delivered_) * 1e6 / static_cast<double>(elapsed);
    rate_since_ = feedback.now;
    rate_delivered_ = feedback.delivered;
    if (feedback.application_limited && told < receive_rate_) return;
  }
  receive_rate_ = receive_rate_ > 0 ? receive_rate_ + kSmoothing * (told - receive_rate_) : told;
  best_rate_.update(feedback.now, receive_rate_);
}

void NativeControl::on_feedback(const Feedback& feedback) {
  if (feedback.smoothed_rtt > 0) round_trip_ = static_cast<double>(feedback.smoothed_rtt) * 1e-6;
  observe_receive_rate(feedback);
  if (feedback.peer_capacity > 0) {
    capacity_ = capacity_ > 0 ? capacity_ + kSmoothing * (feedback.peer_capacity - capacity_) : feedback.peer_capacity;
  }
  rounds_.observe(feedback);
  if (feedback.newly_lost > 0) on_loss(feedback);
  if (slow_start_) {
    window_ += static_cast<double>(feedback.newly_delivered);
    period_ = std::max(round_trip_ / (1.25 * window_), kShortestPeriod);
    if (start_up_delay_.observe(rounds_.count(), feedback.rtt)) leave_slow_start();
    last_increase_ = feedback.now;
    return;
  }
  if (receive_rate_ > 0) window_ = receive_rate_ * (round_trip_ + kSynSeconds) + 16;
  if (feedback.now - last_increase_ > 100 * kSyn) last_increase_ = feedback.now - kSyn;  // idle: no credit for it
  while (feedback.now - last_increase_ >= kSyn) {
    last_increase_ += kSyn;
    if (!feedback.application_limited) increase(feedback.now);
  }
}

void NativeControl::leave_slow_start() {
  slow_start_ = false;
  period_ = receive_rate_ > 0 ? 1 / receive_rate_ : (round_trip_ + kSynSeconds) / window_;
  period_ = std::clamp(period_, kShortestPeriod, kLongestPeriod);
}

void NativeControl::increase(Micros now) {
  if (loss_before_increase_) {
    loss_before_increase_ = false;
    return;
  }
  double packet_bytes = packet_bits_ / 8;
  double capacity = capacity_ > 0 ? capacity_ : kHeadroom * best_rate_.best(now, 0);
  double spare = (capacity - 1 / period_) * packet_bits_;  // bits a second
  double smallest = 1 / packet_bytes;
  double packets = smallest;
  if (spare > 0) packets = std::max(std::pow(10, std::ceil(std::log10(spare))) * kIncrease / packet_bytes, smallest);
  period_ = std::max(period_ * kSynSeconds / (period_ * packets + kSynSeconds), kShortestPeriod);
}

void NativeControl::on_loss(const Feedback& feedback) {
  if (slow_start_) {
    leave_slow_start();
    period_end_ = feedback.next_new - 1;
    return;
  }
  loss_before_increase_ = true;
  if (feedback.largest_lost > period_end_) {
    period_ = std::min(period_ * kDecrease, kLongestPeriod);
    mean_naks_ += kNakSmoothing * (static_cast<double>(naks_) - mean_naks_);
    naks_ = 1;
    decreases_ = 1;
    period_end_ = feedback.next_new - 1;
    int64_t most = std::max<int64_t>(1, std::llround(mean_naks_));
    decrease_every_ = std::uniform_int_distribution<int64_t>(1, most)(random_);
    return;
  }
  ++naks_;
  if (decreases_ <= kDecreases && naks_ == decreases_ * decrease_every_) {
    period_ = std::min(period_ * kDecrease, kLongestPeriod);
    ++decreases_;
    period_end_ = feedback.next_new - 1;
  }
}

void NativeControl::on_timeout(Micros) {
  if (slow_start_) leave_slow_start();
  period_ = std::min(period_ * kDecrease, kLongestPeriod);
}

}  // namespace longhaul::udt
