// `bbr`: a model of the path, its delivery rate and its smallest round trip, as BBR (draft-ietf-ccwg-bbr) has it, steered
// otherwise: instead of cycling between too much and too little it keeps a small queue standing, so that the bottleneck is
// never idle and every change of its rate shows.
//
// - The rate sent is the delivered one times a gain that falls with the queueing delay and is 1 at a target delay. The
//   target shrinks with the root of the own rate: of several flows the faster yields to the slower.
// - An empty queue means unused capacity: the gain grows from round to round for as long as the delivered rate follows.
// - Now and then the queue is drained for an instant, which shows the path's own delay, and the share of packets that is
//   lost by chance. What is lost beyond that share is overflow and lowers the target.
// - A queue that does not go away when this flow makes room belongs to others, or the path has become longer.
#pragma once

#include <cstdint>

#include "congestion.hpp"
#include "round_trips.hpp"
#include "start_up_delay.hpp"
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
  enum class Phase { kStartUp, kDrain, kCruise };

  void observe_delay(const Feedback& feedback);
  void observe_rate(const Feedback& feedback, bool new_round);
  void start_up(const Feedback& feedback, bool new_round);
  double target_queue() const;
  double smallest_rtt() const { return smallest_rtt_; }

  double ceiling_;
  double packet_bits_;
  Phase phase_ = Phase::kStartUp;
  double bandwidth_;           // packets a second
  double smallest_rtt_ = 0.1;  // seconds
  double queue_ = 0;           // seconds
  double gain_;
  bool measured_ = false;  // a delivery rate, at least once

  RoundTrips rounds_;
  StartUpDelay start_up_delay_;
  WindowedFilter<std::greater<double>, 4> rates_;  // by round
  WindowedMin rtts_;
  WindowedMin base_delay_;
  WindowedFilter<std::less<double>, 4> recent_delay_;
  double plateau_ = 0;
  int plateau_rounds_ = 0;
};

}  // namespace longhaul::udt
