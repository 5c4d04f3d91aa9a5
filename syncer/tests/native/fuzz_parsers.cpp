// Fuzz target: every parser, on arbitrary datagrams. What a parser accepts is written again and must parse to the same.
#include <cstdint>
#include <cstdlib>
#include <vector>

#include "fuzz_check.hpp"
#include "packet.hpp"

namespace longhaul::udt {
namespace {

void parse_losses(Bytes list) {
  LossReader reader(list);
  std::vector<uint8_t> written(list.size());
  LossWriter writer(written.data(), written.size());
  size_t ranges = 0;
  while (const auto range = reader.next()) {
    REQUIRE_THAT(++ranges * 4 <= list.size());
    REQUIRE_THAT(range->first < 0x80000000u && range->last < 0x80000000u);
    REQUIRE_THAT(((range->last - range->first) & 0x7fffffffu) < 0x40000000u);
    REQUIRE_THAT(writer.add(*range));
  }
  REQUIRE_THAT(!reader.next());
}

void parse_body(const PacketView& packet) {
  uint8_t out[64];
  if (const auto handshake = parse_handshake(packet.body)) {
    write_handshake(*handshake, out);
    REQUIRE_THAT(same_bytes(packet.body, out, kHandshakeSize));
  }
  if (const auto ack = parse_ack(packet.body)) {
    const size_t size = write_ack(*ack, out);
    REQUIRE_THAT(size <= packet.body.size() && same_bytes(packet.body, out, size));
  }
  if (const auto range = parse_drop_request(packet.body)) {
    REQUIRE_THAT(same_bytes(packet.body, out, write_drop_request(*range, out)));
  }
  if (const auto end = parse_end(packet.body)) {
    REQUIRE_THAT(same_bytes(packet.body, out, write_end(*end, out)));
  }
  if (const auto hello = parse_hello(packet.body)) {
    const auto again = parse_hello(Bytes(out, write_hello(*hello, out)));
    REQUIRE_THAT(again && again->version == hello->version && again->features == hello->features &&
                 again->heard == hello->heard);
  }
  if (const auto report = parse_report(packet.body)) {
    write_report(*report, out);
    REQUIRE_THAT(same_bytes(packet.body, out, kReportSize - 4));  // the flags' word has bits of no meaning
    parse_losses(report->missing);
  }
  parse_losses(packet.body);
}

}  // namespace
}  // namespace longhaul::udt

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace longhaul::udt;
  const auto packet = parse_packet(Bytes(data, size));
  if (!packet) return 0;
  uint8_t header[kHeaderSize];
  if (packet->is_control)
    write_header(packet->control, header);
  else
    write_header(packet->data, header);
  REQUIRE_THAT(same_bytes(Bytes(data, size), header, kHeaderSize));
  parse_body(*packet);
  return 0;
}
