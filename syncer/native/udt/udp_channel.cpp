#include "udp_channel.hpp"

#include <fcntl.h>
#include <linux/errqueue.h>
#include <linux/sock_diag.h>
#include <netinet/udp.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <numeric>

#include "errors.hpp"

namespace longhaul::udt {
namespace {

constexpr int kPatienceMs = 20;  // for room in the kernel's send buffer
constexpr int kMostErrors = 64;  // taken from the error queue at once

bool set(int descriptor, int level, int option, int value) {
  return setsockopt(descriptor, level, option, &value, sizeof value) == 0;
}

int value_of(int descriptor, int option) {
  int value = 0;
  socklen_t length = sizeof value;
  getsockopt(descriptor, SOL_SOCKET, option, &value, &length);
  return value;
}

// The privileged form goes beyond net.core.rmem_max and wmem_max.
void set_buffer(int descriptor, int forced, int plain, int bytes) {
  if (!set(descriptor, SOL_SOCKET, forced, bytes)) set(descriptor, SOL_SOCKET, plain, bytes);
}

template <typename Value>
void append_control(msghdr& header, int level, int type, const Value& value) {
  auto* at = reinterpret_cast<cmsghdr*>(static_cast<uint8_t*>(header.msg_control) + header.msg_controllen);
  at->cmsg_level = level;
  at->cmsg_type = type;
  at->cmsg_len = CMSG_LEN(sizeof value);
  std::memcpy(CMSG_DATA(at), &value, sizeof value);
  header.msg_controllen += CMSG_SPACE(sizeof value);
}

void append_source(msghdr& header, const LocalSource& source) {
  if (source.family == AF_INET) {
    in_pktinfo info{};
    info.ipi_spec_dst = source.v4;
    append_control(header, IPPROTO_IP, IP_PKTINFO, info);
  } else if (source.family == AF_INET6) {
    append_control(header, IPPROTO_IPV6, IPV6_PKTINFO, source.v6);
  }
}

}  // namespace

UdpChannel::UdpChannel(const SocketAddress& local, const Settings& settings) {
  descriptor_ = socket(local.family(), SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (descriptor_ < 0) throw Error::system("a UDP socket");
  try {
    if (local.family() == AF_INET6) set(descriptor_, IPPROTO_IPV6, IPV6_V6ONLY, local.is_any() ? 0 : 1);
    if (bind(descriptor_, local.get(), local.length()) != 0) throw Error::system("cannot bind UDP " + local.text());
    set_up(settings);
  } catch (...) {
    ::close(descriptor_);
    throw;
  }
}

UdpChannel::UdpChannel(int descriptor, const Settings& settings) : descriptor_(descriptor) {
  try {
    int type = value_of(descriptor_, SO_TYPE);
    if (type != SOCK_DGRAM) throw Error(ErrorKind::kMisuse, "the descriptor is no UDP socket");
    fcntl(descriptor_, F_SETFL, fcntl(descriptor_, F_GETFL) | O_NONBLOCK);
    fcntl(descriptor_, F_SETFD, fcntl(descriptor_, F_GETFD) | FD_CLOEXEC);
    set_up(settings);
  } catch (...) {
    ::close(descriptor_);
    throw;
  }
}

UdpChannel::~UdpChannel() { ::close(descriptor_); }

void UdpChannel::set_up(const Settings& settings) {
  local_ = SocketAddress::local_of(descriptor_);
  any_ = local_.is_any();
  set_buffer(descriptor_, SO_RCVBUFFORCE, SO_RCVBUF, settings.receive_buffer_bytes);
  set_buffer(descriptor_, SO_SNDBUFFORCE, SO_SNDBUF, settings.send_buffer_bytes);
  // Never fragmented: a fragment that is lost costs the whole packet. What doesn't fit comes back as an error. On an IPv6
  // socket the IPv4 options count for mapped addresses.
  set(descriptor_, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO);
  set(descriptor_, IPPROTO_IP, IP_RECVERR, 1);
  if (any_) set(descriptor_, IPPROTO_IP, IP_PKTINFO, 1);
  if (local_.family() == AF_INET6) {
    set(descriptor_, IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_DO);
    set(descriptor_, IPPROTO_IPV6, IPV6_RECVERR, 1);
    if (any_) set(descriptor_, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
  }
  gro_ = settings.offload && set(descriptor_, IPPROTO_UDP, UDP_GRO, 1);
  // A kernel that knows the option can split; whether the way out can shows at the first attempt.
  int segment = 0;
  socklen_t length = sizeof segment;
  gso_ = settings.offload && getsockopt(descriptor_, IPPROTO_UDP, UDP_SEGMENT, &segment, &length) == 0;

  receive_memory_.reset(new uint8_t[kReceiveMessages * kReceiveRoom]);
  receive_headers_.resize(kReceiveMessages);
  receive_vectors_.resize(kReceiveMessages);
  receive_names_.resize(kReceiveMessages);
  receive_control_.resize(kReceiveMessages);
  for (size_t index = 0; index < kReceiveMessages; ++index) {
    receive_vectors_[index] = {receive_memory_.get() + index * kReceiveRoom, kReceiveRoom};
  }
  send_headers_.resize(Outbox::kDatagrams);
  send_vectors_.resize(Outbox::kDatagrams);
  send_control_.resize(Outbox::kDatagrams);
  send_counts_.resize(Outbox::kDatagrams);
}

int UdpChannel::read_batch() {
  for (size_t index = 0; index < kReceiveMessages; ++index) {
    msghdr& header = receive_headers_[index].msg_hdr;
    header.msg_name = &receive_names_[index];
    header.msg_namelen = sizeof receive_names_[index];
    header.msg_iov = &receive_vectors_[index];
    header.msg_iovlen = 1;
    header.msg_control = receive_control_[index].bytes;
    header.msg_controllen = kControlRoom;
    header.msg_flags = 0;
  }
  // An error is one that waited on the socket; it stands in the error queue too.
  return recvmmsg(descriptor_, receive_headers_.data(), kReceiveMessages, MSG_DONTWAIT, nullptr);
}

UdpChannel::Message UdpChannel::message_at(int index) const {
  const size_t at = static_cast<size_t>(index);
  const size_t size = receive_headers_[at].msg_len;
  Message message{{SocketAddress::from(receive_names_[at]), {}},
                  {static_cast<const uint8_t*>(receive_vectors_[at].iov_base), size},
                  std::max<size_t>(size, 1)};
  msghdr header = receive_headers_[at].msg_hdr;
  for (cmsghdr* control = CMSG_FIRSTHDR(&header); control != nullptr; control = CMSG_NXTHDR(&header, control)) {
    if (control->cmsg_level == IPPROTO_UDP && control->cmsg_type == UDP_GRO) {
      int segment = 0;
      std::memcpy(&segment, CMSG_DATA(control), sizeof segment);
      if (segment > 0) message.segment = static_cast<size_t>(segment);
    } else if (control->cmsg_level == IPPROTO_IP && control->cmsg_type == IP_PKTINFO) {
      in_pktinfo info{};
      std::memcpy(&info, CMSG_DATA(control), sizeof info);
      message.path.source.family = AF_INET;
      message.path.source.v4 = info.ipi_spec_dst;
    } else if (control->cmsg_level == IPPROTO_IPV6 && control->cmsg_type == IPV6_PKTINFO) {
      in6_pktinfo info{};
      std::memcpy(&info, CMSG_DATA(control), sizeof info);
      // A mapped address is told twice; IPv4's own form is the one that binds the source.
      if (IN6_IS_ADDR_V4MAPPED(&info.ipi6_addr)) continue;
      if (!IN6_IS_ADDR_LINKLOCAL(&info.ipi6_addr)) info.ipi6_ifindex = 0;  // the way back may be another device
      message.path.source.family = AF_INET6;
      message.path.source.v6 = info;
    }
  }
  return message;
}

size_t UdpChannel::fill_batch(const Path& path, std::span<const Datagram> datagrams, bool segmented, size_t& messages) {
  size_t taken = 0, vectors = 0;
  messages = 0;
  while (taken < datagrams.size() && messages < send_headers_.size()) {
    const size_t segment = datagrams[taken].size;
    size_t count = 1, bytes = segment;
    if (segmented) {
      // Equal ones and at most one shorter, which ends it.
      while (taken + count < datagrams.size() && count < kMostSegments && datagrams[taken + count - 1].size == segment &&
             datagrams[taken + count].size <= segment && bytes + datagrams[taken + count].size <= kMostSegmentedBytes) {
        bytes += datagrams[taken + count++].size;
      }
      if (count < kFewestSegments) {
        count = 1;
        bytes = segment;
      }
    }
    msghdr& header = send_headers_[messages].msg_hdr;
    header = {};
    header.msg_name = const_cast<sockaddr*>(path.peer.get());
    header.msg_namelen = path.peer.length();
    header.msg_iov = &send_vectors_[vectors];
    for (size_t index = 0; index < count; ++index) {
      const Datagram& next = datagrams[taken + index];
      if (header.msg_iovlen > 0) {
        iovec& last = header.msg_iov[header.msg_iovlen - 1];
        if (static_cast<uint8_t*>(last.iov_base) + last.iov_len == next.data) {
          last.iov_len += next.size;
          continue;
        }
      }
      send_vectors_[vectors++] = {const_cast<uint8_t*>(next.data), next.size};
      ++header.msg_iovlen;
    }
    header.msg_control = send_control_[messages].bytes;
    if (any_) append_source(header, path.source);
    if (count > 1) append_control(header, IPPROTO_UDP, UDP_SEGMENT, static_cast<uint16_t>(segment));
    if (header.msg_controllen == 0) header.msg_control = nullptr;
    send_counts_[messages++] = count;
    taken += count;
  }
  return taken;
}

size_t UdpChannel::write_batch(size_t messages, int& error) {
  error = 0;
  size_t done = 0;
  while (done < messages) {
    const int count = sendmmsg(descriptor_, send_headers_.data() + done, static_cast<unsigned>(messages - done), 0);
    if (count > 0) {
      done += static_cast<size_t>(count);
      continue;
    }
    if (errno == EINTR) continue;
    if (errno == EAGAIN || errno == EWOULDBLOCK) {
      pollfd writable{descriptor_, POLLOUT, 0};
      if (poll(&writable, 1, kPatienceMs) > 0) continue;
      errno = EAGAIN;
    }
    error = errno;
    return done;
  }
  return done;
}

UdpChannel::Outcome UdpChannel::send(const Path& path, std::span<const Datagram> datagrams) {
  bool segmented = gso_;
  bool refused = false;  // a segmented message was; whether it was for being segmented shows when its packets go singly
  bool told_already = false;
  Outcome outcome = Outcome::kSent;
  while (!datagrams.empty()) {
    size_t messages = 0;
    const size_t taken = fill_batch(path, datagrams, segmented, messages);
    int error = 0;
    const size_t done = write_batch(messages, error);
    size_t gone = std::accumulate(send_counts_.begin(), send_counts_.begin() + static_cast<long>(done), size_t{0});
    if (refused && done > 0) {
      gso_ = false;
      refused = false;
    }
    if (error == 0) {
      datagrams = datagrams.subspan(taken);
      continue;
    }
    const bool was_segmented = send_counts_[done] > 1;
    if (was_segmented && (error == EIO || error == EINVAL || error == ENOPROTOOPT || error == EMSGSIZE)) {
      segmented = false;
      refused = error != EMSGSIZE;
    } else if (error == EAGAIN) {
      return outcome;  // the device takes nothing: the rest counts as lost
    } else {
      if (error == EMSGSIZE) {
        outcome = Outcome::kTooLarge;
        refused = false;
      }
      // An error that an earlier datagram met (ECONNREFUSED, EHOSTUNREACH) is told once and says nothing of this one.
      const bool told_late = error == ECONNREFUSED || error == EHOSTUNREACH || error == ENETUNREACH;
      if (!told_late || told_already) gone += send_counts_[done];
      told_already = told_late;
    }
    datagrams = datagrams.subspan(gone);
  }
  return outcome;
}

std::vector<NetworkError> UdpChannel::take_errors() {
  std::vector<NetworkError> errors;
  for (int turn = 0; turn < kMostErrors; ++turn) {
    sockaddr_storage name{};
    uint8_t payload[64];
    alignas(8) uint8_t control[512];
    iovec vector{payload, sizeof payload};
    msghdr header{};
    header.msg_name = &name;
    header.msg_namelen = sizeof name;
    header.msg_iov = &vector;
    header.msg_iovlen = 1;
    header.msg_control = control;
    header.msg_controllen = sizeof control;
    if (recvmsg(descriptor_, &header, MSG_ERRQUEUE | MSG_DONTWAIT) < 0) break;
    if (header.msg_namelen == 0) continue;
    for (cmsghdr* at = CMSG_FIRSTHDR(&header); at != nullptr; at = CMSG_NXTHDR(&header, at)) {
      const bool is_error = (at->cmsg_level == IPPROTO_IP && at->cmsg_type == IP_RECVERR) ||
                            (at->cmsg_level == IPPROTO_IPV6 && at->cmsg_type == IPV6_RECVERR);
      if (!is_error) continue;
      sock_extended_err error{};
      std::memcpy(&error, CMSG_DATA(at), sizeof error);
      errors.push_back({SocketAddress::from(name), static_cast<int>(error.ee_errno),
                        error.ee_errno == EMSGSIZE ? error.ee_info : 0});
    }
  }
  // What is left of it would fail the next datagram in place of the one that it is about, and wake poll again and again.
  value_of(descriptor_, SO_ERROR);
  return errors;
}

std::optional<uint32_t> UdpChannel::path_mtu(const SocketAddress& peer) {
  const int probe = socket(peer.family(), SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (probe < 0) return std::nullopt;
  int mtu = 0;
  socklen_t length = sizeof mtu;
  const bool mapped = peer.family() == AF_INET6 && !peer.over_ipv6();
  const bool known =
      connect(probe, peer.get(), peer.length()) == 0 &&
      (peer.family() == AF_INET || mapped ? getsockopt(probe, IPPROTO_IP, IP_MTU, &mtu, &length)
                                          : getsockopt(probe, IPPROTO_IPV6, IPV6_MTU, &mtu, &length)) == 0;
  ::close(probe);
  if (!known || mtu <= 0) return std::nullopt;
  return static_cast<uint32_t>(mtu);
}

int UdpChannel::receive_buffer_bytes() const { return value_of(descriptor_, SO_RCVBUF); }
int UdpChannel::send_buffer_bytes() const { return value_of(descriptor_, SO_SNDBUF); }

uint64_t UdpChannel::dropped() const {
  uint32_t memory[SK_MEMINFO_VARS] = {};
  socklen_t length = sizeof memory;
  if (getsockopt(descriptor_, SOL_SOCKET, SO_MEMINFO, memory, &length) != 0) return 0;
  return memory[SK_MEMINFO_DROPS];
}

}  // namespace longhaul::udt
