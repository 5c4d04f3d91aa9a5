// How fast packets arrive, as UDT4's ACKs tell it (draft-gg-udt-03, 3.2 and 3.3). Pure.
//
// A UDT4 sender takes the arrival speed for its rate when its slow start ends, and the capacity for what it may grow to.
// Both are speeds within bursts: an average that counts the sender's pauses would keep it at the pace of its start.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include "numbers.hpp"

namespace longhaul::udt {

class ArrivalSpeed {
 public:
  void on_arrival(uint32_t sequence, Micros now) {
    if (now != batch_at_) close_batch(now);
    ++batch_size_;
    // Every 16th packet and its successor leave back to back.
    if (sequence % kPairEvery == 1 && last_ == sequence - 1) ++batch_pairs_;
    last_ = sequence;
  }

  // Packets a second; 0: not known yet, or too uneven.
  double rate() const { return speed(gaps_, kFewest); }
  double capacity() const { return speed(pair_gaps_, 1); }

 private:
  static constexpr size_t kKept = 16;
  static constexpr size_t kFewest = 8;  // gaps that must be near their median
  static constexpr uint32_t kPairEvery = 16;
  // Packets that were read together after a wait came at the end of it: as long as a busy thread may have taken.
  static constexpr double kLongestBatch = 1'000;

  struct Gaps {
    std::array<double, kKept> list{};  // us
    size_t count = 0;
    size_t next = 0;
    void add(double gap) {
      list[next] = gap;
      next = (next + 1) % kKept;
      count = std::min(count + 1, kKept);
    }
  };

  void close_batch(Micros now) {
    if (batch_size_ > 0 && last_batch_at_ > 0) {
      auto since = static_cast<double>(batch_at_ - last_batch_at_);
      auto size = static_cast<double>(batch_size_);
      double gap = batch_size_ == 1 ? since : std::min(since, kLongestBatch) / size;
      for (size_t i = std::min(batch_size_, kKept); i > 0; --i) gaps_.add(std::max(gap, 1.0));
      for (size_t i = std::min(batch_pairs_, kKept); i > 0; --i) pair_gaps_.add(std::max(gap, 1.0));
    }
    last_batch_at_ = batch_at_;
    batch_at_ = now;
    batch_size_ = batch_pairs_ = 0;
  }

  // The mean of the gaps that are within a factor of eight of their median.
  static double speed(const Gaps& gaps, size_t fewest) {
    if (gaps.count < kKept) return 0;
    auto sorted = gaps.list;
    std::nth_element(sorted.begin(), sorted.begin() + kKept / 2, sorted.end());
    double median = sorted[kKept / 2], sum = 0;
    size_t near = 0;
    for (double gap : gaps.list) {
      if (gap > median * 8 || gap < median / 8) continue;
      sum += gap;
      ++near;
    }
    return near < fewest ? 0 : static_cast<double>(near) * 1e6 / sum;
  }

  Gaps gaps_, pair_gaps_;
  Micros batch_at_ = 0;
  Micros last_batch_at_ = 0;
  size_t batch_size_ = 0;
  size_t batch_pairs_ = 0;
  uint32_t last_ = 0;
};

}  // namespace longhaul::udt
