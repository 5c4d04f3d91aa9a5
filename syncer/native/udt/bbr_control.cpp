#include "bbr_control.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace longhaul::udt {

namespace {

// Numbers without a source in the text are tuned: over constant paths, the traces of topologies/traces, pairs of flows and
// competitors, with tests/native/control_grid.

constexpr double kInitialWindow = 32;  // packets
constexpr double kInitialRoundTrip = 0.1;
constexpr double kSlowest = 1;  // packets a second
constexpr double kSmallestWindow = 4;
constexpr Micros kHistory = 20'000'000;  // of the path's own delay

// The window lets the rate govern: it holds what the path and the target queue hold, late reports (seconds), and what is
// lost but not yet known to be.
constexpr double kWindowSlack = 0.020;
constexpr double kWindowFactor = 1.15;
// How late reports are on average: what is in flight besides what the path holds.
constexpr double kReportLag = 0.005;

// Start-up.
constexpr double kStartUpGain = 2.77;  // 4 ln 2: doubles the rate each round trip
constexpr double kFullLoss = 0.2;      // more than chance may take
constexpr double kFirstDrainGain = 0.5;

// After silence.
constexpr double kSilentGain = 0.06;
constexpr double kResumeShare = 0.25;

// The target queue in seconds, for one packet a second: 6 ms at 200 Mbit/s, 20 at 20, 62 at 2.
constexpr double kTarget = 0.8;
constexpr double kLowestLimit = 0.25;
constexpr double kNoiseShare = 1.7;
constexpr double kMostNoise = 0.006;

constexpr double kSteering = 0.5;  // of the queue's excess is made good in one feedback delay
constexpr double kLowestGain = 0.6;
constexpr double kStuckGain = 0.9;  // the lowest when making room has not helped
constexpr double kHighestGain = 1.05;
constexpr double kHighestBoosted = 1.2;
constexpr double kRefillGain = 1.5;

// Growth is tried while the queue is below this share of the target.
constexpr double kLow = 0.5;

// Overflow is what is lost beyond the chance that a drain has shown this lately.
constexpr Micros kDrainFresh = 1'000'000;

// What is left of the queue after draining: what it must exceed, as a share of the own target, and how fast it is believed.
constexpr double kFloorMargin = 0.3;
constexpr double kFloorRise = 0.7;
constexpr double kHighestFloor = 0.020;
constexpr double kFloorBase = 0.002;
constexpr double kFloorShare = 0.1;  // of the smallest round trip
constexpr double kLongerPath = 0.8;  // of the queue left: the path has become longer

// Others' queue: when it counts as stuck, and how the target follows and falls.
constexpr double kStuckQueue = 1.4;  // targets
constexpr double kYield = 0.9;       // of its rate a flow yields first
constexpr Micros kPatience = 300'000;
constexpr double kBoostRaise = 1.5;
constexpr double kBoostFall = 0.75;  // each time the queue is drained
constexpr double kBoostCut = 0.8;    // by overflow

}  // namespace

BbrControl::BbrControl(const ControlSettings& settings)
    : random_(settings.seed),
      ceiling_(settings.ceiling),
      window_start_up_(kInitialWindow),
      bandwidth_(kInitialWindow / kStartUpGain /
                 (settings.initial_rtt > 0 ? static_cast<double>(settings.initial_rtt) * 1e-6 : kInitialRoundTrip)),
      gain_(kStartUpGain),
      delay_(kHistory),
      rates_(3) {}

double BbrControl::rate() const {
  double rate = std::max(gain_ * bandwidth_, kSlowest);
  return ceiling_ > 0 ? std::min(rate, ceiling_) : rate;
}

double BbrControl::window() const {
  double round_trip = delay_.smallest_rtt();
  if (phase_ == Phase::kStartUp) return std::max(window_start_up_, 2.2 * bandwidth_ * (round_trip + 0.01));
  double allowed = round_trip + target_queue() + kWindowSlack;
  return std::max(kSmallestWindow, kWindowFactor * std::max(1.0, gain_) * bandwidth_ * allowed);
}

