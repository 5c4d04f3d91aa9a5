// An endpoint with many connections at the same time, with strangers, and without a listener; over the loopback device.
#include "endpoint.hpp"

#include <doctest/doctest.h>

#include <atomic>
#include <cstdint>
#include <future>
#include <memory>
#include <netinet/in.h>
#include <random>
#include <sys/socket.h>
#include <thread>
#include <unistd.h>
#include <vector>

#include "clock.hpp"
#include "socket.hpp"

namespace longhaul::udt {
namespace {

constexpr Micros kSecond = 1'000'000;

Patience within(Micros time) { return {.until = monotonic_now() + time}; }

Settings small_settings() {
  Settings settings;
  settings.send_buffer_bytes = settings.receive_buffer_bytes = 1 << 20;
  return settings;
}

struct Pair {
  std::unique_ptr<Socket> client, server;
};

std::unique_ptr<Socket> listener_on_loopback(SocketKind kind = SocketKind::kStream, size_t backlog = 64,
                                             Settings settings = small_settings()) {
  auto listener = std::make_unique<Socket>(settings, kind);
  listener->bind(AF_INET, "127.0.0.1", 0);
  listener->listen(backlog);
  return listener;
}

std::unique_ptr<Socket> connect_to(const Socket& listener, SocketKind kind = SocketKind::kStream,
                                   Settings settings = small_settings()) {
  auto client = std::make_unique<Socket>(settings, kind);
  client->connect(AF_INET, "127.0.0.1", listener.local_address().port(), within(10 * kSecond));
  return client;
}

Pair pair(SocketKind kind = SocketKind::kStream) {
  const auto listener = listener_on_loopback(kind);
  Pair made;
  made.client = connect_to(*listener, kind);
  made.server = listener->accept(within(10 * kSecond));
  return made;
}

std::vector<uint8_t> random_bytes(size_t size, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<uint8_t> bytes(size);
  for (auto& byte : bytes) byte = static_cast<uint8_t>(random());
  return bytes;
}

std::vector<uint8_t> read_to_end(Socket& socket) {
  std::vector<uint8_t> all, part(100'000);
  while (const size_t size = socket.read(part, false, within(30 * kSecond)))
    all.insert(all.end(), part.begin(), part.begin() + static_cast<ptrdiff_t>(size));
  return all;
}

// What the call fails with.
template <typename Call>
std::optional<ErrorKind> failure_of(Call call) {
  try {
    call();
  } catch (const Error& error) {
    return error.kind();
  }
  return std::nullopt;
}

TEST_CASE("many connections at the same time through one port at each end") {
  constexpr size_t kConnections = 24;
  const auto listener = listener_on_loopback();
  std::vector<std::future<bool>> clients, servers;
  for (size_t i = 0; i < kConnections; ++i) {
    clients.push_back(std::async(std::launch::async, [&listener, i] {
      const auto data = random_bytes(50'000 + i * 1'000, static_cast<uint32_t>(i));
      const auto client = connect_to(*listener);
      client->write(data, true, within(30 * kSecond));
      client->finish();
      const bool echoed = read_to_end(*client) == data;
      client->close(within(10 * kSecond));
      return echoed;
    }));
    servers.push_back(std::async(std::launch::async, [&listener] {
      const auto server = listener->accept(within(30 * kSecond));
      const auto data = read_to_end(*server);
      server->write(data, true, within(30 * kSecond));
      return server->close(within(30 * kSecond)) == 0;
    }));
  }
  for (auto& client : clients) CHECK(client.get());
  for (auto& server : servers) CHECK(server.get());
}

TEST_CASE("sockets come and go while others work") {
  const auto listener = listener_on_loopback();
  const Pair steady = pair();
  auto serving = std::async(std::launch::async, [&] {
    for (int i = 0; i < 60; ++i) listener->accept(within(30 * kSecond))->abort();
  });
  std::vector<std::future<void>> callers;
  for (int caller = 0; caller < 3; ++caller) {
    callers.push_back(std::async(std::launch::async, [&] {
      for (int i = 0; i < 20; ++i) {
        const auto client = connect_to(*listener);
        const std::vector<uint8_t> hello(100, 1);
        // Either end may be the first to leave.
        failure_of([&] { client->write(hello, true, within(kSecond)); });
        if (i % 2 == 0) client->abort();
      }
    }));
  }
  const auto data = random_bytes(2'000'000, 4);
  auto reading = std::async(std::launch::async, [&] { return read_to_end(*steady.server); });
  steady.client->write(data, true, within(30 * kSecond));
  steady.client->finish();
  CHECK(reading.get() == data);
  for (auto& caller : callers) caller.get();
  serving.get();
}

TEST_CASE("nobody there, another kind of socket, and a backlog that is full") {
  Settings hurried = small_settings();
  hurried.connect_timeout = 500'000;
  {
    const int descriptor = ::socket(AF_INET, SOCK_DGRAM, 0);  // a port that answers nothing
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    REQUIRE(::bind(descriptor, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    Socket client(hurried, SocketKind::kStream);
    const auto why = failure_of([&] {
      client.connect(AF_INET, "127.0.0.1", SocketAddress::local_of(descriptor).port(), within(10 * kSecond));
    });
    CHECK(why == ErrorKind::kTimedOut);
    ::close(descriptor);
  }
  const auto listener = listener_on_loopback(SocketKind::kStream, 1);
  const auto connect = [&](SocketKind kind) {
    return failure_of([&] { connect_to(*listener, kind, hurried); });
  };
  CHECK(connect(SocketKind::kDatagram) == ErrorKind::kRefused);
  const auto first = connect_to(*listener);
  CHECK(connect(SocketKind::kStream) == ErrorKind::kRefused);
}

TEST_CASE("datagrams that are no packets, or of nobody, disturb nobody") {
  const auto listener = listener_on_loopback();
  const auto client = connect_to(*listener);
  const auto server = listener->accept(within(10 * kSecond));
  std::atomic<bool> over{false};
  std::thread flood([&, port = listener->local_address().port()] {
    const int descriptor = ::socket(AF_INET, SOCK_DGRAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    std::mt19937 random(7);
    for (int i = 0; !over; ++i) {
      auto bytes = random_bytes(random() % 200, static_cast<uint32_t>(i));
      // Half of them look like handshakes.
      if (i % 2 == 0 && bytes.size() >= 64) {
        bytes.resize(64);
        std::fill(bytes.begin(), bytes.begin() + 16, uint8_t{0});
        bytes[0] = 0x80;
        std::fill(bytes.begin() + 36, bytes.begin() + 40, uint8_t{0});
        bytes[39] = 1;
      }
      ::sendto(descriptor, bytes.data(), bytes.size(), MSG_DONTWAIT, reinterpret_cast<sockaddr*>(&address), sizeof address);
      if (i % 64 == 0) std::this_thread::yield();
    }
    ::close(descriptor);
  });
  const auto data = random_bytes(1'000'000, 5);
  auto reading = std::async(std::launch::async, [&] { return read_to_end(*server); });
  client->write(data, true, within(60 * kSecond));
  client->finish();
  CHECK(reading.get() == data);
  over = true;
  flood.join();
  CHECK(client->close(within(10 * kSecond)) == 0);
}

TEST_CASE("a rendezvous of two threads") {
  const auto free_port = [] {
    Socket probe(small_settings(), SocketKind::kStream);
    probe.bind(AF_INET, "127.0.0.1", 0);
    return probe.local_address().port();
  };
  const int left_port = free_port(), right_port = free_port();
  REQUIRE(left_port != right_port);
  Settings settings = small_settings();
  settings.rendezvous = true;
  const auto meet = [&](int own, int other) {
    auto socket = std::make_unique<Socket>(settings, SocketKind::kStream);
    socket->bind(AF_INET, "127.0.0.1", own);
    socket->connect(AF_INET, "127.0.0.1", other, within(10 * kSecond));
    return socket;
  };
  auto coming = std::async(std::launch::async, [&] { return meet(left_port, right_port); });
  const auto right = meet(right_port, left_port);
  const auto left = coming.get();
  const std::vector<uint8_t> hello(1'000, 9);
  left->write(hello, true, within(5 * kSecond));
  std::vector<uint8_t> heard(1'000);
  CHECK(right->read(heard, true, within(5 * kSecond)) == 1'000);
  CHECK(heard == hello);
}

}  // namespace
}  // namespace longhaul::udt
