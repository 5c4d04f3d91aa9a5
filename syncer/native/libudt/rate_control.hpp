// Congestion control for libudt: a rate set from outside at any time, or found by AdaptiveRate.
//
// Two things go beside libudt's own packets, both ignored by a peer that runs another control:
//   - the receiver reports every 10 ms how many packets arrived, with the newest one's time stamp sent back (a message
//     of libudt's user-defined type), from which the sender knows the delivered rate and the round trip;
//   - the receiver repeats its loss reports (ordinary NAK packets, understood by every libudt) until filled.
#pragma once

#include <udt/udt.h>
#include <udt/ccc.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>

#include "adaptive_rate.hpp"
#include "loss_tracker.hpp"

namespace longhaul {

// Bits a second on the wire, Ethernet, IP and UDP headers counted. rate 0: adaptive. ceiling 0: none.
struct RateSettings {
  double rate_bps = 0;
  double floor_bps = 300e3;
  double ceiling_bps = 0;
};

struct RateStatus {
  const char* state = "fixed";
  double target_bps = 0;
  double delivered_bps = 0;
  double loss = 0;
  int64_t rtt_us = 0;
  int64_t min_rtt_us = 0;
  int64_t packets_sent = 0;
  int64_t packets_arrived = 0;  // as the other end reports
  int64_t packets_received = 0;
  int64_t packets_missing = 0;  // not yet filled, as receiver
  int64_t naks_repeated = 0;
  int64_t timeouts = 0;
};

// Shared by the control (libudt's threads) and the Python handle; outlives either.
class RateShared {
 public:
  explicit RateShared(const RateSettings& settings) : settings_(settings) {}

  RateSettings settings() const;
  void set(const RateSettings& settings);
  RateStatus status() const;
  void publish(const RateStatus& status);

 private:
  mutable std::mutex mutex_;
  RateSettings settings_;
  RateStatus status_;
};

class RateControl : public CCC {
 public:
  explicit RateControl(const RateSettings& settings) : shared_(std::make_shared<RateShared>(settings)), adaptive_(1, 1) {}

  const std::shared_ptr<RateShared>& shared() const { return shared_; }

  void init() override;
  void onACK(int32_t acknowledged) override;
  void onLoss(const int32_t* losses, int size) override;
  void onTimeout() override;
  void onPktSent(const CPacket* packet) override;
  void onPktReceived(const CPacket* packet) override;
  void processCustomMsg(const CPacket* packet) override;

 private:
  double wire_bits() const;
  void apply();
  void publish(double rate);
  void report(int64_t now_us, int32_t echoed_stamp);
  void repeat_losses(int64_t now_us);

  std::shared_ptr<RateShared> shared_;

  // written by libudt's sending thread
  std::atomic<int64_t> packets_sent_{0};
  std::atomic<int64_t> clock_offset_us_{0};  // our clock minus libudt's packet time stamps

  // the rest belongs to libudt's receiving thread
  AdaptiveRate adaptive_;
  LossTracker losses_;
  int64_t packets_received_ = 0;
  int64_t packets_arrived_ = 0;
  int64_t last_report_us_ = 0;
  int64_t naks_repeated_ = 0;
  int64_t timeouts_ = 0;
  bool peer_reports_ = false;
};

class RateControlFactory : public CCCVirtualFactory {
 public:
  explicit RateControlFactory(const RateSettings& settings) : settings_(settings) {}
  CCC* create() override { return new RateControl(settings_); }
  CCCVirtualFactory* clone() override { return new RateControlFactory(settings_); }

 private:
  RateSettings settings_;
};

}  // namespace longhaul
