#include "fixed_control.hpp"

#include <algorithm>

namespace longhaul::udt {

namespace {
// What the window allows beyond a round trip: reports that come late, a queue that builds up.
constexpr double kSlackSeconds = 0.25;
// A lost packet is in flight until it is found lost, a round trip and more.
constexpr double kRoundTrips = 3;
constexpr double kSmallestWindow = 64;
// The rate counts full packets, the window any: of small messages it takes many to fill the pipe.
constexpr double kSmallPackets = 16;
constexpr double kSlowest = 1;  // packets a second
}  // namespace

FixedControl::FixedControl(const ControlSettings& settings) : stated_(settings.rate), ceiling_(settings.ceiling) {}

void FixedControl::on_feedback(const Feedback& feedback) {
  if (feedback.smoothed_rtt > 0) rtt_ = feedback.smoothed_rtt;
}

double FixedControl::rate() const {
  double rate = std::max(stated_, kSlowest);
  return ceiling_ > 0 ? std::min(rate, ceiling_) : rate;
}

double FixedControl::window() const {
  double round_trip = rtt_ > 0 ? static_cast<double>(rtt_) * 1e-6 : 0.1;
  return std::max(kSmallestWindow, kSmallPackets * rate() * (kRoundTrips * round_trip + kSlackSeconds));
}

}  // namespace longhaul::udt
