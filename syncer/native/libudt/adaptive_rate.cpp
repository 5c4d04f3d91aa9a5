#include "adaptive_rate.hpp"

#include <algorithm>
#include <limits>

namespace longhaul {

namespace {
constexpr double kInitialWindow = 32;  // packets in the first round trip
constexpr int64_t kAssumedRttUs = 100'000;
constexpr int64_t kShortestRoundUs = 40'000;
constexpr int64_t kMinRttBucketUs = 30'000'000;
constexpr int64_t kOutageUs = 1'500'000;
constexpr double kStartGrowth = 1.6;
constexpr double kWorthGrowing = 1.15;
constexpr int kFlatRounds = 3;
constexpr unsigned kSamplesAtStart = 4;
constexpr std::size_t kRoundsRemembered = 10;
constexpr std::array<double, 8> kHoldGains{1.25, 0.8, 1, 1, 1, 1, 1, 1};
constexpr unsigned kProbeSeen = 2;  // the phase at whose end the faster round has arrived
constexpr double kShallowDrainGain = 0.75;
constexpr double kDeepDrainGain = 0.5;
constexpr int kDrainRounds = 8;
constexpr double kHeavyLoss = 0.2;
constexpr double kWindowRoundTrips = 6;  // a packet lost twice holds the acknowledgement for three round trips
constexpr double kSmallestWindow = 256;
}  // namespace

AdaptiveRate::AdaptiveRate(double floor, double ceiling)
    : floor_(floor), ceiling_(ceiling), base_(kInitialWindow * 1e6 / kAssumedRttUs) {}

void AdaptiveRate::set_limits(double floor, double ceiling) {
  floor_ = floor;
  ceiling_ = ceiling;
}

double AdaptiveRate::rate() const { return std::max(floor_, std::min(ceiling_, base_ * gain_)); }

double AdaptiveRate::window() const {
  const double round_trip_s = static_cast<double>((min_rtt_us() ? min_rtt_us() : kAssumedRttUs) + 20'000) / 1e6;
  return std::max(kSmallestWindow, kWindowRoundTrips * std::max(floor_, std::min(ceiling_, base_)) * round_trip_s);
}

int64_t AdaptiveRate::min_rtt_us() const {
  if (min_rtt_us_[1] == 0) return min_rtt_us_[0];
  return std::min(min_rtt_us_[0], min_rtt_us_[1]);
}

void AdaptiveRate::on_rtt(int64_t now_us, int64_t rtt_us) {
  smoothed_rtt_us_ = smoothed_rtt_us_ ? (smoothed_rtt_us_ * 7 + rtt_us) / 8 : rtt_us;
  recent_rtt_us_[recent_count_++ % recent_rtt_us_.size()] = rtt_us;
  if (now_us - min_rtt_since_us_ > kMinRttBucketUs || min_rtt_us_[0] == 0) {
    min_rtt_us_[1] = min_rtt_us_[0];
    min_rtt_us_[0] = rtt_us;
    min_rtt_since_us_ = now_us;
  }
  min_rtt_us_[0] = std::min(min_rtt_us_[0], rtt_us);
}

int64_t AdaptiveRate::fastest_of_last(unsigned samples) const {
  int64_t fastest = std::numeric_limits<int64_t>::max();
  for (unsigned back = 1; back <= samples; ++back) {
    fastest = std::min(fastest, recent_rtt_us_[(recent_count_ - back) % recent_rtt_us_.size()]);
  }
  return fastest;
}

bool AdaptiveRate::queue_built() const {
  // The fastest of the recent packets: jitter and a busy host delay some of them, a queue delays all. At the start the
  // rate grows so fast that fewer must do.
  // What the application leaves idle cannot queue: then others did it, or this host was busy.
  if (limited_by_application_) return false;
  const unsigned samples = state_ == State::kStart ? kSamplesAtStart : recent_rtt_us_.size();
  if (recent_count_ < samples) return false;
  const int64_t fastest = fastest_of_last(samples);
  const int64_t share = state_ == State::kStart ? 4 : 3;
  return fastest - min_rtt_us() > std::max<int64_t>(min_rtt_us() / share, 15'000);
}

void AdaptiveRate::on_feedback(const Feedback& feedback) {
  if (seen_ && feedback.now_us - last_feedback_us_ > std::max(kOutageUs, 5 * smoothed_rtt_us_) &&
      feedback.sent_packets - round_.sent_packets > static_cast<int64_t>(kInitialWindow)) {
    restart();
  }
  last_feedback_us_ = feedback.now_us;
  if (feedback.rtt_us > 0) on_rtt(feedback.now_us, feedback.rtt_us);
  if (!seen_) {
    seen_ = true;
    open_round(feedback);
    before_ = feedback;
    base_ = std::max(base_, kInitialWindow * 1e6 / static_cast<double>(std::max(feedback.rtt_us, kShortestRoundUs)));
    return;
  }
  if (state_ == State::kStart && queue_built() && delivered_ > 0) {
    enter_drain();
    open_round(feedback);
    return;
  }
  if (feedback.now_us - round_.now_us >= std::max(min_rtt_us(), kShortestRoundUs)) on_round(feedback);
}

void AdaptiveRate::open_round(const Feedback& start) {
  before_ = round_;
  round_ = start;
}

void AdaptiveRate::on_round(const Feedback& end) {
  const double seconds = static_cast<double>(end.now_us - round_.now_us) / 1e6;
  sent_rate_before_ = sent_rate_;
  sent_rate_ = static_cast<double>(end.sent_packets - round_.sent_packets) / seconds;
  const double receiver_seconds = static_cast<double>(end.receiver_us - before_.receiver_us) / 1e6;
  const double arrived = static_cast<double>(end.arrived_packets - before_.arrived_packets);
  if (receiver_seconds > 0 && before_.receiver_us) delivered_ = arrived / receiver_seconds;
  const double round_seconds = static_cast<double>(end.receiver_us - round_.receiver_us) / 1e6;
  if (round_seconds > 0) {
    delivered_in_round_ = static_cast<double>(end.arrived_packets - round_.arrived_packets) / round_seconds;
  }
  limited_by_application_ = sent_rate_ < 0.8 * rate();
  if (sent_rate_before_ > 0 && !limited_by_application_) {
    const double lost = std::clamp(1 - delivered_ / sent_rate_before_, 0.0, 1.0);
    loss_ += (lost - loss_) / 8;
  }
  switch (state_) {
    case State::kStart: start_round(); break;
    case State::kDrain: drain_round(end.now_us); break;
    case State::kHold: hold_round(); break;
  }
  open_round(end);
}

void AdaptiveRate::start_round() {
  if (limited_by_application_) return;
  if (delivered_ > best_in_start_ * kWorthGrowing) {
    best_in_start_ = delivered_;
    flat_rounds_ = 0;
  } else {
    ++flat_rounds_;
  }
  if (flat_rounds_ >= kFlatRounds || base_ >= ceiling_) {
    enter_drain();
    return;
  }
  base_ *= kStartGrowth;
}

void AdaptiveRate::enter_drain() {
  state_ = State::kDrain;
  rate_before_drain_ = std::max(delivered_, floor_);
  base_ = rate_before_drain_;
  drain_rounds_ = 0;
  queue_before_drain_us_ = smoothed_rtt_us_ - min_rtt_us();
  gain_ = queue_before_drain_us_ > min_rtt_us() ? kDeepDrainGain : kShallowDrainGain;
  samples_.clear();
}

void AdaptiveRate::drain_round(int64_t now_us) {
  if (drain_rounds_++ == 0) drain_since_us_ = now_us;
  // What was sent before the drain still adds to the queue for a round trip; half the rate then empties it in twice
  // the time that it stands for.
  queue_before_drain_us_ = std::max(queue_before_drain_us_, smoothed_rtt_us_ - min_rtt_us());
  const int64_t deadline_us = drain_since_us_ + 4 * queue_before_drain_us_;
  // While the queue empties the receiver still sees the bottleneck's own rate, and in the first two rounds what was
  // sent before: a host that was busy for a moment now catches up.
  if (queue_built() || drain_rounds_ <= 2) rate_before_drain_ = std::max(rate_before_drain_, delivered_);
  if (queue_built() && (drain_rounds_ < kDrainRounds || now_us < deadline_us)) return;
  if (queue_built() && smoothed_rtt_us_ - min_rtt_us() > queue_before_drain_us_ * 3 / 4) {
    // Sending less did not help: the path itself became longer, or others fill its queue.
    min_rtt_us_ = {fastest_of_last(recent_rtt_us_.size()), 0};
  }
  state_ = State::kHold;
  samples_.assign(1, rate_before_drain_);
  base_ = rate_before_drain_;
  gain_ = 1.0;
  phase_ = kProbeSeen;
}

void AdaptiveRate::hold_round() {
  if (!limited_by_application_ || delivered_ > best()) {
    samples_.push_back(delivered_);
    if (samples_.size() > kRoundsRemembered) samples_.pop_front();
  }
  lossy_rounds_ = loss_ > kHeavyLoss && !limited_by_application_ ? lossy_rounds_ + 1 : 0;
  if (lossy_rounds_ >= 3) {
    samples_.assign(1, delivered_);
    lossy_rounds_ = 0;
  }
  if (queue_built()) {
    enter_drain();
    return;
  }
  if (phase_ % kHoldGains.size() == kProbeSeen && delivered_in_round_ > base_ * kWorthGrowing) {
    // All that the faster round sent came through at once: there may be much more room.
    state_ = State::kStart;
    best_in_start_ = base_ = delivered_in_round_;
    gain_ = 1.0;
    flat_rounds_ = 0;
    return;
  }
  base_ = std::max(best(), floor_);
  gain_ = kHoldGains[phase_++ % kHoldGains.size()];
}

void AdaptiveRate::restart() {
  state_ = State::kStart;
  base_ = std::max(floor_, base_ / 2);
  gain_ = 1.0;
  best_in_start_ = 0;
  flat_rounds_ = 0;
  delivered_ = 0;
  recent_count_ = 0;
  samples_.clear();
  min_rtt_us_ = {0, 0};
  seen_ = false;
  sent_rate_ = 0;
}

double AdaptiveRate::best() const {
  return samples_.empty() ? base_ : *std::max_element(samples_.begin(), samples_.end());
}

}  // namespace longhaul
