// The laws over many simulated paths, as tables: for tuning, and for what a report says of them.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "competitors.hpp"
#include "control_simulation.hpp"
#include "trace_path.hpp"

using namespace longhaul::udt;
using namespace longhaul::udt::simulation;

namespace {

ControlKind kind_of(const std::string& name) {
  if (name == "native") return ControlKind::kNative;
  if (name == "fixed") return ControlKind::kFixed;
  if (name == "background") return ControlKind::kBackground;
  return ControlKind::kBbr;
}

FlowSettings competitor(const std::string& name, uint64_t seed) {
  FlowSettings flow;
  if (name == "cubic") flow.control = [] { return std::make_unique<CubicCompetitor>(); };
  else if (name == "bbr1") flow.control = [] { return std::make_unique<BbrOneCompetitor>(); };
  else return flow_of(kind_of(name), 0, 0, seed);
  return flow;
}

struct Loss {
  const char* name;
  double random;
  bool bursts;
};
constexpr Loss kLosses[] = {{"0", 0, false}, {"0.1%", 0.001, false}, {"1%", 0.01, false}, {"5%", 0.05, false}, {"bursts", 0, true}};

void set_loss(PathSettings& path, const Loss& loss) {
  path.loss = loss.random;
  if (loss.bursts) {
    path.burst_begin = 0.0005;  // bursts of 20 packets, half of them lost: 0.5% in all
    path.burst_end = 0.05;
    path.burst_loss = 0.5;
  }
}

double share_of(const Result& result, double rate, Micros from, Micros to) {
  return result.flows[0].goodput(from, to) / rate;
}

// Of the share, what of it was possible: payload over packet, less what is lost after the bottleneck.
double ceiling_of(const PathSettings& path) {
  double loss = path.loss;
  if (path.burst_begin > 0) loss += path.burst_loss * path.burst_begin / (path.burst_begin + path.burst_end);
  return kPayloadBits / kPacketBits * (1 - loss);
}

void grid(const std::string& law, const std::vector<double>& rates, double seconds, Micros jitter, double stalls) {
  std::printf("law %s, share of the link's rate after 3 s (of the possible), queue p95 ms, overflow %%\n", law.c_str());
  std::printf("%6s %5s %6s %6s | %6s %6s %6s %6s %6s\n", "Mbit/s", "RTT", "loss", "buffer", "share", "of poss", "q50", "q95", "over%");
  double worst = 1;
  for (double rate : rates) {
    for (Micros rtt : {10'000, 80'000, 200'000, 300'000}) {
      for (const Loss& loss : kLosses) {
        for (double buffer : {0.1, 1.0, 5.0}) {
          PathSettings path = constant_path(rate, rtt, buffer);
          set_loss(path, loss);
          path.steps[0].jitter = std::min(jitter, rtt / 2);
          FlowSettings flow = flow_of(kind_of(law), rate / kPacketBits * 0.99);
          flow.stalls_per_second = stalls;
          auto length = static_cast<Micros>(seconds * 1e6);
          Result result = simulate(path, {flow}, length);
          double share = share_of(result, rate, 3'000'000, length);
          const FlowResult& mine = result.flows[0];
          double part = share / ceiling_of(path);
          worst = std::min(worst, part);
          std::printf("%6.0f %5.0f %6s %6.1f | %6.3f %6.3f %6.1f %6.1f %6.2f%s\n", rate / 1e6, static_cast<double>(rtt) / 1000, loss.name, buffer,
                      share, part, result.queue_share(0.5, 3'000'000, length), result.queue_share(0.95, 3'000'000, length),
                      100.0 * static_cast<double>(mine.overflowed) / static_cast<double>(mine.sent), part < 0.985 ? "  <" : "");
          std::fflush(stdout);
        }
      }
    }
  }
  std::printf("worst part of the possible: %.3f\n", worst);
}

void traces(const std::string& law, const std::string& folder) {
  std::printf("law %s: trace, share of what was offered after 3 s, queue p50, p95 ms, overflow %%\n", law.c_str());
  for (const char* name : {"lte-driving", "5g-driving", "3g-driving", "leo-satellite", "geo-satellite", "train-tunnels"}) {
    for (bool up : {false, true}) {
      PathSettings path = read_trace(folder + "/" + name + ".trace", up);
      Micros length = 300'000'000;
      Result result = simulate(path, {flow_of(kind_of(law))}, length);
      double offered = result.offered_bits(3'000'000, length) / (static_cast<double>(length - 3'000'000) * 1e-6);
      const FlowResult& mine = result.flows[0];
      std::printf("%14s %4s offered %6.2f Mbit/s: %.3f  q50 %6.1f  q95 %7.1f  over %.2f lost %.2f\n", name, up ? "up" : "down", offered / 1e6,
                  mine.goodput(3'000'000, length) / offered, result.queue_share(0.5, 3'000'000, length),
                  result.queue_share(0.95, 3'000'000, length), 100.0 * static_cast<double>(mine.overflowed) / static_cast<double>(mine.sent),
                  100.0 * static_cast<double>(mine.lost) / static_cast<double>(mine.sent));
      std::fflush(stdout);
    }
  }
}

// One trace over time: what was offered and carried in each half second.
void trace(const std::string& law, const std::string& file, bool up) {
  PathSettings path = read_trace(file, up);
  Micros length = 300'000'000, bin = 500'000;
  std::string state;
  std::vector<std::string> states(static_cast<size_t>(length / bin) + 1);
  Result result = simulate(path, {flow_of(kind_of(law))}, length, [&](Micros now, size_t, const CongestionControl& control, const Feedback&) {
    states[static_cast<size_t>(now / bin)] = std::string(control.state());
  });
  for (Micros at = 0; at + bin <= length; at += bin) {
    double offered = result.offered_bits(at, at + bin) / 0.5e6;
    double carried = result.flows[0].goodput(at, at + bin) / 1e6;
    std::printf("%6.1f s: offered %6.2f carried %6.2f missed %6.2f queue p50 %6.1f p95 %6.1f %s\n", static_cast<double>(at) * 1e-6, offered, carried,
                std::max(0.0, 0.962 * offered - carried), result.queue_share(0.5, at, at + bin), result.queue_share(0.95, at, at + bin),
                states[static_cast<size_t>(at / bin)].c_str());
  }
}

void pairs(const std::string& law) {
  std::printf("%-12s %-12s %6s %5s %6s %5s| goodputs 10-20 s, Jain; 20-40 s, Jain; 40-60\n", "first", "second", "Mbit/s", "RTT", "buffer", "loss");
  auto run = [&](const std::string& first, const std::string& second, double rate, Micros rtt, double buffer, double loss, Micros start,
                 Micros extra) {
    PathSettings path = constant_path(rate, rtt, buffer, loss);
    std::vector<FlowSettings> flows{competitor(first, 1), competitor(second, 2)};
    flows[1].start = start;
    flows[1].extra_delay = extra;
    Result result = simulate(path, flows, start + 60'000'000);
    std::printf("%-12s %-12s %6.0f %5.0f %6.1f %5.3f", (first + "").c_str(), (second + (start > 0 ? "+" : "") + (extra > 0 ? "rtt" : "")).c_str(),
                rate / 1e6, static_cast<double>(rtt) / 1000, buffer, loss);
    for (auto [from, to] : {std::pair<Micros, Micros>{10'000'000, 20'000'000}, {20'000'000, 40'000'000}, {40'000'000, 60'000'000}}) {
      std::printf(" | %5.1f %5.1f  %.3f", result.flows[0].goodput(start + from, start + to) / 1e6,
                  result.flows[1].goodput(start + from, start + to) / 1e6, fairness(result, start + from, start + to));
    }
    std::printf(" q95 %.1f\n", result.queue_share(0.95, start + 20'000'000, start + 60'000'000));
    std::fflush(stdout);
  };
  for (double buffer : {0.1, 1.0, 5.0}) {
    run(law, law, 100e6, 80'000, buffer, 0, 0, 0);
    run(law, law, 100e6, 80'000, buffer, 0, 10'000'000, 0);
    run(law, law, 100e6, 80'000, buffer, 0.01, 10'000'000, 0);
    run(law, law, 100e6, 20'000, buffer, 0, 5'000'000, 60'000);
    run(law, law, 20e6, 20'000, buffer, 0, 5'000'000, 0);
    run(law, law, 100e6, 200'000, buffer, 0, 5'000'000, 0);
  }
  for (double buffer : {0.5, 1.0, 3.0}) {
    run(law, "cubic", 50e6, 40'000, buffer, 0, 0, 0);
    run(law, "cubic", 50e6, 40'000, buffer, 0, 5'000'000, 0);
    run("cubic", law, 50e6, 40'000, buffer, 0, 10'000'000, 0);
    run(law, "bbr1", 50e6, 40'000, buffer, 0, 0, 0);
    run("bbr1", law, 50e6, 40'000, buffer, 0, 5'000'000, 0);
  }
  run("cubic", "cubic", 50e6, 40'000, 1, 0, 5'000'000, 0);
  run("bbr1", "cubic", 50e6, 40'000, 1, 0, 0, 0);
}

// A path whose rate or delay steps, over time.
void steps(const std::string& law, const std::string& which, double every) {
  PathSettings path;
  path.buffer_bits = 4e6 * 8;
  if (which == "down") path.steps = {{0, 100e6, 30'000, 0, false, 0}, {8'000'000, 10e6, 30'000, 0, false, 0}};
  if (which == "up") path.steps = {{0, 10e6, 30'000, 0, false, 0}, {8'000'000, 100e6, 30'000, 0, false, 0}};
  if (which == "route") path.steps = {{0, 100e6, 20'000, 0, false, 0}, {8'000'000, 100e6, 50'000, 0, false, 0}};
  if (which == "back") path.steps = {{0, 100e6, 50'000, 0, false, 0}, {8'000'000, 100e6, 20'000, 0, false, 0}};
  if (which == "gap") path.steps = {{0, 50e6, 30'000, 0, false, 0}, {8'000'000, 80, 30'000, 0, false, 0}, {9'500'000, 50e6, 30'000, 0, false, 0}};
  if (which == "slow") path.steps = {{0, 64e3, 50'000, 0, false, 0}};
  Micros length = which == "slow" ? 60'000'000 : 20'000'000;
  Micros next = 0;
  FlowSettings flow = flow_of(kind_of(law));
  Result result = simulate(path, {flow}, length, [&](Micros now, size_t, const CongestionControl& control, const Feedback& feedback) {
    if (now < next) return;
    next = now + static_cast<Micros>(every * 1e6);
    std::printf("%8.3f %-10s rate %8.2f Mbit/s window %7.0f in flight %6lld delivered %8.2f rtt %6.1f lost %lld\n", static_cast<double>(now) * 1e-6,
                std::string(control.state()).c_str(), control.rate() * kPacketBits / 1e6, control.window(),
                static_cast<long long>(feedback.in_flight), feedback.delivery_rate * kPacketBits / 1e6, static_cast<double>(feedback.rtt) / 1000,
                static_cast<long long>(feedback.newly_lost));
  });
  for (size_t i = 0; i * 100'000 < static_cast<size_t>(length); i += 5) {
    std::printf("%.1f s: %.2f Mbit/s, queue p95 %.1f ms\n", static_cast<double>(i) / 10, result.flows[0].goodput(static_cast<Micros>(i) * 100'000, static_cast<Micros>(i + 5) * 100'000) / 1e6,
                result.queue_share(0.95, static_cast<Micros>(i) * 100'000, static_cast<Micros>(i + 5) * 100'000));
  }
}

void one(const std::string& law, double rate, Micros rtt, double loss, double buffer, double seconds, double every, Micros jitter, bool reorder,
         double stalls, double back_jitter) {
  PathSettings path = constant_path(rate, rtt, buffer, loss);
  path.steps[0].jitter = jitter;
  path.reorder = reorder;
  if (loss < 0) set_loss(path, kLosses[4]);
  FlowSettings flow = flow_of(kind_of(law), rate / kPacketBits * 0.99);
  flow.stalls_per_second = stalls;
  flow.back_jitter = back_jitter;
  Micros next = 0;
  auto length = static_cast<Micros>(seconds * 1e6);
  Result result = simulate(path, {flow}, length, [&](Micros now, size_t, const CongestionControl& control, const Feedback& feedback) {
    if (every <= 0 || now < next) return;
    next = now + static_cast<Micros>(every * 1e6);
    std::printf("%8.3f %-10s rate %8.2f Mbit/s window %7.0f in flight %6lld delivered %8.2f rtt %6.1f lost %lld\n", static_cast<double>(now) * 1e-6,
                std::string(control.state()).c_str(), control.rate() * kPacketBits / 1e6, control.window(),
                static_cast<long long>(feedback.in_flight), feedback.delivery_rate * kPacketBits / 1e6, static_cast<double>(feedback.rtt) / 1000,
                static_cast<long long>(feedback.newly_lost));
  });
  double share = share_of(result, rate, 3'000'000, length);
  std::printf("share %.3f of possible %.3f q50 %.1f q95 %.1f overflow %.2f%%\n", share, share / ceiling_of(path),
              result.queue_share(0.5, 3'000'000, length), result.queue_share(0.95, 3'000'000, length),
              100.0 * static_cast<double>(result.flows[0].overflowed) / static_cast<double>(result.flows[0].sent));
}

void pair(const std::string& first, const std::string& second, double rate, Micros rtt, double buffer, double loss, Micros start, double seconds,
          Micros extra) {
  PathSettings path = constant_path(rate, rtt, buffer, loss);
  std::vector<FlowSettings> flows{competitor(first, 1), competitor(second, 2)};
  flows[1].start = start;
  flows[1].extra_delay = extra;
  auto length = static_cast<Micros>(seconds * 1e6);
  std::vector<std::string> states(2);
  Result result = simulate(path, flows, length, [&](Micros, size_t flow, const CongestionControl& control, const Feedback&) {
    states[flow] = std::string(control.state());
  });
  for (Micros at = 0; at + 500'000 <= length; at += 500'000) {
    std::printf("%5.1f s: %7.2f %7.2f Mbit/s, queue p5 %6.1f p50 %6.1f p95 %6.1f ms\n", static_cast<double>(at) * 1e-6,
                result.flows[0].goodput(at, at + 500'000) / 1e6, result.flows[1].goodput(at, at + 500'000) / 1e6,
                result.queue_share(0.05, at, at + 500'000), result.queue_share(0.5, at, at + 500'000), result.queue_share(0.95, at, at + 500'000));
  }
}

}  // namespace

int main(int count, char** arguments) {
  auto argument = [&](int place, const char* otherwise) { return std::string(count > place ? arguments[place] : otherwise); };
  auto number = [&](int place, double otherwise) { return count > place ? std::atof(arguments[place]) : otherwise; };
  std::string mode = argument(1, "");
  std::string law = argument(2, "bbr");
  if (mode == "grid") {
    std::vector<double> rates;
    std::string text = argument(3, "20,100,200");
    for (size_t at = 0; at < text.size(); at = text.find(',', at) == std::string::npos ? text.size() : text.find(',', at) + 1) {
      rates.push_back(std::atof(text.c_str() + at) * 1e6);
    }
    grid(law, rates, number(4, 15), static_cast<Micros>(number(5, 0) * 1000), number(6, 0));
  } else if (mode == "traces") {
    traces(law, argument(3, "topologies/traces"));
  } else if (mode == "trace") {
    trace(law, argument(3, "topologies/traces/lte-driving.trace"), argument(4, "down") == "up");
  } else if (mode == "pairs") {
    pairs(law);
  } else if (mode == "steps") {
    steps(law, argument(3, "down"), number(4, 0.1));
  } else if (mode == "pair") {
    pair(law, argument(3, "cubic"), number(4, 50) * 1e6, static_cast<Micros>(number(5, 40) * 1000), number(6, 1), number(7, 0),
         static_cast<Micros>(number(8, 0) * 1e6), number(9, 30), static_cast<Micros>(number(10, 0) * 1000));
  } else if (mode == "one") {
    one(law, number(3, 200) * 1e6, static_cast<Micros>(number(4, 80) * 1000), number(5, 0), number(6, 1), number(7, 15), number(8, 0),
        static_cast<Micros>(number(9, 0) * 1000), number(10, 0) > 0, number(11, 0), number(12, 0) * 1000);
  } else {
    std::printf(
        "control_grid: laws of congestion control over simulated paths\n\n"
        "  control_grid grid LAW [MBIT,MBIT,... [SECONDS [JITTER_MS [STALLS_A_SECOND]]]]\n"
        "  control_grid traces LAW [FOLDER]\n"
        "  control_grid trace LAW FILE [up|down]\n"
        "  control_grid pairs LAW\n"
        "  control_grid pair LAW LAW|cubic|bbr1 MBIT RTT_MS BUFFER_BDP [LOSS [SECOND_STARTS_S [SECONDS [SECOND_MORE_RTT_MS]]]]\n"
        "  control_grid steps LAW down|up|route|back|gap|slow [PRINT_EVERY_S]\n"
        "  control_grid one LAW MBIT RTT_MS LOSS BUFFER_BDP [SECONDS [PRINT_EVERY_S [JITTER_MS [REORDER [STALLS [BACK_JITTER_MS]]]]]]\n\n"
        "LAW: bbr, native, fixed, background. A LOSS of -1: bursts.\n"
        "Example: control_grid one bbr 200 80 0.01 1 15 0.1\n");
    return mode == "--help" || mode == "-h" ? 0 : 2;
  }
  return 0;
}
