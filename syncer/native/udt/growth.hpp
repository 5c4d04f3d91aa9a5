// Looking for more while nothing is full: gains that rise as long as what is delivered follows them.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include "numbers.hpp"

namespace longhaul::udt {

class Growth {
 public:
  bool active() const { return level_ > 0; }
  bool may_begin(Micros now) const { return level_ == 0 && now >= hold_until_; }
  double gain() const { return kGains[level_]; }

  // `round` counts round trips, `bandwidth` is what the flow is known to get.
  void begin(int64_t round, double bandwidth) {
    level_ = 1;
    round_ = round;
    bandwidth_ = bandwidth;
  }
  // Once a round. False: what is delivered did not follow, there is no more.
  bool observe_round(int64_t round, double bandwidth) {
    if (level_ == 0 || round - round_ < kRounds) return true;
    if (bandwidth <= bandwidth_ * (1 + kFollowed * (kGains[level_] - 1))) return false;
    level_ = std::min(level_ + 1, kGains.size() - 1);
    round_ = round;
    bandwidth_ = bandwidth;
    return true;
  }
  void stop() { level_ = 0; }
  // No more of it before then, unless the path changes.
  void hold_until(Micros then) {
    level_ = 0;
    hold_until_ = then;
  }
  void forget_hold() { hold_until_ = 0; }

 private:
  static constexpr std::array<double, 6> kGains = {1, 1.05, 1.15, 1.35, 1.7, 2};
  static constexpr int64_t kRounds = 2;      // until a gain shows in the delivered rate
  static constexpr double kFollowed = 0.4;  // of the gain

  size_t level_ = 0;
  int64_t round_ = 0;
  double bandwidth_ = 0;
  Micros hold_until_ = 0;
};

}  // namespace longhaul::udt
