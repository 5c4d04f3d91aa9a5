// Connections that talk over a simulated path, with their applications, in virtual time.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <stdexcept>
#include <vector>

#include "connection.hpp"
#include "outbox.hpp"
#include "simulated_link.hpp"

namespace longhaul::udt::virtual_time {

// The content of every stream: byte i is the same in every test.
class Content {
 public:
  static void write(uint64_t from, std::span<uint8_t> out);
  static bool matches(uint64_t from, std::span<const uint8_t> bytes);
};

// One end of a connection and its application: writes a stream of a given length, reads what comes and compares it.
class End {
 public:
  End(const ConnectionSettings& settings, Micros now) : connection(settings, now) {}

  Connection connection;

  // What the application does.
  uint64_t to_write = 0;       // bytes in all
  bool finish_after = false;   // announce the end behind them
  bool reading = true;
  Micros asleep_until = 0;       // its host does not let it run before
  std::function<void(End&, Micros)> on_turn;  // for all else, whenever the end has its turn

  uint64_t written = 0;
  uint64_t read = 0;
  bool intact = true;    // what was read is what was written
  Micros last_read_at = 0;

  void run_application(Micros now);

 private:
  std::vector<uint8_t> memory_;
};

struct Flow {
  std::unique_ptr<End> left, right;
  uint64_t read_mark = 0;  // free for the caller
};

class Simulation {
 public:
  Simulation(const LinkModel& rightward, const LinkModel& leftward, uint64_t seed = 1, Micros start = 1'000'000);

  // Settings without agreement: that is filled in here.
  Flow& add_flow(ConnectionSettings left, ConnectionSettings right, uint32_t initial_sequence = 12'345);

  // Runs until the time or until `done` holds; returns whether it does.
  bool run(Micros until, const std::function<bool()>& done = {});

  Micros now() const { return now_; }
  SimulatedLink to_right, to_left;
  std::vector<std::unique_ptr<Flow>> flows;

 private:
  void turn(End& end, size_t flow, SimulatedLink& out);
  void arrive(SimulatedLink& link, bool rightward);

  Micros now_;
  Outbox outbox_;
};

// Settings for a path: buffers of `bdps` bandwidth-delay products.
ConnectionSettings settings_for(const LinkModel& link, Micros rtt, double bdps = 4);

}  // namespace longhaul::udt::virtual_time
