#include "control_simulation.hpp"

#include <algorithm>
#include <cmath>

namespace longhaul::udt::simulation {

namespace {

constexpr Nanos kMicro = 1000;
constexpr Micros kBin = 100'000;

// The steps in nanoseconds, and which one holds; asked for times that only grow by little.
class Schedule {
 public:
  explicit Schedule(const PathSettings& path) : steps_(path.steps), period_(path.period * kMicro) {}

  const PathStep& at(Nanos now, Nanos* until) {
    Nanos base = 0;
    Nanos inside = now;
    if (period_ > 0) {
      base = now / period_ * period_;
      inside = now - base;
    }
    if (index_ >= steps_.size() || steps_[index_].at * kMicro > inside) index_ = 0;
    while (index_ + 1 < steps_.size() && steps_[index_ + 1].at * kMicro <= inside) ++index_;
    if (until != nullptr) {
      *until = index_ + 1 < steps_.size() ? base + steps_[index_ + 1].at * kMicro
               : period_ > 0              ? base + period_
                                          : std::numeric_limits<Nanos>::max();
    }
    return steps_[index_];
  }

 private:
  const std::vector<PathStep>& steps_;
  Nanos period_;
  size_t index_ = 0;
};

class Bottleneck {
 public:
  explicit Bottleneck(const PathSettings& path) : path_(path), enqueueing_(path), serving_(path), random_(path.seed) {}

  // When the packet leaves, or -1: lost. `overflow` tells by which cause.
  Nanos enqueue(Nanos now, bool* overflow) {
    *overflow = false;
    while (!departures_.empty() && departures_.front() <= now) departures_.pop_front();
    const PathStep& step = enqueueing_.at(now, nullptr);
    if (step.blocked || (step.loss > 0 && uniform() < step.loss)) return -1;
    if (path_.loss_first && lost_by_chance()) return -1;
    if ((static_cast<double>(departures_.size()) + 1) * kPacketBits > path_.buffer_bits + kPacketBits) {
      *overflow = true;
      return -1;
    }
    Nanos at = std::max(now, free_);
    double left = kPacketBits;
    while (true) {
      Nanos until = 0;
      double per_nano = std::max(serving_.at(at, &until).bits_per_second, 1.0) * 1e-9;
      double possible = until == std::numeric_limits<Nanos>::max() ? 1e300 : per_nano * static_cast<double>(until - at);
      if (possible >= left) {
        at += static_cast<Nanos>(left / per_nano) + 1;
        break;
      }
      left -= possible;
      at = until;
    }
    free_ = at;
    departures_.push_back(at);
    return at;
  }

  bool lost_by_chance() {
    if (path_.burst_begin > 0) {
      if (burst_ ? uniform() < path_.burst_end : uniform() < path_.burst_begin) burst_ = !burst_;
      if (burst_ && uniform() < path_.burst_loss) return true;
    }
    return path_.loss > 0 && uniform() < path_.loss;
  }

  Nanos arrival(Nanos departure) {
    const PathStep& step = arriving_at(departure);
    double shift = 0;
    if (step.jitter > 0) {
      double wide = static_cast<double>(step.jitter * kMicro);
      if (path_.reorder) {
        shift = wide * (2 * uniform() - 1);
      } else {
        while (departure >= jitter_next_) {
          jitter_from_ = jitter_to_;
          jitter_to_ = 2 * uniform() - 1;
          jitter_next_ += 5'000 * kMicro;
        }
        double part = static_cast<double>(jitter_next_ - departure) / (5'000.0 * kMicro);
        shift = wide * (jitter_from_ * part + jitter_to_ * (1 - part));
      }
    }
    Nanos arrival = departure + step.delay * kMicro + static_cast<Nanos>(shift);
    if (!path_.reorder) arrival = std::max(arrival, last_arrival_);
    last_arrival_ = std::max(arrival, last_arrival_);
    return arrival;
  }

 private:
  const PathStep& arriving_at(Nanos departure) { return departing_.at(departure, nullptr); }
  double uniform() { return std::uniform_real_distribution<double>(0, 1)(random_); }

  const PathSettings& path_;
  Schedule enqueueing_, serving_, departing_{path_};
  std::mt19937_64 random_;
  std::deque<Nanos> departures_;
  Nanos free_ = 0;
  bool burst_ = false;
  double jitter_from_ = 0, jitter_to_ = 0;
  Nanos jitter_next_ = 0;
  Nanos last_arrival_ = 0;
};

enum class Fate : uint8_t { kInFlight, kDelivered, kLost };

struct Transmission {
  PacketNumber number;
  Micros sent;
  Micros delivered_time;
  Micros first_sent;
  int64_t delivered;
  int64_t lost;
  int64_t in_flight;
  bool application_limited;
  Fate fate = Fate::kInFlight;
};

struct Arrival {
  Nanos at;
  int64_t transmission;
  bool operator>(const Arrival& other) const { return at > other.at; }
};

struct Report {
  Nanos sent = 0;
  std::vector<Arrival> arrivals;
};

struct Flow {
  FlowSettings settings;
  std::unique_ptr<CongestionControl> control;
  std::mt19937_64 random{7};

