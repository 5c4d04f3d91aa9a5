// Datagrams that two libudt 4.11 ends exchanged, from syncer/tests/golden/udt_wire.
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace longhaul::udt::golden {

struct Captured {
  bool from_client = false;
  bool payload_cut = false;  // only the header was kept
  std::vector<uint8_t> bytes;
};

inline std::vector<std::filesystem::path> scenarios() {
  std::vector<std::filesystem::path> found;
  for (const auto& entry : std::filesystem::directory_iterator(GOLDEN_DIRECTORY))
    if (entry.path().extension() == ".json") found.push_back(entry.path());
  if (found.empty()) throw std::runtime_error("no captured packets in " GOLDEN_DIRECTORY);
  return found;
}

// Reads what those files have of JSON: one object a packet, without nesting.
inline std::vector<Captured> load(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::stringstream content;
  content << file.rdbuf();
  const std::string text = content.str();
  if (text.empty()) throw std::runtime_error("cannot read " + path.string());

  std::vector<Captured> packets;
  const std::string hex_key = "\"hex\": \"";
  for (size_t at = text.find(hex_key); at != std::string::npos; at = text.find(hex_key, at)) {
    const size_t start = text.rfind('{', at), end = text.find('}', at);
    const std::string object = text.substr(start, end - start);
    Captured packet;
    packet.from_client = object.find("\"from\": \"client\"") != std::string::npos;
    packet.payload_cut = object.find("\"payload_cut\": true") != std::string::npos;
    at += hex_key.size();
    for (; text[at] != '"'; at += 2)
      packet.bytes.push_back(static_cast<uint8_t>(std::stoul(text.substr(at, 2), nullptr, 16)));
    packets.push_back(std::move(packet));
  }
  return packets;
}

inline std::vector<Captured> load(const std::string& scenario) {
  return load(std::filesystem::path(GOLDEN_DIRECTORY) / (scenario + ".json"));
}

}  // namespace longhaul::udt::golden
