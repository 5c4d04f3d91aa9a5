// `fixed`: the stated rate, whatever happens. For dedicated bandwidth only: it does not make room for others.
#pragma once

#include "congestion.hpp"

namespace longhaul::udt {

class FixedControl final : public CongestionControl {
 public:
  explicit FixedControl(const ControlSettings& settings);

  void on_feedback(const Feedback& feedback) override;
  void on_timeout(Micros) override {}
  void set_ceiling(double packets_per_second) override { ceiling_ = packets_per_second; }

  double rate() const override;
  double window() const override;
  std::string_view name() const override { return "fixed"; }
  std::string_view state() const override { return "fixed"; }

 private:
  double stated_;
  double ceiling_;
  Micros rtt_ = 0;  // smoothed
};

}  // namespace longhaul::udt
