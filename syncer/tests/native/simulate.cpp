// Connections over a simulated path, from the command line: what reaches the other side, at what cost.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "simulation.hpp"

namespace longhaul::udt::virtual_time {
namespace {

constexpr const char* kHelp = R"(simulate: connections of our UDT over a simulated path, in virtual time

  --rate-mbps N      of the bottleneck, with headers (200)
  --rtt-ms N         round trip without queueing (80)
  --loss SHARE       of packets, in each direction (0)
  --burst N          mean length of a burst of losses, in packets (1: independent)
  --buffer-bdp N     queue of the bottleneck in bandwidth-delay products (1)
  --jitter-ms N      uniform, added to each way (0)
  --reordering       jitter may let packets overtake
  --duplication S    share of packets that come twice (0)
  --outage FROM,TO   seconds from the start in which all is lost, both ways
  --control NAME     bbr, native, fixed or background (bbr)
  --fixed-mbps N     the rate of --control fixed (0.98 of the link's)
  --cap-mbps N       upper limit of the rate (none)
  --flows N          at the same time (1), --stagger SECONDS between their starts (0)
  --windows N        socket buffers in bandwidth-delay products (4)
  --seconds N        how long (15), of which --ignore N (3) are not counted
  --plain            without our extensions, as with a UDT4 peer
  --seed N           of all that happens by chance (1)
  --trace MS         print a line for the first flow every so many milliseconds

examples:
  simulate --rtt-ms 80 --rate-mbps 200 --loss 0.01
  simulate --rtt-ms 200 --loss 0.05 --burst 5 --control bbr --trace 200
  simulate --flows 2 --stagger 5 --seconds 60 --buffer-bdp 0.5
)";

[[noreturn]] void usage(const std::string& why) {
  std::fprintf(stderr, "simulate: %s; see --help\n", why.c_str());
  std::exit(2);
}

class Options {
 public:
  Options(int argc, char** argv) {
    for (int i = 1; i < argc; ++i) {
      const std::string_view name = argv[i];
      if (name == "--help" || name == "-h") {
        std::fputs(kHelp, stdout);
        std::exit(0);
      }
      if (name == "--reordering" || name == "--plain") {
        values_[std::string(name)] = "1";
        continue;
      }
      if (!std::strstr(kHelp, (" " + std::string(name) + " ").c_str())) usage("no such option: " + std::string(name));
      if (i + 1 == argc) usage(std::string(name) + " needs a value");
      values_[std::string(name)] = argv[++i];
    }
  }
  bool has(const std::string& name) const { return values_.contains(name); }
  std::string text(const std::string& name, const std::string& otherwise) const {
    const auto found = values_.find(name);
    return found == values_.end() ? otherwise : found->second;
  }
  double number(const std::string& name, double otherwise) const {
    const auto found = values_.find(name);
    if (found == values_.end()) return otherwise;
    char* end = nullptr;
    const double value = std::strtod(found->second.c_str(), &end);
    if (*end != '\0' || end == found->second.c_str() || value < 0) usage(name + " needs a number, not " + found->second);
    return value;
  }

