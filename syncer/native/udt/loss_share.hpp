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
    if (quiet) {
      add(quiet_, all, static_cast<double>(lost), std::clamp(kQuietPeriods * period_, kLeastMemory, kMostMemory));
      in_period_ += all;
    }
    add(recent_, all, static_cast<double>(lost), kRecentMemory);
    add(judged_, all, static_cast<double>(lost), kRecentMemory);
  }

  // Of packets that are known only afterwards to have met no queue.
  void add_quiet(double all, double lost) { add(quiet_, all, lost, kPriorMemory); }
  void begin_quiet() {
    period_ = in_period_;
    in_period_ = 0;
  }

  // The chance of a loss, a standard deviation above what was seen, so that it is made up for in full.
  double chance() const {
    double all = quiet_.all + kPrior;
    double share = quiet_.lost / all;
    return std::min(share + std::sqrt(share * (1 - share) / all), kLargest);
  }
  // Of all packets, lately.
  double recent() const { return recent_.all > 0 ? recent_.lost / recent_.all : 0; }

  double seen() const { return recent_.all; }  // packets, of them

  // More is lost than by chance, and that is no accident.
  bool excess() const {
    double expected = (chance() + 0.01) * judged_.all;
    return judged_.lost > expected + 3 * std::sqrt(expected) + 4;
  }
  void begin_judging() { judged_ = {}; }

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

  static constexpr double kQuietPeriods = 3;
  static constexpr double kPriorMemory = 60;  // packets
  static constexpr double kLeastMemory = 100;
  static constexpr double kMostMemory = 2000;
  static constexpr double kRecentMemory = 500;
  static constexpr double kPrior = 20;
  static constexpr double kLargest = 0.25;

  double period_ = 0;  // packets of the quiet period before, and of this one
  double in_period_ = 0;
  Count quiet_;
  Count recent_;
  Count judged_;
};

}  // namespace longhaul::udt
