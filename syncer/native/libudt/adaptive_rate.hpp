// How fast to send, decided from what arrives at the other end and how long it takes. Pure: time is an argument.
//
// States: START doubles (nearly) each round trip until what is delivered stops growing or the queue builds; DRAIN sends
// below the delivered rate until the queue is gone; HOLD stays at the best delivered rate of the last rounds, with one
// round in eight a quarter faster to find new capacity and the next one slower to drain what that queued.
// Loss alone never slows it down, unless more than a fifth is lost: below that it cannot be told from a noisy link.
#pragma once

#include <array>
#include <cstdint>
#include <deque>

namespace longhaul {

struct Feedback {
  int64_t now_us;            // sender's clock
  int64_t receiver_us;       // receiver's clock, only differences count
  int64_t sent_packets;      // total sent up to now, with retransmissions
  int64_t arrived_packets;   // total arrived at the receiver, with duplicates
  int64_t rtt_us;            // one sample
};

class AdaptiveRate {
 public:
  enum class State { kStart, kDrain, kHold };

  // Rates are packets a second.
  AdaptiveRate(double floor, double ceiling);

  void set_limits(double floor, double ceiling);
  void on_feedback(const Feedback& feedback);

  double rate() const;
  double window() const;  // packets that may be outstanding
  State state() const { return state_; }
  double delivered() const { return delivered_; }
  double loss() const { return loss_; }
  int64_t min_rtt_us() const;
  int64_t smoothed_rtt_us() const { return smoothed_rtt_us_; }

 private:
  void on_rtt(int64_t now_us, int64_t rtt_us);
  void on_round(const Feedback& end);
  void open_round(const Feedback& start);
  int64_t fastest_of_last(unsigned samples) const;
  bool queue_built() const;
  void start_round();
  void drain_round(int64_t now_us);
  void hold_round();
  void enter_drain();
  void restart();
  double best() const;

  double floor_;
  double ceiling_;
  State state_ = State::kStart;
  double base_;       // packets a second before the gain
  double gain_ = 1.0;

  bool seen_ = false;
  Feedback round_{};
  Feedback before_{};      // start of the round before, for a rate over two rounds
  double sent_rate_ = 0;   // of the last round
  double sent_rate_before_ = 0;
  double delivered_ = 0;   // over the last two rounds
  double delivered_in_round_ = 0;
  bool limited_by_application_ = true;
  double loss_ = 0;
  std::deque<double> samples_;
  double best_in_start_ = 0;
  int flat_rounds_ = 0;
  int lossy_rounds_ = 0;
  int drain_rounds_ = 0;
  unsigned phase_ = 0;
  double rate_before_drain_ = 0;
  int64_t queue_before_drain_us_ = 0;
  int64_t drain_since_us_ = 0;

  int64_t smoothed_rtt_us_ = 0;
  int64_t last_feedback_us_ = 0;
  std::array<int64_t, 2> min_rtt_us_{0, 0};  // of this and the last half minute
  int64_t min_rtt_since_us_ = 0;
  std::array<int64_t, 8> recent_rtt_us_{};
  unsigned recent_count_ = 0;
};

}  // namespace longhaul
