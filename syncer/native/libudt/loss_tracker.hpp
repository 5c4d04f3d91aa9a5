// The receiver's list of packets that are still missing, so that a lost retransmission is asked for again.
//
// libudt 4.11 reports a loss once. When the retransmission is lost too, only the sender's expiry timer repairs it, by
// which time the sender has stalled. Asking again every round trip keeps the pipe moving.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <vector>

namespace longhaul {

class LossTracker {
 public:
  // Returns true when the packet had not arrived before. `now_us` is any monotonic clock.
  bool arrived(int32_t sequence, int64_t now_us);

  // Ranges last asked for more than `patience_us` ago, in libudt's NAK encoding (a range is two words, the first with
  // its top bit set), at most `max_words`; their clock starts again.
  std::vector<int32_t> overdue(int64_t now_us, int64_t patience_us, std::size_t max_words);

  bool empty() const { return missing_.empty(); }
  int64_t missing_packets() const { return missing_packets_; }

 private:
  struct Range {
    int64_t last;
    int64_t asked_us;
  };

  int64_t unwrap(int32_t sequence) const;

  bool started_ = false;
  int64_t newest_ = 0;
  int64_t missing_packets_ = 0;
  std::map<int64_t, Range> missing_;
};

}  // namespace longhaul
