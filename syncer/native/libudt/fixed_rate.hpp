// The congestion control that libudt's documentation means for dedicated bandwidth: a rate that never changes, and
// nothing else of ours. A baseline, so libudt's own loss recovery is left as it is.
#pragma once

#include <udt/udt.h>
#include <udt/ccc.h>

namespace longhaul {

class FixedRate : public CCC {
 public:
  // Bits a second on the wire, Ethernet, IP and UDP headers counted.
  explicit FixedRate(double rate_bps) : rate_bps_(rate_bps) {}

  void init() override {
    constexpr int kEthernetHeader = 14;
    constexpr double kWindowWithoutLimit = 25600.0;
    // Every 16th new packet goes out together with the next one, to probe: 16 packets leave in 15 periods.
    constexpr double kProbePairs = 16.0 / 15.0;
    setACKTimer(m_iSYNInterval);  // microseconds in 4.11, whatever its header says
    m_dPktSndPeriod = (m_iMSS + kEthernetHeader) * 8.0 * 1e6 / rate_bps_ * kProbePairs;
    m_dCWndSize = m_dMaxCWndSize > 0 ? m_dMaxCWndSize : kWindowWithoutLimit;
  }

 private:
  double rate_bps_;
};

class FixedRateFactory : public CCCVirtualFactory {
 public:
  explicit FixedRateFactory(double rate_bps) : rate_bps_(rate_bps) {}
  CCC* create() override { return new FixedRate(rate_bps_); }
  CCCVirtualFactory* clone() override { return new FixedRateFactory(rate_bps_); }

 private:
  double rate_bps_;
};

}  // namespace longhaul
