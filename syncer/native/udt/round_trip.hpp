// Smoothed round-trip time and its variance (RFC 6298's gains), and the least of the last half minute. Pure.
#pragma once

#include <algorithm>
#include <array>
#include <cstdlib>

#include "numbers.hpp"

namespace longhaul::udt {

class RoundTrip {
 public:
  static constexpr Micros kUnknown = 100'000;  // what is assumed before the first sample, as UDT4 does
  static constexpr Micros kMemory = 15'000'000;

  explicit RoundTrip(Micros initial) {
    if (initial > 0) {
      smoothed_ = initial;
      variance_ = initial / 2;
    }
  }

  void sample(Micros rtt, Micros now) {
    rtt = std::max<Micros>(rtt, 1);
    if (!seen_) {
      seen_ = true;
      smoothed_ = rtt;
      variance_ = rtt / 2;
    } else {
      variance_ += (std::abs(smoothed_ - rtt) - variance_) / 4;
      smoothed_ += (rtt - smoothed_) / 8;
    }
    if (now - turned_at_ >= kMemory) {
      least_ = {rtt, least_[0]};
      turned_at_ = now;
    }
    least_[0] = std::min(least_[0], rtt);
  }

  bool seen() const { return seen_; }
  Micros smoothed() const { return smoothed_; }
  Micros variance() const { return variance_; }
  Micros least() const {
    Micros least = std::min(least_[0], least_[1]);
    return least == kNever ? smoothed_ : least;
  }

 private:
  bool seen_ = false;
  Micros smoothed_ = kUnknown;
  Micros variance_ = kUnknown / 2;
  std::array<Micros, 2> least_{kNever, kNever};  // of this and the last period
  Micros turned_at_ = 0;
};

}  // namespace longhaul::udt