std::string_view BbrControl::state() const {
  switch (phase_) {
    case Phase::kStartUp: return "start-up";
    case Phase::kFirstDrain:
    case Phase::kDrain: return "drain";
    case Phase::kCruise: break;
  }
  return growth_.active() ? "grow" : boost_ > 0 ? "compete" : "cruise";
}

double BbrControl::own_target() const { return kTarget / std::sqrt(std::max(bandwidth_, 10.0)); }

double BbrControl::target_queue() const {
  return queue_limit_ * own_target() + std::min(kNoiseShare * delay_.noise(), kMostNoise) + std::max(boost_, floor_);
}

double BbrControl::coming_queue() const {
  // After an overflow much of it is lost already, only not yet known to be.
  double alive = static_cast<double>(in_flight_) * (1 - std::max(0.0, losses_.recent() - losses_.chance()));
  return std::max(0.0, alive / bandwidth_ - delay_.smallest_rtt() - kReportLag);
}

// Half a packet in a round trip: from there it finds back in some round trips.
double BbrControl::slowest() const { return std::max(kSlowest, 0.5 / delay_.smallest_rtt()); }

double BbrControl::full_queue() const { return 1.5 * target_queue() + 0.003; }

void BbrControl::observe_losses(const Feedback& feedback) {
  bool quiet = feedback.prior_delivered >= drained_from_ && feedback.prior_delivered < drained_to_;
  // Of the first such report, a part was sent before.
  losses_.observe(feedback.newly_delivered, feedback.newly_lost, quiet && quiet_);
  quiet_ = quiet;
  if (phase_ != Phase::kCruise || !losses_.excess()) return;
  losses_.begin_judging();
  // Is that the chance? A drain tells. If one has told lately, it is overflow: what is in the queue is more than it holds.
  if (feedback.now - drained_at_ > std::max<Micros>(kDrainFresh, 6 * feedback.smoothed_rtt) && boost_ <= 0) {
    begin_drain(feedback);
    return;
  }
  if (growth_.active()) growth_.hold_until(feedback.now + chance(1'500'000, 2'500'000));
  if (boost_ > 0) {
    if (feedback.now - boost_cut_ > feedback.smoothed_rtt) boost_ *= kBoostCut;
    boost_cut_ = feedback.now;
    return;
  }
  queue_limit_ = std::max(kLowestLimit, 0.7 * queue_limit_);
  limit_lowered_ = feedback.now;
}

void BbrControl::observe_rate(const Feedback& feedback) {
  if (feedback.delivery_rate <= 0) return;
  if (feedback.sample_interval < static_cast<Micros>(delay_.smallest_rtt() * 0.9e6)) return;
  double lost = static_cast<double>(feedback.sample_lost) /
                std::max(1.0, static_cast<double>(feedback.sample_lost + feedback.sample_delivered));
  if (feedback.prior_delivered < valid_from_) return;
  delivered_rate_ = feedback.delivery_rate;
  double rate = feedback.delivery_rate / (1 - std::min(lost, losses_.chance()));
  if ((feedback.application_limited || quiet_) && rate < bandwidth_) return;
  rates_.update(rate_round_, rate);
  bandwidth_ = std::max(rates_.best(rate_round_, rate), slowest());
}

