// The delay of a path apart from its queue, and the queue: smallest delays of a long and of a short window.
#pragma once

#include "congestion.hpp"
#include "windowed_filter.hpp"

namespace longhaul::udt {

// Compares smallest with smallest, so that jitter, which every sample may have, cancels out for the greater part. The
// queue is measured on the way there alone where the peer tells the forward delay.
class PathDelay {
 public:
  explicit PathDelay(Micros history) : rtts_(history), base_(history), recent_(20'000) {}

  void observe(const Feedback& feedback);
  // What was taken for a queue is none: the path has become longer. Its delay is learned anew.
  void begin_anew();

  double smallest_rtt() const { return smallest_rtt_; }  // seconds, over the history
  double queue() const { return queue_; }                // seconds, now
  double noise() const { return noise_; }                // seconds: how far `queue` moves from one look to the next
  void forget_noise() { noise_ = 0; }
  bool measured() const { return measured_; }

 private:
  WindowedMin rtts_;
  WindowedMin base_;
  WindowedFilter<std::less<double>, 4> recent_;
  bool measured_ = false;
  bool forward_ = false;
  double smallest_rtt_ = 0.1;
  double queue_ = 0;
  double noise_ = 0;
  double look_ = 0;  // the queue at the last look
  Micros look_at_ = 0;
  double looks_ = 0;
};

}  // namespace longhaul::udt
