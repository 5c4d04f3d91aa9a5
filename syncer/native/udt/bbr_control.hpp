// `bbr`: a model of the path, its delivery rate and its smallest round trip, as BBR (draft-ietf-ccwg-bbr) has it, steered
// otherwise: instead of cycling between too much and too little it keeps a small queue standing, so that the bottleneck is
// never idle and every change of its rate shows.
//
// - The rate sent is the delivered one times a gain that falls with the queueing delay and is 1 at a target delay. The
//   target shrinks with the root of the own rate: of several flows the faster yields to the slower.
// - An empty queue means unused capacity: the gain grows from round to round for as long as the delivered rate follows.
// - Now and then the queue is drained for an instant, which shows the path's own delay, and the share of packets that is
//   lost by chance. What is lost beyond that share is overflow and lowers the target.
// - A queue that does not go away when this flow makes room belongs to others: the target follows it, up to a round trip,
//   and falls again step by step, which shows whether the others are still there.
#pragma once

#include <cstdint>
#include <random>

#include "congestion.hpp"
#include "growth.hpp"
#include "loss_share.hpp"
#include "path_delay.hpp"
#include "round_trips.hpp"
#include "windowed_filter.hpp"

namespace longhaul::udt {

class BbrControl final : public CongestionControl {
 public:
  explicit BbrControl(const ControlSettings& settings);

  void on_feedback(const Feedback& feedback) override;
  void on_timeout(Micros now) override;
  void set_ceiling(double packets_per_second) override { ceiling_ = packets_per_second; }

  double rate() const override;
  double window() const override;
  std::string_view name() const override { return "bbr"; }
  std::string_view state() const override;

 private:
  enum class Phase { kStartUp, kFirstDrain, kCruise, kDrain };

  void observe_losses(const Feedback& feedback);
  void observe_rate(const Feedback& feedback);
  void cut_to_drained_rate(const Feedback& feedback);
  void start_up(const Feedback& feedback, bool new_round);
  void cruise(const Feedback& feedback, bool new_round);
  void drain(const Feedback& feedback);
  void judge_drain(const Feedback& feedback);
  void watch_for_others(const Feedback& feedback);

  void learn_chance(const Feedback& feedback, bool new_round);
  void resume(const Feedback& feedback);
  void begin_cruise(Micros now);
  void begin_drain(const Feedback& feedback);
  void end_drain(const Feedback& feedback);
  double own_target() const;
  double target_queue() const;
  double steering_gain(double target, double queue) const;
  double slowest() const;    // packets a second
  double full_queue() const;  // above it, the bottleneck is surely busy
  double feedback_delay() const { return delay_.smallest_rtt() + 0.015; }  // seconds
  // The queue that what is in flight will make, a round trip before it shows in the delay.
  double coming_queue() const;
  Micros chance(Micros from, Micros to) { return std::uniform_int_distribution<Micros>(from, to)(random_); }

  std::mt19937_64 random_;
  double ceiling_;
  Phase phase_ = Phase::kStartUp;
  double window_start_up_;
  int64_t in_flight_ = 0;
  double delivered_rate_ = 0;  // packets a second, the newest sample, without what was lost
  double bandwidth_;  // packets a second that the bottleneck carries of this flow, lost ones included
  double gain_;

  RoundTrips rounds_;
  PathDelay delay_;
  LossShare losses_;
  WindowedFilter<std::greater<double>, 3> rates_;  // by `rate_round_`
  int64_t rate_round_ = 0;  // rounds, but for those in which this flow held back itself

  bool silent_ = false;     // timed out, and nothing heard since
  int64_t valid_from_ = 0;  // `delivered`: packets sent before make no rate sample

  // Start-up.
  double plateau_ = 0;
  int plateau_rounds_ = 0;
  double round_rate_ = 0;
  double round_all_ = 0, round_lost_ = 0;                // packets of this round,
  double round_before_all_ = 0, round_before_lost_ = 0;  // and of the one before

  Growth growth_;
  int low_rounds_ = 0;  // how many the queue has been nearly empty

  // Draining.
  Micros drain_at_ = 0;
  Micros drain_until_ = 0;
  Micros drained_at_ = 0;  // when the newest one ended
  double drain_gain_ = 1;
  double drain_depth_ = 0;    // seconds of queue that it takes away at most
  double queue_before_ = 0;
  double queue_lowest_ = 0;
  Micros judge_drain_at_ = kNever;
  bool quiet_ = false;  // the newest delivered packets were sent while it was drained
  Micros refill_until_ = 0;
  int64_t drained_from_ = -1;  // `delivered` when it began and ended: which packets were sent meanwhile
  int64_t drained_to_ = -1;

  double queue_limit_ = 1;  // of the target: what overflow has taught
  Micros limit_lowered_ = 0;

  // The rate at which packets come out of a busy bottleneck, over a part of a round trip.
  Micros drained_since_ = 0;
  int64_t drained_delivered_ = 0;

  // Others.
  double boost_ = 0;        // seconds on top of the target
  Micros boost_cut_ = 0;
  double floor_ = 0;        // seconds of queue, or what looks like one, that draining this flow's leaves
  Micros stuck_since_ = 0;  // the queue does not shrink since then; 0: there is none
  bool stuck_ = false;
  double stuck_queue_ = 0;
  double stuck_bandwidth_ = 0;
};

}  // namespace longhaul::udt
