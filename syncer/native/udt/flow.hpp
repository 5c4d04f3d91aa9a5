// One connection from the first handshake to its end, as the endpoint's thread and the application's threads share it.
//
// Everything but what is said to be the thread's own is used with `mutex` held. Nobody waits or calls Python while holding
// it. The bytes of a claim are copied without it: see Connection.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "connection.hpp"
#include "deadline_heap.hpp"
#include "errors.hpp"
#include "handshake.hpp"
#include "outbox.hpp"
#include "readiness.hpp"
#include "settings.hpp"
#include "udp_channel.hpp"

namespace longhaul::udt {

class Flow {
 public:
  Flow(const Settings& settings, SocketKind kind, const Path& path);

  // Constant once the endpoint knows it.
  const Settings settings;
  const SocketKind kind;
  const Path path;

  // The endpoint's thread's own.
  uint32_t id = 0;
  Micros deadline = kNever;
  size_t heap_place = DeadlineHeap<Flow>::kNowhere;
  bool touched = false;
  bool accepted = false;       // came through a listener
  Handshake accepted_reply{};  // what each repeat of its request is answered with

  std::mutex mutex;
  std::condition_variable reader;   // one thread waits for what can be read, as said in `read_wanted`
  std::condition_variable writer;   // likewise
  std::condition_variable watcher;  // anybody waits for anything else
  size_t read_wanted = 0;           // bytes; 0: nobody waits
  size_t write_wanted = 0;          // packets of room; 0: nobody waits
  int watchers = 0;
  int64_t unsent_wanted = 0;        // a watcher waits for fewer unsent packets than this
  bool reading = false;  // a thread has a claim, or waits for one
  bool writing = false;

  std::optional<Connector> connector;
  std::unique_ptr<Connection> connection;
  bool closed = false;         // by the application
  bool ended = false;          // the application announced its end: nothing more is written
  std::optional<Error> failure;  // why it never came about or was given up here
  Micros scheduled = kNever;   // when the endpoint's thread will look at it
  bool wake_queued = false;

  // The endpoint's thread.
  void start(uint32_t initial_sequence, Micros now);
  void establish(const Agreement& agreement, Micros rtt, Micros now);
  void take(const PacketView& packet, Micros now);
  // Puts what is due into the outbox; when that is full, call again.
  void emit(Micros now, Outbox& outbox);
  bool gone() const;  // nothing more will be sent or wanted
  void fail(const Error& error);
  // Who has to be told, after the mutex was released.
  struct Notices {
    bool reader = false;
    bool writer = false;
    bool watchers = false;
  };
  Notices settle();  // also brings the readiness up to date
  void notify(const Notices& notices);

  // Everybody.
  bool connecting() const { return !connection && !failure && !closed; }
  bool worth_telling();  // a watcher may have what it waits for
  bool enough_to_read() const;  // for who waits, or it fails
  bool enough_room() const;
  bool can_read_or_fails() const;
  bool can_write_or_fails() const;  // after the end was announced: all of it arrived
  Micros next_deadline() const;
  // What a call on a socket that can't go on fails with.
  Error broken_error() const;

  int readable_descriptor();
  int writable_descriptor();

  // The offer of a socket with these settings; without id and sequence.
  static Offer offer(const Settings& settings, SocketKind kind, const SocketAddress& peer);
  static size_t packets_of(size_t bytes, uint32_t mss);

 private:
  void poll_connector(Micros now, Outbox& outbox);
  void check_connector(Micros now);
  void check_black_hole(Micros now);

  Readiness readiness_;
  bool readiness_used_ = false;
  bool establishment_told_ = false;
  Micros black_hole_check_at_ = 0;
  Micros black_hole_since_ = 0;  // since when nothing more was acknowledged although packets were under way
  int64_t black_hole_bytes_ = 0;  // that were acknowledged until then
  int64_t black_hole_sent_ = 0;   // packets, likewise
  int handshakes_unanswered_ = 0;
  Micros handshake_sent_at_ = 0;
};

}  // namespace longhaul::udt