 private:
  std::map<std::string, std::string> values_;
};

ControlKind control_of(const std::string& name) {
  if (name == "bbr") return ControlKind::kBbr;
  if (name == "native") return ControlKind::kNative;
  if (name == "fixed") return ControlKind::kFixed;
  if (name == "background") return ControlKind::kBackground;
  usage("no such control: " + name);
}

double percentile(std::vector<uint32_t> values, double share) {
  if (values.empty()) return 0;
  const auto at = values.begin() + static_cast<ptrdiff_t>(share * static_cast<double>(values.size() - 1));
  std::nth_element(values.begin(), at, values.end());
  return *at / 1e3;
}

int run(const Options& options) {
  const double rate = options.number("--rate-mbps", 200) * 1e6;
  const auto rtt = static_cast<Micros>(options.number("--rtt-ms", 80) * 1e3);
  LinkModel link;
  link.rate_bps = rate;
  link.delay = rtt / 2;
  link.buffer_bytes =
      std::max<size_t>(3'000, static_cast<size_t>(options.number("--buffer-bdp", 1) * rate * static_cast<double>(rtt) / 8e6));
  link.jitter = static_cast<Micros>(options.number("--jitter-ms", 0) * 1e3);
  link.reordering = options.has("--reordering");
  link.loss = options.number("--loss", 0);
  link.burst = options.number("--burst", 1);
  link.duplication = options.number("--duplication", 0);
  constexpr Micros kStart = 1'000'000;
  if (options.has("--outage")) {
    double from = 0, to = 0;
    if (std::sscanf(options.text("--outage", "").c_str(), "%lf,%lf", &from, &to) != 2) usage("--outage needs FROM,TO");
    link.outages.push_back({kStart + static_cast<Micros>(from * 1e6), kStart + static_cast<Micros>(to * 1e6)});
  }
  const double seconds = options.number("--seconds", 15), ignored = options.number("--ignore", 3);
  const auto flows = static_cast<size_t>(options.number("--flows", 1));
  const auto stagger = static_cast<Micros>(options.number("--stagger", 0) * 1e6);
  if (seconds <= ignored || flows < 1) usage("--seconds must be more than --ignore, --flows at least 1");

  ConnectionSettings settings = settings_for(link, rtt, options.number("--windows", 4));
  settings.initial_rtt = rtt;
  settings.extensions = !options.has("--plain");
  settings.control.kind = control_of(options.text("--control", "bbr"));
  settings.control.rate = options.number("--fixed-mbps", 0.98 * rate / 1e6) * 1e6 / settings.control.packet_bits;
  settings.control.ceiling = options.number("--cap-mbps", 0) * 1e6 / settings.control.packet_bits;
  settings.control.seed = static_cast<uint64_t>(options.number("--seed", 1));
  Simulation simulation(link, link, settings.control.seed, kStart);

  const auto end = kStart + static_cast<Micros>(seconds * 1e6);
  const auto counted_from = kStart + static_cast<Micros>(ignored * 1e6);
  const auto trace = static_cast<Micros>(options.number("--trace", 0) * 1e3);
  size_t queue_mark = 0;
  uint64_t traced = 0;
  Micros next_trace = kStart + trace, next_flow = kStart;
  bool marked = false;
  while (simulation.now() < end) {
    if (simulation.flows.size() < flows && simulation.now() >= next_flow) {
      simulation.add_flow(settings, settings).left->to_write = ~uint64_t{0} / 2;
      ++settings.control.seed;
      next_flow += stagger;
      continue;
    }
    if (!marked && simulation.now() >= counted_from) {
      marked = true;
      queue_mark = simulation.to_right.queueing_us.size();
      for (auto& flow : simulation.flows) flow->read_mark = flow->right->read;
    }
    if (trace > 0 && simulation.now() >= next_trace) {
      const auto& flow = *simulation.flows[0];
      const Statistics now = flow.left->connection.statistics(simulation.now());
      std::printf("%8.3f s  read %6.1f Mbit/s  target %6.1f  window %6.0f  in flight %5ld  rtt %6.1f ms  lost %ld "
                  "again %ld  %.*s\n",
                  static_cast<double>(simulation.now() - kStart) / 1e6,
                  static_cast<double>(flow.right->read - traced) * 8 / static_cast<double>(trace), now.target_bps / 1e6,
                  now.window_packets, static_cast<long>(now.in_flight_packets), static_cast<double>(now.rtt) / 1e3,
                  static_cast<long>(now.packets_lost), static_cast<long>(now.packets_retransmitted),
                  static_cast<int>(now.control_state.size()), now.control_state.data());
      traced = flow.right->read;
      next_trace += trace;
    }
    Micros stop = end;
    if (!marked) stop = std::min(stop, counted_from);
    if (trace > 0) stop = std::min(stop, next_trace);
    if (simulation.flows.size() < flows) stop = std::min(stop, next_flow);
    simulation.run(stop);
  }

  double total = 0, squares = 0;
  bool intact = true;
  for (const auto& flow : simulation.flows) {
    const double goodput = static_cast<double>(flow->right->read - flow->read_mark) * 8 / (seconds - ignored);
    const Statistics sent = flow->left->connection.statistics(simulation.now());
    const Statistics received = flow->right->connection.statistics(simulation.now());
    total += goodput;
    squares += goodput * goodput;
    intact = intact && flow->right->intact;
    std::printf("flow: goodput %.1f Mbit/s, sent %ld packets, again %ld (%.2f%%), declared lost %ld, spurious %ld, "
                "duplicates %ld, probes %ld, timeouts %ld, reports %ld\n",
                goodput / 1e6, static_cast<long>(sent.packets_sent), static_cast<long>(sent.packets_retransmitted),
                100.0 * static_cast<double>(sent.packets_retransmitted) / static_cast<double>(std::max<int64_t>(sent.packets_sent, 1)),
                static_cast<long>(sent.packets_lost), static_cast<long>(sent.packets_spurious),
                static_cast<long>(received.packets_duplicate), static_cast<long>(sent.probes),
                static_cast<long>(sent.timeouts), static_cast<long>(received.acknowledgements_sent));
  }
  const std::vector<uint32_t> queueing(simulation.to_right.queueing_us.begin() + static_cast<ptrdiff_t>(queue_mark),
                                       simulation.to_right.queueing_us.end());
  std::printf("total: goodput %.1f Mbit/s = %.3f of the rate", total / 1e6, total / rate);
  if (flows > 1) std::printf(", Jain's index %.3f", total * total / (squares * static_cast<double>(flows)));
  std::printf("\nlink: offered %ld, lost %ld, overflowed %ld; queueing 50%% %.1f ms, 95%% %.1f ms, 99%% %.1f ms; "
              "content %s\n",
              static_cast<long>(simulation.to_right.offered), static_cast<long>(simulation.to_right.lost),
              static_cast<long>(simulation.to_right.overflowed), percentile(queueing, 0.5), percentile(queueing, 0.95),
              percentile(queueing, 0.99), intact ? "intact" : "DAMAGED");
  return intact ? 0 : 1;
}

}  // namespace
}  // namespace longhaul::udt::virtual_time

int main(int argc, char** argv) {
  return longhaul::udt::virtual_time::run(longhaul::udt::virtual_time::Options(argc, argv));
}
