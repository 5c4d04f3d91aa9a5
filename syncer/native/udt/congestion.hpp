// The interface of congestion control: what a connection tells it and what it decides. Pure: times are arguments.
//
// Rates are in packets a second and windows in packets, where a packet is a full one on the wire (link-layer, IP and UDP
// headers counted); the pacer charges smaller packets their share.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>

#include "numbers.hpp"

namespace longhaul::udt {

// What one message from the receiver (or a timer) told, after the scoreboard has taken it in.
struct Feedback {
  Micros now = 0;
  PacketNumber acknowledged = 0;  // all before it arrived
  PacketNumber next_new = 0;      // the first that was never sent
  int64_t delivered = 0;          // distinct packets known to have arrived, total
  int64_t newly_delivered = 0;
  int64_t newly_lost = 0;           // transmissions that were declared lost now
  PacketNumber largest_lost = -1;   // of those; -1: none
  int64_t in_flight = 0;            // transmissions neither known to have arrived nor declared lost, after this
  Micros rtt = 0;                   // newest sample, 0: none
  Micros smoothed_rtt = 0;

  // Delivery rate sample (draft-cheng-iccrg-delivery-rate-estimation): of the packet sent last among the newly delivered.
  double delivery_rate = 0;       // packets a second, 0: none
  Micros sample_interval = 0;
  int64_t sample_delivered = 0;   // packets delivered within the interval
  int64_t prior_delivered = 0;    // `delivered` at the moment that packet was sent: a round ends when it reaches the mark
  int64_t prior_in_flight = 0;    // in flight when it was sent
  int64_t sample_lost = 0;        // transmissions declared lost since it was sent
  bool application_limited = false;

  std::optional<Micros> forward_delay;  // one way, plus an unknown constant: only differences count
  double peer_receive_rate = 0;         // packets a second, as in UDT4's ACK; 0: not told
  double peer_capacity = 0;             // packets a second, packet pair; 0: not told
};

class CongestionControl {
 public:
  virtual ~CongestionControl() = default;

  virtual void on_feedback(const Feedback& feedback) = 0;
  // `in_flight` before this transmission; `restart`: the first after nothing was in flight.
  virtual void on_sent(Micros /*now*/, PacketNumber /*number*/, int64_t /*in_flight*/, bool /*restart*/) {}
  // Nothing was heard for several probe timeouts although packets are in flight.
  virtual void on_timeout(Micros now) = 0;
  // A limit on the rate, from outside, at any time; 0: none.
  virtual void set_ceiling(double packets_per_second) = 0;

  virtual double rate() const = 0;    // > 0
  virtual double window() const = 0;  // >= 2
  virtual std::string_view name() const = 0;
  virtual std::string_view state() const = 0;  // for statistics
};

enum class ControlKind { kNative, kFixed, kBbr, kBackground };

struct ControlSettings {
  ControlKind kind = ControlKind::kBbr;
  double rate = 0;     // packets a second: what kFixed sends
  double ceiling = 0;  // packets a second, 0: none
  Micros initial_rtt = 0;  // as the handshake took it, 0: not known
  uint64_t seed = 1;   // of what is drawn by chance (which round probes first)
  double packet_bits = 1514 * 8;  // of a full packet on the wire: where a law has absolute numbers
};

std::unique_ptr<CongestionControl> make_control(const ControlSettings& settings);

}  // namespace longhaul::udt
