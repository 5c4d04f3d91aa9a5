// Sockets with several threads at once: what ThreadSanitizer and AddressSanitizer are to see.
#include "socket.hpp"

#include <doctest/doctest.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <numeric>
#include <thread>
#include <vector>

#include "clock.hpp"

using namespace longhaul::udt;

namespace {

Patience patience(double seconds = 60) {
  Patience result;
  result.until = monotonic_now() + static_cast<Micros>(seconds * 1e6);
  return result;
}

struct Pair {
  std::unique_ptr<Socket> client;
  std::unique_ptr<Socket> server;
};

Pair connect(Settings settings = {}, SocketKind kind = SocketKind::kStream) {
  Socket listener(settings, kind);
  listener.bind(AF_INET, "127.0.0.1", 0);
  listener.listen(8);
  auto client = std::make_unique<Socket>(settings, kind);
  client->connect(AF_INET, "127.0.0.1", listener.local_address().port(), patience());
  return {std::move(client), listener.accept(patience())};
}

std::vector<uint8_t> noise(size_t size) {
  std::vector<uint8_t> data(size);
  uint32_t state = 12345;
  for (uint8_t& byte : data) byte = static_cast<uint8_t>((state = state * 1664525 + 1013904223) >> 24);
  return data;
}

std::vector<uint8_t> read_to_end(Socket& socket) {
  std::vector<uint8_t> all, piece(100'000);
  while (size_t got = socket.read(piece, false, patience())) all.insert(all.end(), piece.begin(), piece.begin() + got);
  return all;
}

}  // namespace

TEST_CASE("both directions at once, watched by a third thread") {
  const Pair ends = connect();
  Socket &client = *ends.client, &server = *ends.server;
  const auto data = noise(8'000'000);
  std::atomic<bool> done = false;
  std::vector<uint8_t> there, back;
  std::thread watcher([&] {
    while (!done) {
      SocketStatistics now = client.statistics();
      CHECK(now.connection.bytes_sent <= 8'000'000);
      CHECK(client.state() == SocketState::kConnected);
      client.set_rate_bps(0);
      server.undelivered_bytes();
      client.can_write();
      std::this_thread::yield();
    }
  });
  std::thread one([&] {
    client.write(data, true, patience());
    client.finish();
  });
  std::thread two([&] {
    server.write(data, true, patience());
    server.finish();
  });
  std::thread three([&] { there = read_to_end(server); });
  back = read_to_end(client);
  one.join();
  two.join();
  three.join();
  done = true;
  watcher.join();
  CHECK(there == data);
  CHECK(back == data);
  CHECK(client.close(patience()) == 0);
  CHECK(server.close(patience()) == 0);
}

TEST_CASE("two writers and two readers take turns") {
  const Pair ends = connect();
  Socket &client = *ends.client, &server = *ends.server;
  // Each piece is one byte value, written at once: with turns, pieces do not mix.
  constexpr size_t kPiece = 300'000;
  auto write = [&client](uint8_t value) {
    client.write(std::vector<uint8_t>(kPiece, value), true, patience());
  };
  std::thread one([&] { for (int i = 0; i < 5; ++i) write(1); });
  std::thread two([&] { for (int i = 0; i < 5; ++i) write(2); });
  std::atomic<int> mixed = 0;
  auto read = [&] {
    for (int i = 0; i < 5; ++i) {
      std::vector<uint8_t> piece(kPiece);
      if (server.read(piece, true, patience()) != kPiece) ++mixed;
      if (!std::all_of(piece.begin(), piece.end(), [&](uint8_t value) { return value == piece[0]; })) ++mixed;
    }
  };
  std::thread three(read);
  read();
  one.join();
  two.join();
  three.join();
  CHECK(mixed == 0);
}

TEST_CASE("connections come and go on one port") {
  Settings settings;
  Socket listener(settings, SocketKind::kStream);
  listener.bind(AF_INET, "127.0.0.1", 0);
  listener.listen(64);
  const int port = listener.local_address().port();
  constexpr int kClients = 6, kRounds = 10;
  std::atomic<int> served = 0;
  std::vector<std::thread> threads;
  for (int index = 0; index < kClients; ++index) {
    threads.emplace_back([&] {
      for (int round = 0; round < kRounds; ++round) {
        Socket client(settings, SocketKind::kStream);
        client.connect(AF_INET, "127.0.0.1", port, patience());
        client.write(noise(20'000), true, patience());
        client.finish();
        CHECK(read_to_end(client) == noise(20'000));
        CHECK(client.close(patience()) == 0);
      }
    });
    threads.emplace_back([&] {
      for (int round = 0; round < kRounds; ++round) {
        auto server = listener.accept(patience());
        const auto data = read_to_end(*server);
        server->write(data, true, patience());
        CHECK(server->close(patience()) == 0);
        ++served;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(served == kClients * kRounds);
}

TEST_CASE("close wakes whoever waits") {
  for (int turn = 0; turn < 20; ++turn) {
    Settings settings;
    settings.send_buffer_bytes = settings.receive_buffer_bytes = 60'000;
    const Pair ends = connect(settings);
  Socket &client = *ends.client, &server = *ends.server;
    auto listener = std::make_unique<Socket>(settings, SocketKind::kStream);
    listener->bind(AF_INET, "127.0.0.1", 0);
    listener->listen(1);
    client.write(noise(110'000), true, patience());  // more than the reader's buffer holds: some stays undelivered
    std::atomic<int> woken = 0;
    auto expect_error = [&](auto call) {
      return std::thread([&, call] {
        try {
          call();
        } catch (const Error& error) {
          if (error.kind() == ErrorKind::kClosed || error.kind() == ErrorKind::kBroken) ++woken;
        }
      });
    };
    Socket *there = &client, *listening = listener.get();
    std::vector<std::thread> threads;
    threads.push_back(expect_error([there] { there->write(noise(1'000'000), true, patience()); }));
    threads.push_back(expect_error([there] { read_to_end(*there); }));
    threads.push_back(expect_error([there] { there->wait_delivered(patience()); }));
    threads.push_back(expect_error([listening] { listening->accept(patience()); }));
    if (turn % 2 == 0) std::this_thread::yield();
    server.abort();
    there->abort();
    listening->abort();
    for (std::thread& thread : threads) thread.join();
    CHECK(woken == 4);
  }
}

TEST_CASE("a socket is dropped while another thread uses its endpoint") {
  Settings settings;
  Socket listener(settings, SocketKind::kStream);
  listener.bind(AF_INET, "127.0.0.1", 0);
  listener.listen(64);
  const int port = listener.local_address().port();
  std::vector<std::thread> threads;
  for (int index = 0; index < 4; ++index) {
    threads.emplace_back([&] {
      for (int round = 0; round < 20; ++round) {
        // All leave from the listener's own port, and are dropped without a word at different moments.
        Socket client(settings, SocketKind::kStream);
        client.bind(AF_INET, "127.0.0.1", port);
        Patience wait = patience();
        wait.may_block = round % 3 != 0;
        client.connect(AF_INET, "127.0.0.1", port, wait);
        try {
          if (round % 3 == 1) client.write(noise(5'000), true, patience());
        } catch (const Error& error) {
          CHECK(error.kind() == ErrorKind::kBroken);  // the other end is dropped as well
        }
      }
    });
  }
  for (int accepted = 0; accepted < 4 * 12; ++accepted) listener.accept(patience());
  for (std::thread& thread : threads) thread.join();
}

TEST_CASE("messages from several threads arrive whole") {
  const Pair ends = connect({}, SocketKind::kDatagram);
  Socket &client = *ends.client, &server = *ends.server;
  std::vector<std::thread> threads;
  for (uint8_t value = 1; value <= 3; ++value) {
    threads.emplace_back([&client, value] {
      for (int index = 0; index < 100; ++index) {
        client.write_message(std::vector<uint8_t>(value * 1'000u, value), -1, false, patience());
      }
    });
  }
  int counts[4] = {};
  std::vector<uint8_t> room(10'000);
  for (int index = 0; index < 300; ++index) {
    const auto size = server.read_message(room, patience());
    REQUIRE(size.has_value());
    REQUIRE(*size == room[0] * 1'000u);
    ++counts[room[0]];
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(counts[1] == 100);
  CHECK(counts[2] == 100);
  CHECK(counts[3] == 100);
  CHECK(client.close(patience()) == 0);
  CHECK(!server.read_message(room, patience()).has_value());
}

TEST_CASE("descriptors follow what a socket can do") {
  Settings settings;
  settings.send_buffer_bytes = settings.receive_buffer_bytes = 200'000;
  const Pair ends = connect(settings);
  Socket &client = *ends.client, &server = *ends.server;
  auto ready = [](int descriptor, int timeout_ms) {
    pollfd watched{descriptor, POLLIN, 0};
    return poll(&watched, 1, timeout_ms) == 1;
  };
  const int readable = server.readable_descriptor(), writable = client.writable_descriptor();
  CHECK(!ready(readable, 50));
  CHECK(ready(writable, 5'000));
  size_t sent = 0;
  const auto data = noise(50'000);
  try {
    while (sent < 10'000'000) sent += client.write(data, false, Patience::none());
    FAIL("nothing held the writer back");
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::kWouldBlock);
  }
  CHECK(ready(readable, 5'000));
  std::vector<uint8_t> room(sent);
  CHECK(server.read(room, true, patience()) == sent);
  CHECK(!ready(readable, 50));
  CHECK(ready(writable, 5'000));
  client.finish();
  CHECK(ready(readable, 5'000));
  CHECK(server.read(room, false, patience()) == 0);
  CHECK(ready(writable, 5'000));
}