  std::deque<Transmission> transmissions;  // from `first` on
  int64_t first = 0;
  int64_t oldest_open = 0;
  std::deque<PacketNumber> repeat;
  std::vector<bool> arrived;  // by packet number
  PacketNumber next_new = 0;
  int64_t delivered = 0, lost = 0, in_flight = 0;
  Micros delivered_time = 0, first_sent = 0, smoothed_rtt = 0, smallest_rtt = kNever;
  Micros newest_delivered_sent = -1;
  Nanos next_send = 0;
  bool wake_pending = false;
  Nanos stall_next = 0, stalled_until = 0;
  int64_t limited_until = 0;  // application-limited while delivered < this
  Micros heard = 0;
  Nanos probe_at = 0;
  int probes = 0;

  std::priority_queue<Arrival, std::vector<Arrival>, std::greater<Arrival>> receiving;
  std::deque<Report> reports;
  Nanos last_report_arrival = 0;
  FlowResult result;
};

enum class Kind { kWake, kReport, kHear, kProbe };
struct Event {
  Nanos at;
  uint64_t order;
  Kind kind;
  size_t flow;
  bool operator>(const Event& other) const { return at != other.at ? at > other.at : order > other.order; }
};

class Simulation {
 public:
  Simulation(const PathSettings& path, const std::vector<FlowSettings>& flows, Micros duration, const Observer& observer)
      : path_(path), link_(path_), back_(path_), end_(duration * kMicro), observer_(observer) {
    for (size_t i = 0; i < flows.size(); ++i) {
      Flow& flow = flows_.emplace_back();
      flow.settings = flows[i];
      flow.control = flows[i].control();
      flow.random.seed(11 + i);
      flow.result.delivered_bits.resize(static_cast<size_t>(duration / kBin + 1));
      flow.heard = flows[i].start;
      flow.delivered_time = flow.first_sent = flows[i].start;
      flow.next_send = flows[i].start * kMicro;
      schedule(flows[i].start * kMicro, Kind::kWake, i);
      schedule(flows[i].start * kMicro, Kind::kReport, i);
      schedule(flows[i].start * kMicro + 100'000 * kMicro, Kind::kProbe, i);
    }
  }

  Result run() {
    while (!events_.empty()) {
      Event event = events_.top();
      if (event.at > end_) break;
      events_.pop();
      now_ = event.at;
      Flow& flow = flows_[event.flow];
      switch (event.kind) {
        case Kind::kWake: flow.wake_pending = false; send(flow, event.flow, false); break;
        case Kind::kReport: report(flow, event.flow); break;
        case Kind::kHear: hear(flow, event.flow); break;
        case Kind::kProbe: probe(flow, event.flow); break;
      }
    }
    Result result;
    for (Flow& flow : flows_) result.flows.push_back(std::move(flow.result));
    result.queue = std::move(queue_);
    result.path = path_;
    return result;
  }

 private:
  void schedule(Nanos at, Kind kind, size_t flow) { events_.push({at, order_++, kind, flow}); }
  void wake(Flow& flow, size_t index, Nanos at) {
    if (flow.wake_pending) return;
    flow.wake_pending = true;
    schedule(std::max(at, now_), Kind::kWake, index);
  }
  Micros micros() const { return now_ / kMicro; }

  // How long the host stands still from now on.
  Nanos stalled(Flow& flow) {
    if (flow.settings.stalls_per_second <= 0) return 0;
    if (now_ >= flow.stall_next) {
      if (flow.stall_next > 0) {
        flow.stalled_until = now_ + std::uniform_int_distribution<Nanos>(5'000'000, 10'000'000)(flow.random);
      }
      flow.stall_next =
          now_ + static_cast<Nanos>(std::exponential_distribution<double>(flow.settings.stalls_per_second)(flow.random) * 1e9);
    }
    return std::max<Nanos>(0, flow.stalled_until - now_);
  }

  bool application_idle(const Flow& flow, Nanos* resumes) const {
    if (flow.settings.busy <= 0) return false;
    Nanos cycle = (flow.settings.busy + flow.settings.idle) * kMicro;
    Nanos inside = (now_ - flow.settings.start * kMicro) % cycle;
    if (inside < flow.settings.busy * kMicro) return false;
    *resumes = now_ + cycle - inside;
    return true;
  }

  void send(Flow& flow, size_t index, bool forced) {
    if (micros() >= flow.settings.stop) return;
    if (Nanos pause = stalled(flow); pause > 0 && !forced) return wake(flow, index, now_ + pause);
    constexpr Nanos kLargestDebt = 3'000'000, kBurst = 250'000;
    flow.next_send = std::max(flow.next_send, now_ - kLargestDebt);
    while (forced || flow.next_send <= now_ + kBurst) {
      if (!forced && static_cast<double>(flow.in_flight) + 1 > flow.control->window()) return;  // a report will wake it
      Nanos resumes = 0;
      if (flow.repeat.empty() && application_idle(flow, &resumes)) {
        flow.limited_until = flow.delivered + flow.in_flight;
        return wake(flow, index, resumes);
      }
      transmit(flow);
      // Timers are never exact, and an exact one lets flows lock in step.
      double apart = std::uniform_real_distribution<double>(0.8, 1.2)(flow.random) * 1e9;
      flow.next_send += static_cast<Nanos>(apart / flow.control->rate());
      forced = false;
    }
    wake(flow, index, flow.next_send);
  }

  void transmit(Flow& flow) {
    PacketNumber number;
    if (flow.repeat.empty()) {
      number = flow.next_new++;
      flow.arrived.push_back(false);
    } else {
      number = flow.repeat.front();
      flow.repeat.pop_front();
    }
    bool restart = flow.in_flight == 0;
    if (restart) {
      flow.first_sent = flow.delivered_time = micros();
      flow.heard = micros();
    }
    flow.control->on_sent(micros(), number, flow.in_flight, restart);
    int64_t id = flow.first + static_cast<int64_t>(flow.transmissions.size());
    flow.transmissions.push_back({number, micros(), flow.delivered_time, flow.first_sent, flow.delivered, flow.lost,
                                  flow.in_flight, flow.delivered < flow.limited_until});
    ++flow.in_flight;
    ++flow.result.sent;
    bool overflow = false;
    Nanos departure = link_.enqueue(now_, &overflow);
    if (overflow) ++flow.result.overflowed;
    if (departure >= 0) {
      if (queue_.empty() || micros() >= queue_.back().at + 1000) {
        queue_.push_back({micros(), static_cast<double>(departure - now_) / kMicro});
      }
      if (path_.loss_first || !link_.lost_by_chance()) flow.receiving.push({link_.arrival(departure), id});
    }
  }

  void report(Flow& flow, size_t index) {
    Micros interval = std::min<Micros>(10'000, std::max<Micros>(2'000, flow.smoothed_rtt / 8));
    schedule(now_ + interval * kMicro, Kind::kReport, index);
    if (flow.receiving.empty() || flow.receiving.top().at > now_) return;
    Report report;
    report.sent = now_;
    while (!flow.receiving.empty() && flow.receiving.top().at <= now_) {
      report.arrivals.push_back(flow.receiving.top());
      flow.receiving.pop();
    }
    Nanos delay = (back_.at(now_, nullptr).delay + flow.settings.extra_delay) * kMicro;
    if (flow.settings.back_jitter > 0) {
      delay += static_cast<Nanos>(std::uniform_real_distribution<double>(0, flow.settings.back_jitter)(flow.random) * kMicro);
    }
    Nanos arrival = std::max(now_ + delay, flow.last_report_arrival);
    flow.last_report_arrival = arrival;
    flow.reports.push_back(std::move(report));
    schedule(arrival, Kind::kHear, index);
  }

