// One UDP socket, read and written in batches, with the kernel's segmentation offloads where it has them.
#pragma once

#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "address.hpp"
#include "outbox.hpp"

namespace longhaul::udt {

// The address of ours that a peer talks to; matters where the socket is bound to all of them.
struct LocalSource {
  int family = 0;  // AF_INET or AF_INET6; 0: the kernel chooses
  in_addr v4{};
  in6_pktinfo v6{};
};

struct Path {
  SocketAddress peer;
  LocalSource source;
};

// An error that the network reported about a datagram of ours (ICMP), or the kernel about one that it did not send.
struct NetworkError {
  SocketAddress peer;
  int number = 0;     // errno
  uint32_t mtu = 0;   // of EMSGSIZE
};

class UdpChannel {
 public:
  static constexpr size_t kReceiveMessages = 16;
  static constexpr size_t kReceiveRoom = 65536;
  // Fewer packets than this are written one by one also where the kernel could split them: queues on this host (netem,
  // tbf) may take what a segmented write makes for one packet, and at rates at which so few are due it saves little.
  static constexpr size_t kFewestSegments = 12;
  static constexpr size_t kMostSegments = 64;
  static constexpr size_t kMostSegmentedBytes = 65000;  // a UDP payload is at most 65,507

  struct Settings {
    int receive_buffer_bytes = 8 << 20;
    int send_buffer_bytes = 4 << 20;
    bool offload = true;
  };

  // Binds a new socket. Throws Error.
  UdpChannel(const SocketAddress& local, const Settings& settings);
  // Takes over a bound UDP socket, also when it throws.
  UdpChannel(int descriptor, const Settings& settings);
  ~UdpChannel();
  UdpChannel(const UdpChannel&) = delete;
  UdpChannel& operator=(const UdpChannel&) = delete;

  int descriptor() const { return descriptor_; }
  const SocketAddress& local() const { return local_; }

  struct Received {
    const Path* path;
    Bytes datagram;
  };
  // Calls `take(Received)` for each datagram of at most kReceiveMessages reads. True: there may be more.
  template <typename Take>
  bool receive(Take take) {
    const int count = read_batch();
    for (int index = 0; index < count; ++index) {
      const Message message = message_at(index);
      for (size_t at = 0; at < message.bytes.size(); at += message.segment) {
        take(Received{&message.path,
                      message.bytes.subspan(at, std::min(message.segment, message.bytes.size() - at))});
      }
    }
    return count == static_cast<int>(kReceiveMessages);
  }

  enum class Outcome { kSent, kTooLarge };
  // Sends them all in order, waiting (bounded) for room in the kernel's buffer: what finds none is lost, as in a network.
  Outcome send(const Path& path, std::span<const Datagram> datagrams);

  std::vector<NetworkError> take_errors();

  // The largest IP packet that the route to `peer` is known to carry.
  static std::optional<uint32_t> path_mtu(const SocketAddress& peer);

  bool sends_segmented() const { return gso_; }
  bool receives_merged() const { return gro_; }
  int receive_buffer_bytes() const;  // as the kernel granted them
  int send_buffer_bytes() const;
  uint64_t dropped() const;  // datagrams for which the receive buffer had no room

 private:
  struct Message {
    Path path;
    Bytes bytes;
    size_t segment;
  };

  void set_up(const Settings& settings);
  int read_batch();
  Message message_at(int index) const;
  size_t fill_batch(const Path& path, std::span<const Datagram> datagrams, bool segmented, size_t& messages);
  // How many messages the kernel took; `error` says why not the next one, 0: all.
  size_t write_batch(size_t messages, int& error);

  static constexpr size_t kControlRoom = 128;
  struct alignas(8) ControlRoom {
    uint8_t bytes[kControlRoom];
  };

  int descriptor_ = -1;
  SocketAddress local_;
  bool any_ = false;
  std::atomic<bool> gso_ = false;  // told to other threads
  bool gro_ = false;

  std::unique_ptr<uint8_t[]> receive_memory_;
  std::vector<mmsghdr> receive_headers_;
  std::vector<iovec> receive_vectors_;
  std::vector<sockaddr_storage> receive_names_;
  std::vector<ControlRoom> receive_control_;

  std::vector<mmsghdr> send_headers_;
  std::vector<iovec> send_vectors_;
  std::vector<ControlRoom> send_control_;
  std::vector<size_t> send_counts_;  // datagrams in each message
};

}  // namespace longhaul::udt
