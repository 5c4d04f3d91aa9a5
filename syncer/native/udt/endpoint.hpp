// A UDP port with the one thread that serves it: it reads datagrams, finds the connection of each, and sends what its
// connections have to send when it is due. Sockets of this process that are bound to the same address share it.
//
// The thread never calls into Python and lets no exception out. After a fork the child has no such thread: its copies of
// an endpoint refuse every call and are only good to be dropped.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>
#include <unordered_map>
#include <vector>

#include "deadline_heap.hpp"
#include "flow.hpp"
#include "listener.hpp"
#include "outbox.hpp"
#include "settings.hpp"
#include "udp_channel.hpp"

namespace longhaul::udt {

struct EndpointStatus {
  uint64_t kernel_drops = 0;  // datagrams that the UDP receive buffer had no room for, since it was bound
  int receive_buffer_bytes = 0;
  int send_buffer_bytes = 0;
  bool sends_segmented = false;
  bool receives_merged = false;
};

class Endpoint {
 public:
  // The endpoint that is bound there already, if both it and `settings` allow sharing, or a new one.
  static std::shared_ptr<Endpoint> open(const SocketAddress& local, const Settings& settings);
  static std::shared_ptr<Endpoint> adopt(int descriptor, const Settings& settings);
  // Says farewell for all that is still open. Waits for the thread: milliseconds.
  ~Endpoint();
  Endpoint(const Endpoint&) = delete;
  Endpoint& operator=(const Endpoint&) = delete;

  // Stops all endpoints' threads, for the end of the process: peers are told of the end of their connections.
  static void stop_all();

  const SocketAddress& local() const { return local_; }
  void add(const std::shared_ptr<Flow>& flow);  // begins to connect
  void listen(const std::shared_ptr<Listener>& listener);  // throws kMisuse if somebody listens
  void unlisten(const Listener& listener);
  // The thread is to look at `flow`, whose mutex the caller holds.
  void wake(const std::shared_ptr<Flow>& flow);
  EndpointStatus status() const;
  bool inherited() const;  // by a fork: its thread is another process's
  void check_usable() const;

  // Use `open` or `adopt`.
  Endpoint(std::unique_ptr<UdpChannel> channel, bool shareable);

 private:
  struct Tombstone {
    SocketAddress peer;
    uint32_t peer_id = 0;
    uint32_t peer_initial = 0;
    Micros buried_at = 0;
    Micros answered_at = 0;
  };
  struct Stranger {
    SocketAddress peer;
    uint32_t socket_id = 0;
    friend bool operator==(const Stranger&, const Stranger&) = default;
  };
  struct StrangerHash {
    size_t operator()(const Stranger& stranger) const { return stranger.peer.hash() ^ stranger.socket_id * 0x9e3779b1u; }
  };

  bool stopped() const;
  void stop();
  void run();
  void turn();
  void wait(Micros now);
  void poll_until(Micros until, Micros now, bool also_packets);
  void note_read(size_t bytes, Micros now);
  void take_woken(Micros now);
  void receive();
  void on_datagram(const UdpChannel::Received& received, Micros now);
  void on_unaddressed(const Path& path, const PacketView& packet, Micros now);
  void on_request(const Path& path, const Handshake& said, Micros now);
  bool on_rendezvous(const Path& path, const Handshake& said, const PacketView& packet, Micros now);
  bool on_repeat(const Path& path, const Handshake& said, Micros now);
  void accept(const std::shared_ptr<Listener>& listener, const Path& path, const Verdict& verdict, Micros now);
  void reply(const Path& path, const Handshake& handshake, uint32_t destination);
  void on_lost_packet(const Path& path, uint32_t id, const PacketView& packet, Micros now);
  void on_network_errors();
  void serve(Flow& flow, Micros now);
  void give_up(Flow& flow, const Error& error);
  void begin(const std::shared_ptr<Flow>& flow, Micros now);
  void remove(Flow& flow, Micros now);
  void bury(const Flow& flow, const Agreement& agreement, Micros now);
  void say_farewell();
  uint32_t free_id();
  void touch(Flow& flow);

  std::unique_ptr<UdpChannel> channel_;
  SocketAddress local_;
  bool shareable_;
  int wake_descriptor_ = -1;
  uint64_t forks_;

  // Between the application's threads and this one.
  mutable std::mutex mutex_;
  std::vector<std::shared_ptr<Flow>> added_;
  std::vector<std::shared_ptr<Flow>> woken_;
  std::shared_ptr<Listener> listener_;
  bool sleeping_ = false;
  bool stopping_ = false;

  // The thread's own.
  std::unordered_map<uint32_t, std::shared_ptr<Flow>> flows_;
  std::unordered_map<Stranger, Flow*, StrangerHash> accepted_;
  std::vector<Flow*> rendezvous_;
  std::unordered_map<uint32_t, Tombstone> tombstones_;
  std::unordered_map<Stranger, uint32_t, StrangerHash> graves_;  // where in tombstones_ who was accepted lies
  std::deque<uint32_t> burials_;
  DeadlineHeap<Flow> deadlines_;
  std::vector<Flow*> touched_;
  std::vector<std::shared_ptr<Flow>> batch_;
  std::unique_ptr<Outbox> outbox_;
  Flow* held_ = nullptr;  // whose mutex is held while its packets are read
  bool more_to_read_ = false;
  Micros read_at_ = 0;         // when packets were last read
  Micros measured_from_ = 0;   // of the bytes that were read since
  size_t measured_bytes_ = 0;
  bool packets_come_thick_ = false;
  CookieJar cookies_;

  std::unique_ptr<std::thread> thread_;
};

}  // namespace longhaul::udt