  Transmission& at(Flow& flow, int64_t id) { return flow.transmissions[static_cast<size_t>(id - flow.first)]; }

  void hear(Flow& flow, size_t index) {
    if (Nanos pause = stalled(flow); pause > 0) {
      schedule(now_ + pause, Kind::kHear, index);
      return;
    }
    Report report = std::move(flow.reports.front());
    flow.reports.pop_front();
    Micros now = micros();
    flow.heard = now;
    flow.probes = 0;
    Feedback feedback;
    feedback.now = now;
    const Arrival* newest = nullptr;
    int64_t newest_id = -1;
    for (const Arrival& arrival : report.arrivals) {
      if (arrival.transmission < flow.first) continue;  // spurious: was given up long ago
      Transmission& sent = at(flow, arrival.transmission);
      if (sent.fate == Fate::kInFlight) --flow.in_flight;
      sent.fate = Fate::kDelivered;
      flow.newest_delivered_sent = std::max(flow.newest_delivered_sent, sent.sent);
      auto number = static_cast<size_t>(sent.number);
      if (!flow.arrived[number]) {
        flow.arrived[number] = true;
        ++flow.delivered;
        ++feedback.newly_delivered;
        auto bin = static_cast<size_t>(arrival.at / kMicro / kBin);
        if (bin < flow.result.delivered_bits.size()) flow.result.delivered_bits[bin] += kPayloadBits;
      }
      if (newest == nullptr || arrival.at >= newest->at) newest = &arrival;
      newest_id = std::max(newest_id, arrival.transmission);
    }
    if (newest == nullptr || newest_id < 0) return;
    flow.delivered_time = now;
    const Transmission sample = at(flow, newest_id);
    const Transmission last = at(flow, newest->transmission);
    Micros waited = (report.sent - newest->at) / kMicro;
    feedback.rtt = std::max<Micros>(1, now - last.sent - waited);
    flow.smoothed_rtt = flow.smoothed_rtt == 0 ? feedback.rtt : flow.smoothed_rtt + (feedback.rtt - flow.smoothed_rtt) / 8;
    flow.smallest_rtt = std::min(flow.smallest_rtt, feedback.rtt);
    feedback.smoothed_rtt = flow.smoothed_rtt;
    feedback.forward_delay = newest->at / kMicro - last.sent + 123'456'789;

    Micros tolerance = path_.reorder ? flow.smoothed_rtt / 4 : 0;
    for (int64_t id = std::max(flow.oldest_open, flow.first); id <= newest_id; ++id) {
      Transmission& sent = at(flow, id);
      if (sent.fate == Fate::kInFlight && (tolerance > 0 ? sent.sent + tolerance < flow.newest_delivered_sent : id < newest_id)) {
        sent.fate = Fate::kLost;
        --flow.in_flight;
        ++flow.lost;
        ++flow.result.lost;
        ++feedback.newly_lost;
        feedback.largest_lost = std::max(feedback.largest_lost, sent.number);
        if (!flow.arrived[static_cast<size_t>(sent.number)]) flow.repeat.push_back(sent.number);
      }
    }
    while (flow.oldest_open <= newest_id && at(flow, flow.oldest_open).fate != Fate::kInFlight) ++flow.oldest_open;

    feedback.next_new = flow.next_new;
    feedback.delivered = flow.delivered;
    feedback.in_flight = flow.in_flight;
    flow.first_sent = sample.sent;
    feedback.prior_delivered = sample.delivered;
    feedback.prior_in_flight = sample.in_flight;
    feedback.application_limited = sample.application_limited;
    feedback.sample_delivered = flow.delivered - sample.delivered;
    feedback.sample_lost = flow.lost - sample.lost;
    feedback.sample_interval = std::max(sample.sent - sample.first_sent, now - sample.delivered_time);
    if (feedback.sample_interval >= flow.smallest_rtt / 2 && feedback.sample_interval > 0) {
      feedback.delivery_rate =
          static_cast<double>(feedback.sample_delivered) * 1e6 / static_cast<double>(feedback.sample_interval);
    }
    while (!flow.transmissions.empty() && flow.first + 1 < flow.oldest_open && flow.first + 200'000 < newest_id) {
      flow.transmissions.pop_front();
      ++flow.first;
    }
    flow.control->on_feedback(feedback);
    if (observer_) observer_(now, index, *flow.control, feedback);
    // The pacer takes up a new rate at once.
    flow.next_send = std::min(flow.next_send, now_ + static_cast<Nanos>(1e9 / flow.control->rate()));
    wake(flow, index, flow.next_send);
  }

