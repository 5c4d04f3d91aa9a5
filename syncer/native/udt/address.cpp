#include "address.hpp"

#include <arpa/inet.h>
#include <net/if.h>
#include <netdb.h>

#include <algorithm>
#include <cstring>

#include "errors.hpp"

namespace longhaul::udt {
namespace {

constexpr size_t kMappedAt = 12;  // where IPv4 begins in a mapped address

uint64_t mix(uint64_t value) {
  value *= 0x9e3779b97f4a7c15u;
  return value ^ value >> 32;
}

}  // namespace

SocketAddress SocketAddress::parse(int family, const std::string& host, int port) {
  if (port < 0 || port > 65535) {
    throw Error(ErrorKind::kMisuse, "port " + std::to_string(port) + " is not in 0..65535");
  }
  addrinfo hints{};
  addrinfo* found = nullptr;
  hints.ai_family = family;
  hints.ai_socktype = SOCK_DGRAM;
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE | (family == AF_INET6 ? AI_V4MAPPED : 0);
  const std::string service = std::to_string(port);
  if (getaddrinfo(host.empty() ? nullptr : host.c_str(), service.c_str(), &hints, &found) != 0) {
    throw Error(ErrorKind::kMisuse, "'" + host + "' is not a numeric address of the socket's family (" +
                                        (family == AF_INET6 ? "IPv6)" : "IPv4)"));
  }
  SocketAddress address;
  std::memcpy(&address.storage_, found->ai_addr, std::min<size_t>(found->ai_addrlen, sizeof address.storage_));
  freeaddrinfo(found);
  return address;
}

SocketAddress SocketAddress::from(const sockaddr_storage& storage) {
  SocketAddress address;
  if (storage.ss_family == AF_INET6) {
    std::memcpy(&address.storage_.v6, &storage, sizeof address.storage_.v6);
    address.storage_.v6.sin6_flowinfo = 0;
  } else {
    std::memcpy(&address.storage_.v4, &storage, sizeof address.storage_.v4);
    std::fill(std::begin(address.storage_.v4.sin_zero), std::end(address.storage_.v4.sin_zero), 0);
  }
  return address;
}

SocketAddress SocketAddress::local_of(int descriptor) {
  sockaddr_storage storage{};
  socklen_t length = sizeof storage;
  if (getsockname(descriptor, reinterpret_cast<sockaddr*>(&storage), &length) != 0) throw Error::system("getsockname");
  return from(storage);
}

std::string SocketAddress::host() const {
  if (family() == AF_INET6 && !over_ipv6()) {
    char text[INET_ADDRSTRLEN] = "";
    inet_ntop(AF_INET, storage_.v6.sin6_addr.s6_addr + kMappedAt, text, sizeof text);
    return text;
  }
  char text[NI_MAXHOST] = "";
  getnameinfo(get(), length(), text, sizeof text, nullptr, 0, NI_NUMERICHOST);
  return text;
}

int SocketAddress::port() const { return ntohs(family() == AF_INET6 ? storage_.v6.sin6_port : storage_.v4.sin_port); }

std::string SocketAddress::text() const {
  const std::string name = host();
  return (name.find(':') == std::string::npos ? name : "[" + name + "]") + ":" + std::to_string(port());
}

bool SocketAddress::is_any() const {
  return family() == AF_INET6 ? IN6_IS_ADDR_UNSPECIFIED(&storage_.v6.sin6_addr)
                              : storage_.v4.sin_addr.s_addr == htonl(INADDR_ANY);
}

bool SocketAddress::over_ipv6() const { return family() == AF_INET6 && !IN6_IS_ADDR_V4MAPPED(&storage_.v6.sin6_addr); }

AddressBytes SocketAddress::bytes() const {
  AddressBytes bytes{};
  const int port_number = port();
  bytes[0] = over_ipv6() ? 6 : 4;
  bytes[1] = static_cast<uint8_t>(port_number >> 8);
  bytes[2] = static_cast<uint8_t>(port_number);
  if (over_ipv6()) {
    std::memcpy(&bytes[4], storage_.v6.sin6_addr.s6_addr, 16);
  } else if (family() == AF_INET6) {
    std::memcpy(&bytes[4], storage_.v6.sin6_addr.s6_addr + kMappedAt, 4);
  } else {
    std::memcpy(&bytes[4], &storage_.v4.sin_addr, 4);
  }
  return bytes;
}

std::array<uint32_t, 4> SocketAddress::handshake_words() const {
  const AddressBytes own = bytes();
  std::array<uint32_t, 4> words{};
  for (size_t word = 0; word < (over_ipv6() ? 4u : 1u); ++word) {
    const uint8_t* at = &own[4 + 4 * word];
    words[word] = uint32_t{at[3]} << 24 | uint32_t{at[2]} << 16 | uint32_t{at[1]} << 8 | uint32_t{at[0]};
  }
  return words;
}

size_t SocketAddress::hash() const {
  const AddressBytes own = bytes();
  uint64_t parts[3] = {};
  std::memcpy(parts, own.data(), own.size());
  return mix(mix(mix(parts[0]) + parts[1]) + parts[2]);
}

bool operator==(const SocketAddress& one, const SocketAddress& other) {
  if (one.family() != other.family()) return false;
  if (one.family() == AF_INET6) {
    return one.storage_.v6.sin6_port == other.storage_.v6.sin6_port &&
           one.storage_.v6.sin6_scope_id == other.storage_.v6.sin6_scope_id &&
           IN6_ARE_ADDR_EQUAL(&one.storage_.v6.sin6_addr, &other.storage_.v6.sin6_addr);
  }
  return one.storage_.v4.sin_port == other.storage_.v4.sin_port &&
         one.storage_.v4.sin_addr.s_addr == other.storage_.v4.sin_addr.s_addr;
}

}  // namespace longhaul::udt
