// What a socket can be told before it connects or listens.
#pragma once

#include <cstddef>
#include <cstdint>

#include "congestion.hpp"
#include "numbers.hpp"

namespace longhaul::udt {

struct Settings {
  uint32_t mss = 1500;                      // largest IP packet, bytes; both ends take the smaller, and the route's MTU
  size_t send_buffer_bytes = 32 << 20;      // taken from the system as they are first used
  size_t receive_buffer_bytes = 32 << 20;
  ControlKind control = ControlKind::kBbr;
  double rate_bps = 0;                      // on the wire, link-layer headers counted: what kFixed sends
  double ceiling_bps = 0;                   // likewise; 0: none
  Micros dead_after = 5'000'000;            // silence after which the peer is taken for dead
  Micros connect_timeout = 10'000'000;
  bool extensions = true;                   // false: speak plain UDT4 to everybody
  bool rendezvous = false;
  bool reuse_address = true;                // share a UDP port with other sockets of this process
  size_t max_connections = 4096;            // of a listener, accepted and alive
  int udp_receive_buffer_bytes = 16 << 20;
  int udp_send_buffer_bytes = 4 << 20;
  bool offload = true;                      // let the kernel split and merge packets where it can
};

}  // namespace longhaul::udt