  // Nothing heard: one packet beyond the window; after three of these it is a timeout.
  void probe(Flow& flow, size_t index) {
    Micros patience = std::max<Micros>(2 * flow.smoothed_rtt, 60'000) + 40'000;
    if (flow.in_flight > 0 && micros() - flow.heard > patience * (1 << std::min(flow.probes, 3)) &&
        now_ >= flow.probe_at) {
      flow.probe_at = now_ + patience * kMicro * (1 << std::min(flow.probes, 3));
      if (++flow.probes == 3) flow.control->on_timeout(micros());
      send(flow, index, true);
    }
    schedule(now_ + 20'000 * kMicro, Kind::kProbe, index);
  }

  PathSettings path_;
  Bottleneck link_;
  Schedule back_;
  Nanos end_;
  const Observer& observer_;
  std::deque<Flow> flows_;
  std::priority_queue<Event, std::vector<Event>, std::greater<Event>> events_;
  uint64_t order_ = 0;
  Nanos now_ = 0;
  std::vector<Sample> queue_;
};

}  // namespace

PathStep step_at(const PathSettings& path, Nanos at) {
  Schedule schedule(path);
  return schedule.at(at, nullptr);
}

Result simulate(const PathSettings& path, const std::vector<FlowSettings>& flows, Micros duration, const Observer& observer) {
  return Simulation(path, flows, duration, observer).run();
}

double FlowResult::goodput(Micros from, Micros to) const {
  double bits = 0;
  for (auto bin = static_cast<size_t>(from / kBin); bin < static_cast<size_t>(to / kBin) && bin < delivered_bits.size(); ++bin) {
    bits += delivered_bits[bin];
  }
  return bits * 1e6 / static_cast<double>(to - from);
}

double Result::offered_bits(Micros from, Micros to) const {
  Schedule schedule(path);
  double bits = 0;
  for (Nanos at = from * kMicro; at < to * kMicro;) {
    Nanos until = 0;
    const PathStep& step = schedule.at(at, &until);
    until = std::min(until, to * kMicro);
    if (!step.blocked) bits += step.bits_per_second * 1e-9 * static_cast<double>(until - at);
    at = until;
  }
  return bits;
}

double Result::queue_share(double share, Micros from, Micros to) const {
  std::vector<double> found;
  for (const Sample& sample : queue) {
    if (sample.at >= from && sample.at < to) found.push_back(sample.queue);
  }
  if (found.empty()) return 0;
  auto place = static_cast<size_t>(share * static_cast<double>(found.size() - 1));
  std::nth_element(found.begin(), found.begin() + static_cast<std::ptrdiff_t>(place), found.end());
  return found[place] / 1000;
}

double fairness(const Result& result, Micros from, Micros to) {
  double sum = 0, squares = 0;
  for (const FlowResult& flow : result.flows) {
    double goodput = flow.goodput(from, to);
    sum += goodput;
    squares += goodput * goodput;
  }
  return squares > 0 ? sum * sum / (static_cast<double>(result.flows.size()) * squares) : 0;
}

FlowSettings flow_of(ControlKind kind, double rate, double ceiling, uint64_t seed) {
  FlowSettings flow;
  flow.control = [=] { return make_control({.kind = kind, .rate = rate, .ceiling = ceiling, .seed = seed}); };
  return flow;
}

PathSettings constant_path(double bits_per_second, Micros round_trip, double buffer_bdp, double loss) {
  PathSettings path;
  path.steps = {PathStep{0, bits_per_second, round_trip / 2, 0, false, 0}};
  path.buffer_bits = std::max(buffer_bdp * bits_per_second * static_cast<double>(round_trip) * 1e-6, 4 * kPacketBits);
  path.loss = loss;
  return path;
}

}  // namespace longhaul::udt::simulation
