#include "simulated_link.hpp"

#include <algorithm>

namespace longhaul::udt::virtual_time {

SimulatedLink::SimulatedLink(const LinkModel& model, uint64_t seed) : model_(model), random_(seed) {}

bool SimulatedLink::is_lost(std::span<const uint8_t> datagram, Micros now) {
  for (const Outage& outage : model_.outages)
    if (now >= outage.from && now < outage.to) return true;
  if (drop && drop(datagram, now)) return true;
  if (model_.burst <= 1) return chance(model_.loss);
  if (in_burst_)
    in_burst_ = !chance(1 / model_.burst);
  else
    in_burst_ = chance(model_.loss / (model_.burst * (1 - model_.loss)));
  return in_burst_;
}

void SimulatedLink::send(size_t flow, std::span<const uint8_t> datagram, Micros now) {
  ++offered;
  const auto bytes = static_cast<double>(datagram.size() + kOverhead);
  const double waits = std::max(0.0, free_at_ - static_cast<double>(now));
  if (waits * model_.rate_bps / 8e6 + bytes > static_cast<double>(model_.buffer_bytes)) {
    ++overflowed;
    return;
  }
  free_at_ = static_cast<double>(now) + waits + bytes * 8e6 / model_.rate_bps;
  queueing_us.push_back(static_cast<uint32_t>(waits));
  carried_bytes += static_cast<int64_t>(bytes);
  if (is_lost(datagram, now)) {
    ++lost;
    return;
  }
  const auto leaves_at = static_cast<Micros>(free_at_) + 1;
  deliver(flow, datagram, leaves_at);
  if (chance(model_.duplication)) deliver(flow, datagram, leaves_at);
}

void SimulatedLink::deliver(size_t flow, std::span<const uint8_t> datagram, Micros leaves_at) {
  Micros arrives_at = leaves_at + model_.delay;
  if (model_.jitter > 0) arrives_at += static_cast<Micros>(unit_(random_) * static_cast<double>(model_.jitter));
  if (!model_.reordering) arrives_at = std::max(arrives_at, last_arrival_);
  last_arrival_ = std::max(last_arrival_, arrives_at);
  std::vector<uint8_t> memory;
  if (!spare_.empty()) {
    memory = std::move(spare_.back());
    spare_.pop_back();
  }
  memory.assign(datagram.begin(), datagram.end());
  under_way_.push({arrives_at, order_++, flow, std::move(memory)});
}

Parcel SimulatedLink::take() {
  // The queue's top is constant for fear of a broken order; it leaves at once.
  Parcel parcel = std::move(const_cast<Parcel&>(under_way_.top()));
  under_way_.pop();
  return parcel;
}

}  // namespace longhaul::udt::virtual_time