// With a queue before it the bottleneck is busy, and what comes out is what it carries: no need to wait until the larger
// rates of the rounds before are forgotten.
void BbrControl::cut_to_drained_rate(const Feedback& feedback) {
  if (delay_.queue() < full_queue() || feedback.application_limited) {
    drained_since_ = 0;
    return;
  }
  if (feedback.newly_delivered == 0) return;  // of a plain UDT4 peer deliveries come to light in lumps
  if (drained_since_ == 0) {
    drained_since_ = feedback.now;
    drained_delivered_ = feedback.delivered;
    return;
  }
  Micros elapsed = feedback.now - drained_since_;
  Micros enough = std::max<Micros>(30'000, static_cast<Micros>(delay_.smallest_rtt() * 0.5e6));
  if (elapsed < enough) return;
  double rate = static_cast<double>(feedback.delivered - drained_delivered_) * 1e6 / static_cast<double>(elapsed);
  rate /= 1 - losses_.chance();
  if (rate < 0.9 * bandwidth_) {
    rates_.clear();
    bandwidth_ = std::max(1.03 * rate, slowest());
    rates_.update(rate_round_, bandwidth_);
  }
  drained_since_ = feedback.now;
  drained_delivered_ = feedback.delivered;
}

// While the delivered rate still grew a round later, the bottleneck was not full, and what was lost was lost by chance.
void BbrControl::learn_chance(const Feedback& feedback, bool new_round) {
  if (new_round) {
    double rate = rates_.best(rate_round_, 0);
    if (rate > 1.5 * round_rate_ && round_rate_ > 0) losses_.add_quiet(round_before_all_, round_before_lost_);
    round_rate_ = rate;
    round_before_all_ = round_all_;
    round_before_lost_ = round_lost_;
    round_all_ = round_lost_ = 0;
  }
  round_all_ += static_cast<double>(feedback.newly_delivered + feedback.newly_lost);
  round_lost_ += static_cast<double>(feedback.newly_lost);
}

void BbrControl::start_up(const Feedback& feedback, bool new_round) {
  learn_chance(feedback, new_round);
  double threshold = std::clamp(delay_.smallest_rtt() / 8, 0.004, 0.016);  // as in RFC 9406
  bool full = delay_.queue() > threshold + 2 * delay_.noise();
  if (new_round && !feedback.application_limited) {
    double rate = rates_.best(rate_round_, 0);
    if (rate > 1.25 * plateau_ || rate == 0) {
      plateau_ = rate;
      plateau_rounds_ = 0;
    } else if (++plateau_rounds_ >= 3) {
      full = true;
    }
  }
  if (losses_.recent() > kFullLoss && losses_.seen() > 100) full = true;
  gain_ = kStartUpGain;
  // The window doubles each round trip, as the rate will once it is measured.
  if (!feedback.application_limited) window_start_up_ += static_cast<double>(feedback.newly_delivered);
  bandwidth_ = std::max(bandwidth_, window_start_up_ / (kStartUpGain * (delay_.smallest_rtt() + 0.01)));
  if (!full) return;
  bandwidth_ = rates_.best(rate_round_, bandwidth_);
  losses_.begin_judging();
  begin_drain(feedback);
  phase_ = Phase::kFirstDrain;
  gain_ = kFirstDrainGain;
}

void BbrControl::begin_cruise(Micros now) {
  phase_ = Phase::kCruise;
  growth_.stop();
  low_rounds_ = 0;
  stuck_since_ = 0;
  refill_until_ = now + static_cast<Micros>(1e6 * delay_.smallest_rtt());
  Micros rounds = static_cast<Micros>(12e6 * delay_.smallest_rtt());
  bool first = drained_at_ == 0;
  drain_at_ = now + (first ? std::max<Micros>(300'000, rounds / 4) : std::max(rounds, chance(2'000'000, 3'000'000)));
}

void BbrControl::begin_drain(const Feedback& feedback) {
  phase_ = Phase::kDrain;
  growth_.stop();
  drained_from_ = feedback.delivered;
  losses_.begin_quiet();
  drained_to_ = std::numeric_limits<int64_t>::max();
  double margin = 0.001 + 0.025 * delay_.smallest_rtt();
  double length = std::max(delay_.smallest_rtt(), 0.02);
  drain_gain_ = std::clamp(1 - (delay_.queue() + margin) / length, 0.5, 0.97);
  // Below what comes out, also when part of the rate is overflow that was taken for chance.
  if (delivered_rate_ > 0) drain_gain_ = std::max(0.4, std::min(drain_gain_, drain_gain_ * delivered_rate_ / bandwidth_));
  drain_until_ = feedback.now + static_cast<Micros>(length * 1e6);
  queue_before_ = queue_lowest_ = delay_.queue();
  drain_depth_ = (1 - drain_gain_) * length;
  judge_drain_at_ = drain_until_ + feedback.smoothed_rtt;
}

void BbrControl::end_drain(const Feedback& feedback) {
  drained_to_ = feedback.delivered;
  if (phase_ == Phase::kFirstDrain) delay_.forget_noise();
  if (queue_limit_ < 1 && feedback.now - limit_lowered_ > 2'000'000) queue_limit_ = std::min(1.0, 1.2 * queue_limit_);
  boost_ = boost_ > 0.001 ? kBoostFall * boost_ : 0;
  begin_cruise(feedback.now);
  drained_at_ = feedback.now;
  // Where an empty queue cannot be told from noise, growth is tried each time.
  if (delay_.noise() > own_target()) growth_.begin(rounds_.count(), bandwidth_);
}

void BbrControl::drain(const Feedback& feedback) {
  gain_ = drain_gain_;
  if (feedback.now >= drain_until_) end_drain(feedback);
}

double BbrControl::steering_gain(double target, double queue) const {
  return std::clamp(1 + kSteering * (target - queue) / feedback_delay(), stuck_ ? kStuckGain : kLowestGain,
                    boost_ > 0 ? kHighestBoosted : kHighestGain);
}

void BbrControl::cruise(const Feedback& feedback, bool new_round) {
  double target = target_queue();
  double queue = delay_.queue();
  // A long queue that already has been made room for, only it does not show yet.
  if (queue > full_queue()) queue = std::max(target, std::min(queue, coming_queue()));
  if (delay_.queue() > full_queue()) growth_.forget_hold();  // what has been tried is no longer true
  if (delay_.queue() > target + delay_.noise()) growth_.stop();
  if (new_round) {
    low_rounds_ = delay_.queue() < floor_ + kLow * (target - floor_) && !feedback.application_limited ? low_rounds_ + 1 : 0;
    if (low_rounds_ >= 2 && growth_.may_begin(feedback.now)) {
      growth_.begin(rounds_.count(), bandwidth_);
    } else if (!growth_.observe_round(rounds_.count(), bandwidth_)) {
      growth_.hold_until(feedback.now + chance(1'500'000, 2'500'000));
    }
  }
  gain_ = growth_.active() ? growth_.gain() : steering_gain(target, queue);
  if (feedback.now < refill_until_ && delay_.queue() < target) {
    // What the draining took is put back at once.
    double missing = delay_.smallest_rtt() + kReportLag + 0.5 * target - static_cast<double>(in_flight_) / bandwidth_;
    gain_ = std::max(gain_, std::min(1 + missing / delay_.smallest_rtt(), kRefillGain));
  }
  if (feedback.now >= drain_at_ && !growth_.active() && !feedback.application_limited) begin_drain(feedback);
}

// A queue that did not even shrink for an instant, when this flow sent much less, is none.
void BbrControl::judge_drain(const Feedback& feedback) {
  queue_lowest_ = std::min(queue_lowest_, delay_.queue());
  if (feedback.now < judge_drain_at_) return;
  judge_drain_at_ = kNever;
  bool deep = drain_depth_ > 0.005 + 2 * delay_.noise();
  if (deep && queue_lowest_ > std::max(0.005 + delay_.noise(), kLongerPath * queue_before_) &&
      queue_before_ - queue_lowest_ < std::max(0.001 + delay_.noise(), 0.1 * drain_depth_)) {
    delay_.begin_anew();
    boost_ = 0;
    floor_ = 0;
    return;
  }
  double highest = std::min(kHighestFloor, kFloorBase + kFloorShare * delay_.smallest_rtt());
  double left = std::clamp(queue_lowest_ - kFloorMargin * own_target(), 0.0, highest);
  floor_ = left > floor_ ? floor_ + kFloorRise * (left - floor_) : left;
}

// A queue that this flow's making room does not shorten.
void BbrControl::watch_for_others(const Feedback& feedback) {
  double queue = delay_.queue();
  stuck_ = stuck_since_ > 0 && queue > 0.7 * stuck_queue_ && feedback.now - stuck_since_ > 2 * feedback.smoothed_rtt;
  if (queue < kStuckQueue * target_queue()) {
    stuck_since_ = 0;
    return;
  }
  if (stuck_since_ == 0 || queue < 0.7 * stuck_queue_) {
    stuck_since_ = feedback.now;
    stuck_queue_ = queue;
    stuck_bandwidth_ = bandwidth_;
    return;
  }
  Micros patience = std::max<Micros>(kPatience, 4 * feedback.smoothed_rtt);
  // To flows of its own kind it yields a part of its rate first, and so they come to share.
  if (feedback.now - stuck_since_ < patience || bandwidth_ > kYield * stuck_bandwidth_) return;
  stuck_since_ = 0;
  double target = target_queue();
  double raised = std::min({kBoostRaise * target, queue, delay_.smallest_rtt() + 0.01});
  bool first = boost_ <= 0;
  boost_ += std::max(0.0, raised - target);
  if (first && boost_ > 0 && phase_ == Phase::kCruise) begin_drain(feedback);
}

void BbrControl::on_feedback(const Feedback& feedback) {
  bool new_round = rounds_.observe(feedback);
  in_flight_ = feedback.in_flight;
  if (silent_ && feedback.newly_delivered > 0) resume(feedback);
  if (new_round && !quiet_) ++rate_round_;
  delay_.observe(feedback);
  observe_losses(feedback);
  observe_rate(feedback);
  if (phase_ != Phase::kStartUp) cut_to_drained_rate(feedback);
  judge_drain(feedback);
  switch (phase_) {
    case Phase::kStartUp: start_up(feedback, new_round); break;
    case Phase::kFirstDrain:
      gain_ = kFirstDrainGain;
      if (std::min(delay_.queue(), coming_queue()) <= target_queue()) end_drain(feedback);
      else watch_for_others(feedback);
      break;
    case Phase::kDrain: drain(feedback); break;
    case Phase::kCruise:
      cruise(feedback, new_round);
      if (phase_ == Phase::kCruise) watch_for_others(feedback);
      break;
  }
}

// An outage, or all is lost: what the path carries now is unknown.
void BbrControl::on_timeout(Micros) {
  if (!silent_) {
    silent_ = true;
    gain_ = 1;
  }
  gain_ = std::max(gain_ / 2, kSilentGain);
  growth_.stop();
}

// The first sign of life: start-up again, from a part of the rate of before.
void BbrControl::resume(const Feedback& feedback) {
  silent_ = false;
  valid_from_ = feedback.delivered;  // samples that span the silence say nothing
  bandwidth_ = std::max(kResumeShare * bandwidth_, slowest());
  rates_.clear();
  window_start_up_ = std::max(kSmallestWindow, bandwidth_ * delay_.smallest_rtt());
  plateau_ = 0;
  plateau_rounds_ = 0;
  round_rate_ = 0;
  boost_ = 0;
  floor_ = 0;
  drained_since_ = 0;
  drained_to_ = std::min(drained_to_, feedback.delivered);
  judge_drain_at_ = kNever;
  stuck_since_ = 0;
  stuck_ = false;
  phase_ = Phase::kStartUp;
}

}  // namespace longhaul::udt
