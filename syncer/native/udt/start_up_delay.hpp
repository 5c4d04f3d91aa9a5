// When start-up has begun to fill the bottleneck's queue: HyStart++ (RFC 9406), its delay increase per round trip.
#pragma once

#include <algorithm>

#include "numbers.hpp"

namespace longhaul::udt {

class StartUpDelay {
 public:
  // One RTT sample; `round` counts round trips. True once a whole round's smallest RTT has grown by RttThresh.
  bool observe(int64_t round, Micros rtt) {
    if (rtt <= 0) return false;
    if (round != round_) {
      if (samples_ > 0) last_min_ = last_min_ == kNever ? current_min_ : std::min(last_min_ + kCreep, current_min_);
      round_ = round;
      current_min_ = kNever;
      samples_ = 0;
    }
    current_min_ = std::min(current_min_, rtt);
    ++samples_;
    if (last_min_ == kNever || samples_ < kSamples) return false;
    Micros threshold = std::clamp(last_min_ / 8, kLowest, kHighest);
    return current_min_ >= last_min_ + threshold;
  }

 private:
  // A queue that grows slowly must not carry the base with it: the base may rise by this much a round.
  static constexpr Micros kCreep = 500;
  static constexpr Micros kLowest = 4'000;
  static constexpr Micros kHighest = 16'000;
  // RFC 9406 has 8 of one per packet; reports come some 8 a round trip.
  static constexpr int kSamples = 4;

  int64_t round_ = -1;
  Micros last_min_ = kNever;
  Micros current_min_ = kNever;
  int samples_ = 0;
};

}  // namespace longhaul::udt
