// When the next packet may leave. Pure.
#pragma once

#include <algorithm>
#include <cmath>

#include "numbers.hpp"

namespace longhaul::udt {

// Packets leave in bursts of what the rate gives in kQuantum. A sender that woke late makes up for at most kMostDebt, so
// that a pause of the host never becomes a burst that overflows a router's queue.
class Pacer {
 public:
  static constexpr double kQuantum = 500;   // us
  static constexpr double kMostDebt = 3000;  // us

  // Call before the first may_send of a turn.
  void begin(Micros now) {
    double at = static_cast<double>(now);
    next_ = std::max(next_, at - kMostDebt);
    limit_ = at + kQuantum;
  }
  bool may_send() const { return next_ <= limit_; }
  // `share`: of a full packet on the wire. `rate`: full packets a second.
  void charge(double share, double rate) { next_ += share * 1e6 / rate; }
  // Nothing waits for the pacer any more: what it saved up is not kept.
  void idle(Micros now) { next_ = std::max(next_, static_cast<double>(now)); }
  Micros ready_at() const { return static_cast<Micros>(std::ceil(next_)); }

 private:
  double next_ = 0;  // when the next packet is due
  double limit_ = 0;
};

}  // namespace longhaul::udt
