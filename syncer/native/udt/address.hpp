// An IPv4 or IPv6 address with a port.
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include "handshake.hpp"

namespace longhaul::udt {

class SocketAddress {
 public:
  SocketAddress() = default;
  // Numeric hosts only: names are resolved above. `host` empty: any address of the family. Throws kMisuse.
  static SocketAddress parse(int family, const std::string& host, int port);
  static SocketAddress from(const sockaddr_storage& storage);
  static SocketAddress local_of(int descriptor);

  int family() const { return storage_.base.sa_family; }
  const sockaddr* get() const { return &storage_.base; }
  socklen_t length() const { return family() == AF_INET6 ? sizeof(sockaddr_in6) : sizeof(sockaddr_in); }

  std::string host() const;  // numeric; an IPv4 address that came through an IPv6 socket is written as IPv4
  int port() const;
  std::string text() const;  // for messages: 192.0.2.1:4000, [2001:db8::1]:4000

  bool is_any() const;
  // Packets travel over IPv6: false for IPv4 that is mapped into an IPv6 socket's addresses.
  bool over_ipv6() const;

  // The bytes that a cookie is bound to.
  AddressBytes bytes() const;
  // As UDT4 writes a peer's address into its handshakes: the address's bytes as little-endian words.
  std::array<uint32_t, 4> handshake_words() const;

  size_t hash() const;
  friend bool operator==(const SocketAddress& one, const SocketAddress& other);

 private:
  union {
    sockaddr base;
    sockaddr_in v4;
    sockaddr_in6 v6;
  } storage_{};
};

struct AddressHash {
  size_t operator()(const SocketAddress& address) const { return address.hash(); }
};

}  // namespace longhaul::udt
