// One established connection: everything between its set-up and its end. Sans-IO: packets, times and the application's
// bytes go in; datagrams and bytes come out. Not thread-safe, but for what the claims say.
//
//   open -> finishing (own end announced) -> closed
//   the peer's side: open -> ended (all of it arrived) or broken
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>

#include "acknowledger.hpp"
#include "congestion.hpp"
#include "handshake.hpp"
#include "numbers.hpp"
#include "outbox.hpp"
#include "pacer.hpp"
#include "packet.hpp"
#include "receive_buffer.hpp"
#include "round_trip.hpp"
#include "scoreboard.hpp"
#include "send_buffer.hpp"

namespace longhaul::udt {

// On Ethernet; what the rates and caps count beside the payload of the IP packet.
constexpr size_t kLinkHeader = 14;
constexpr size_t kUdpHeader = 8;
constexpr size_t ip_header(bool ipv6) { return ipv6 ? 40 : 20; }

struct ConnectionSettings {
  Agreement agreement;
  bool ipv6 = false;
  size_t send_packets = 8192;     // send buffer
  size_t receive_packets = 8192;  // receive buffer, as announced in the handshake
  ControlSettings control;
  Micros dead_after = 5'000'000;  // silence after which the peer is taken for dead
  Micros initial_rtt = 0;         // as the handshake saw it, 0: unknown
  bool extensions = true;         // false: speak plain UDT4 only
};

enum class PeerState {
  kOpen,
  kEnded,   // all that the peer sent arrived (or a plain UDT4 peer said shutdown, which can't be told apart)
  kBroken,  // it said shutdown before all of it arrived
  kSilent,  // nothing was heard for dead_after
};

struct Statistics {
  Micros age = 0;
  int64_t packets_sent = 0;           // with retransmissions
  int64_t packets_retransmitted = 0;
  int64_t packets_lost = 0;           // transmissions declared lost
  int64_t packets_spurious = 0;       // of those, the ones that had arrived after all
  int64_t packets_delivered = 0;
  int64_t packets_received = 0;       // distinct
  int64_t packets_duplicate = 0;
  int64_t packets_missing = 0;        // not yet filled
  int64_t bytes_sent = 0;             // payload, without retransmissions
  int64_t bytes_delivered = 0;        // payload
  int64_t bytes_received = 0;         // payload
  int64_t probes = 0;
  int64_t timeouts = 0;
  int64_t acknowledgements_sent = 0;  // ACKs and reports
  int64_t acknowledgements_received = 0;
  int64_t loss_reports_sent = 0;      // NAKs
  int64_t loss_reports_received = 0;
  Micros rtt = 0;                     // smoothed
  Micros rtt_variance = 0;
  Micros min_rtt = 0;
  double target_bps = 0;              // on the wire, link-layer headers counted
  double delivered_bps = 0;           // likewise, over the last second or so
  double window_packets = 0;
  int64_t in_flight_packets = 0;
  int64_t unsent_packets = 0;         // in the send buffer, never sent
  int64_t send_buffer_packets = 0;    // in use
  int64_t receive_buffer_packets = 0;
  Micros last_heard_ago = 0;
  bool extended_peer = false;         // the peer speaks our extensions
  std::string_view control;
  std::string_view control_state;
};

class Connection {
 public:
  Connection(const ConnectionSettings& settings, Micros now);

  void on_packet(const PacketView& packet, Micros now);
  // Runs the timers and puts into `outbox` what may be sent now; when it fills the outbox, call again.
  void emit(Micros now, Outbox& outbox);
  // When emit has to be called next, if nothing else happens.
  Micros next_deadline() const;

  // The application's side of a stream. A claim's bytes are copied without any lock between begin and end: nobody else
  // touches the claimed packets. At most one claim of each kind at a time; an empty claim needs no end.
  SendBuffer::Claim begin_write(size_t bytes);
  void end_write(const SendBuffer::Claim& claim);
  void fill(const SendBuffer::Claim& claim, const uint8_t* data) { send_.fill(claim, data); }
  ReceiveBuffer::Claim begin_read(size_t bytes);
  void end_read(const ReceiveBuffer::Claim& claim);
  void copy_out(const ReceiveBuffer::Claim& claim, uint8_t* out) const { receive_.copy_out(claim, out); }

  // Of messages. write_message: false when there is no room now. read_message: the message's size, of which what fits was
  // copied; nothing when none is complete.
  bool message_fits_ever(size_t size) const;
  bool write_message(std::span<const uint8_t> message, Micros now, Micros lifetime, bool in_order);
  std::optional<size_t> read_message(std::span<uint8_t> out);

  bool can_write() const;  // at least one packet of room
  bool can_read() const;   // bytes or a message
  size_t readable_bytes() const { return receive_.readable_bytes(); }
  bool at_end() const { return peer_state_ != PeerState::kOpen && !can_read(); }
  PeerState peer_state() const { return peer_state_; }
  bool peer_gone() const { return peer_gone_; }  // nothing that is sent arrives any more

  // No more will be written: announce the end. `finished`: all of it is known to have arrived.
  void finish(Micros now);
  bool finished() const;
  // Stop at once: one shutdown packet by the next emit, nothing else from then on.
  void close();
  bool closed() const { return closed_ && shutdown_sent_; }
  size_t undelivered_bytes() const { return send_.bytes_from(scoreboard_.acknowledged()); }
  size_t free_packets() const { return send_.free_packets(); }
  size_t send_capacity() const { return send_.capacity(); }        // packets
  size_t receive_capacity() const { return receive_.capacity(); }  // packets
  size_t payload_size() const { return payload_size_; }            // bytes of a full packet that we send
  int64_t unsent_packets() const { return send_.end() - scoreboard_.next_new(); }

