#include "rate_control.hpp"

#include <udt/packet.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <limits>

namespace longhaul {

namespace {
constexpr int kEthernetHeader = 14;
// libudt sends every 16th new packet together with the next one, to probe: 16 packets leave in 15 periods.
constexpr double kProbePairs = 16.0 / 15.0;
constexpr int64_t kReportIntervalUs = 10'000;
constexpr int32_t kReportTag = 0x4c484631;
constexpr int kReportWords = 6;
constexpr int kNakType = 3;
constexpr int kUserType = 0x7fff;
constexpr std::size_t kNakWords = 256;
constexpr int64_t kNakPatienceFloorUs = 30'000;

int64_t now_us() {
  using namespace std::chrono;
  return duration_cast<microseconds>(steady_clock::now().time_since_epoch()).count();
}

int32_t low_word(int64_t value) { return static_cast<int32_t>(static_cast<uint64_t>(value) & 0xffffffffu); }
int32_t high_word(int64_t value) { return static_cast<int32_t>(static_cast<uint64_t>(value) >> 32); }
int64_t join(int32_t low, int32_t high) {
  return static_cast<int64_t>(static_cast<uint64_t>(static_cast<uint32_t>(high)) << 32 | static_cast<uint32_t>(low));
}
}  // namespace

RateSettings RateShared::settings() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return settings_;
}

void RateShared::set(const RateSettings& settings) {
  std::lock_guard<std::mutex> lock(mutex_);
  settings_ = settings;
}

RateStatus RateShared::status() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return status_;
}

void RateShared::publish(const RateStatus& status) {
  std::lock_guard<std::mutex> lock(mutex_);
  status_ = status;
}

double RateControl::wire_bits() const { return (m_iMSS + kEthernetHeader) * 8.0; }

void RateControl::init() {
  setACKTimer(m_iSYNInterval);  // microseconds in 4.11, whatever its header says
  apply();
}

void RateControl::apply() {
  const RateSettings settings = shared_->settings();
  const double bits = wire_bits();
  adaptive_.set_limits(settings.floor_bps / bits,
                       settings.ceiling_bps > 0 ? settings.ceiling_bps / bits : std::numeric_limits<double>::max());
  // A peer that does not report how much arrives is sent to at the floor's pace at least; libudt's own estimate of the
  // arrival rate stands in for the report.
  const bool fixed = settings.rate_bps > 0;
  double rate = fixed ? settings.rate_bps / bits : adaptive_.rate();
  if (!fixed && !peer_reports_) rate = std::max(rate, 1.2 * m_iRcvRate);
  m_dPktSndPeriod = 1e6 / rate * kProbePairs;
  const double widest = m_dMaxCWndSize > 0 ? m_dMaxCWndSize : 25600.0;
  m_dCWndSize = fixed || !peer_reports_ ? widest : std::min(widest, adaptive_.window());

  publish(rate);
}

void RateControl::publish(double rate) {
  const bool fixed = shared_->settings().rate_bps > 0;
  RateStatus status;
  static constexpr std::array<const char*, 3> names{"start", "drain", "hold"};
  status.state = fixed ? "fixed" : names[static_cast<std::size_t>(adaptive_.state())];
  status.target_bps = rate * wire_bits();
  status.delivered_bps = adaptive_.delivered() * wire_bits();
  status.loss = adaptive_.loss();
  status.rtt_us = adaptive_.smoothed_rtt_us() ? adaptive_.smoothed_rtt_us() : m_iRTT;
  status.min_rtt_us = adaptive_.min_rtt_us();
  status.packets_sent = packets_sent_.load(std::memory_order_relaxed);
  status.packets_arrived = packets_arrived_;
  status.packets_received = packets_received_;
  status.packets_missing = losses_.missing_packets();
  status.naks_repeated = naks_repeated_;
  status.timeouts = timeouts_;
  shared_->publish(status);
}

void RateControl::onACK(int32_t) { apply(); }

void RateControl::onLoss(const int32_t*, int) { apply(); }

void RateControl::onTimeout() {
  ++timeouts_;
  apply();
}

void RateControl::onPktSent(const CPacket* packet) {
  packets_sent_.fetch_add(1, std::memory_order_relaxed);
  clock_offset_us_.store(now_us() - packet->m_iTimeStamp, std::memory_order_relaxed);
}

void RateControl::onPktReceived(const CPacket* packet) {
  const int64_t now = now_us();
  ++packets_received_;
  losses_.arrived(packet->m_iSeqNo, now);
  if (now - last_report_us_ < kReportIntervalUs) return;
  last_report_us_ = now;
  report(now, packet->m_iTimeStamp);
  if (!losses_.empty()) repeat_losses(now);
  publish(1e6 / m_dPktSndPeriod * kProbePairs);
}

void RateControl::report(int64_t now, int32_t echoed_stamp) {
  std::array<int32_t, kReportWords> words{kReportTag,    low_word(packets_received_), high_word(packets_received_),
                                          low_word(now), high_word(now),              echoed_stamp};
  int32_t extended_type = 0;
  CPacket packet;
  packet.pack(kUserType, &extended_type, words.data(), static_cast<int>(sizeof words));
  sendCustomMsg(packet);
}

void RateControl::repeat_losses(int64_t now) {
  const int64_t patience = std::max<int64_t>(kNakPatienceFloorUs, m_iRTT + m_iRTT / 4 + kReportIntervalUs);
  std::vector<int32_t> words = losses_.overdue(now, patience, kNakWords);
  if (words.empty()) return;
  ++naks_repeated_;
  CPacket packet;
  packet.pack(kNakType, nullptr, words.data(), static_cast<int>(words.size() * sizeof(int32_t)));
  sendCustomMsg(packet);
}

void RateControl::processCustomMsg(const CPacket* packet) {
  if (packet->getLength() < static_cast<int>(kReportWords * sizeof(int32_t))) return;
  const auto* words = reinterpret_cast<const int32_t*>(packet->m_pcData);
  if (words[0] != kReportTag) return;
  const int64_t arrived = join(words[1], words[2]);
  if (arrived < packets_arrived_) return;  // overtaken on the way
  peer_reports_ = true;
  packets_arrived_ = arrived;
  Feedback feedback{};
  feedback.now_us = now_us();
  feedback.receiver_us = join(words[3], words[4]);
  feedback.sent_packets = packets_sent_.load(std::memory_order_relaxed);
  feedback.arrived_packets = arrived;
  feedback.rtt_us = feedback.now_us - clock_offset_us_.load(std::memory_order_relaxed) - words[5];
  adaptive_.on_feedback(feedback);
  apply();
}

}  // namespace longhaul
