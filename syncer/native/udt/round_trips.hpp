// Round trips counted by packets: a round ends when a packet is delivered that was sent after the round began.
#pragma once

#include "congestion.hpp"

namespace longhaul::udt {

class RoundTrips {
 public:
  // True when this feedback begins a new round.
  bool observe(const Feedback& feedback) {
    if (feedback.newly_delivered <= 0 || feedback.prior_delivered < mark_) return false;
    mark_ = feedback.delivered;
    ++count_;
    return true;
  }
  int64_t count() const { return count_; }

 private:
  int64_t mark_ = 0;
  int64_t count_ = 0;
};

}  // namespace longhaul::udt
