// Which share of the packets is lost by chance, and whether more than that is lost: overflow of a queue.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace longhaul::udt {

// Losses among packets that were sent while the bottleneck's queue was being drained cannot be overflow of this flow's
// making: they are the chance. All others are compared with it.
class LossShare {
 public:
  // `quiet`: sent while the queue was drained.
  void observe(int64_t delivered, int64_t lost, bool quiet) {
    double all = static_cast<double>(delivered + lost);
    add(quiet ? quiet_ : busy_, all, static_cast<double>(lost), quiet ? kQuietMemory : kBusyMemory);
  }

  // The chance of a loss: as large as what was seen allows (two standard deviations), so that it is made up for in full.
  double chance() const {
    double share = (quiet_.lost + 0.5) / (quiet_.all + 50);
    double deviation = std::sqrt(share * (1 - share) / (quiet_.all + 50));
    return std::clamp(share + 2 * deviation - 0.5 / 50, 0.0, kLargest);
  }
  // Of all packets, lately.
  double recent() const { return busy_.all > 0 ? busy_.lost / busy_.all : 0; }

  // More is lost than by chance, and that is no accident.
  bool excess() const {
    double expected = chance() * busy_.all;
    return busy_.lost > expected + 3 * std::sqrt(expected) + 0.01 * busy_.all + 4;
  }
  void forget_recent() { busy_ = {}; }

 private:
  struct Count {
    double all = 0;
    double lost = 0;
  };
  static void add(Count& count, double all, double lost, double memory) {
    count.all += all;
    count.lost += lost;
    if (count.all > memory) {
      count.lost *= memory / count.all;
      count.all = memory;
    }
  }

  static constexpr double kQuietMemory = 2000;  // packets
  static constexpr double kBusyMemory = 500;
  static constexpr double kLargest = 0.25;

  Count quiet_;
  Count busy_;
};

}  // namespace longhaul::udt