  // A cap in bits a second on the wire, 0: none. Also of a fixed control, whose own rate stays what it is.
  void set_rate_bps(double bits_per_second);
  double packet_bits() const { return packet_bits_; }

  Statistics statistics(Micros now) const;
  const Agreement& agreement() const { return settings_.agreement; }

 private:
  void on_data(const PacketView& packet, Micros now);
  void on_ack(const PacketView& packet, Micros now);
  void on_ack2(const PacketView& packet, Micros now);
  void on_nak(const PacketView& packet, Micros now);
  void on_hello(const PacketView& packet);
  void on_report(const PacketView& packet, Micros now);
  void on_end(const PacketView& packet);
  void on_drop_request(const PacketView& packet, Micros now);
  void on_shutdown();
  void conclude_feedback(Micros now, Micros rtt);
  void look_for_stale_holes(Micros now);
  void check_end();
  void set_window(PacketNumber acknowledged, uint32_t available);
  PacketNumber own_number(uint32_t sequence) const;
  PacketNumber peer_number(uint32_t sequence) const;
  // Takes in what a report says; returns its round-trip sample, 0: none.
  Micros take_in(const Report& report, PacketNumber acknowledged, PacketNumber known_from, PacketNumber known_to,
                 Micros now);

  void run_timers(Micros now);
  // Gives up the message of an expired packet as far as it has not arrived.
  void give_up_message(PacketNumber number);
  void emit_control(Micros now, Outbox& outbox);
  void emit_data(Micros now, Outbox& outbox);
  void transmit(PacketNumber number, Micros now, Outbox& outbox);
  std::optional<PacketNumber> next_to_send(Micros now);
  bool put_end(Micros now, Outbox& outbox);
  void emit_acknowledgement(Micros now, Outbox& outbox);
  void put_ack(bool light, Micros now, Outbox& outbox);
  void emit_plain_acknowledgements(Micros now, Outbox& outbox);
  // False when the outbox has no room; `fill` writes the body and returns its size.
  template <typename Fill>
  bool put_control(ControlHeader header, size_t most, Micros now, Outbox& outbox, Fill fill);
  Micros probe_slack() const;
  Micros probe_timeout() const;
  Micros probe_deadline() const;
  Micros stale_deadline() const;
  std::optional<PacketNumber> number_to_probe() const;
  Micros data_deadline() const;
  Micros acknowledgement_deadline() const;
  Micros keep_alive_deadline() const;
  Micros end_repeat() const;
  void emit_drop_requests(Micros now, Outbox& outbox);
  bool drop_due(Micros now) const;
  uint32_t stamp(Micros now) const { return static_cast<uint32_t>(now - started_at_); }
  bool extended() const { return peer_hello_seen_; }

  ConnectionSettings settings_;
  Micros started_at_;
  size_t payload_size_;
  double packet_bits_;
  SendBuffer send_;
  Scoreboard scoreboard_;
  ReceiveBuffer receive_;
  Acknowledger acknowledger_;
  RoundTrip round_trip_;
  Pacer pacer_;
  std::unique_ptr<CongestionControl> control_;

  PacketNumber window_end_;  // the peer has room for packets before this one
  bool probe_due_ = false;
  int backoff_ = 0;
  Micros progress_at_;  // when something new was known to have arrived
  Micros last_sent_at_;
  Micros last_data_sent_at_;
  Micros last_heard_at_;
  Micros asked_at_ = 0;  // when the peer was last asked for a sign of life
  Micros stale_check_at_ = 0;
  Micros last_ack_at_ = 0;

  // extensions
  bool peer_hello_seen_ = false;
  bool peer_heard_hello_ = false;
  bool hello_answer_due_ = false;
  int hellos_left_;
  Micros hello_at_;
  uint32_t last_report_ = 0;
  bool any_report_ = false;
  uint64_t reported_arrivals_ = 0;
  Micros newest_echo_ = 0;       // send time of the newest packet that is known to have arrived
  int64_t peer_clock_ = 0;       // the peer's clock, unwrapped
  Micros peer_clock_offset_ = 0;  // ours minus the peer's, with the shortest way back
  bool peer_clock_known_ = false;
  std::optional<Micros> forward_delay_;

  std::optional<uint32_t> ack2_due_;
  Micros ack2_at_ = 0;
  std::optional<PacketNumber> own_end_;
  bool own_end_arrived_ = false;
  Micros end_at_ = 0;
  std::optional<PacketNumber> peer_end_;
  PeerState peer_state_ = PeerState::kOpen;
  bool peer_gone_ = false;
  bool closed_ = false;
  bool shutdown_sent_ = false;
  Micros drop_at_ = 0;
  PacketNumber drop_from_ = 0;  // what was given up before is told of already
  uint32_t next_message_ = 1;
  double peer_receive_rate_ = 0;
  double peer_capacity_ = 0;

  Statistics counted_;
  double delivered_rate_ = 0;  // packets a second, smoothed over about a second
  int64_t delivered_mark_ = 0;
  Micros delivered_mark_at_;
};

}  // namespace longhaul::udt
