// What the fuzz targets share: a check that ends the process, and a reader of the fuzzer's bytes.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <span>

// Ends the process, which the fuzzer takes as a finding.
#define REQUIRE_THAT(condition)                                                        \
  do {                                                                                 \
    if (!(condition)) {                                                                \
      std::fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #condition); \
      std::abort();                                                                    \
    }                                                                                  \
  } while (false)

namespace longhaul::udt {

inline bool same_bytes(std::span<const uint8_t> data, const uint8_t* expected, size_t size) {
  return data.size() >= size && std::memcmp(data.data(), expected, size) == 0;
}

// Decisions, taken from the fuzzer's input; zeros when it is used up.
class Choices {
 public:
  explicit Choices(std::span<const uint8_t> data) : rest_(data) {}

  bool empty() const { return rest_.empty(); }
  uint8_t byte() { return static_cast<uint8_t>(number(1)); }
  uint32_t word() { return number(4); }
  // In [0, limit).
  uint32_t below(uint32_t limit) { return (limit <= 256 ? number(1) : number(4)) % limit; }
  std::span<const uint8_t> bytes(size_t size) {
    const auto taken = rest_.first(size < rest_.size() ? size : rest_.size());
    rest_ = rest_.subspan(taken.size());
    return taken;
  }

 private:
  uint32_t number(size_t size) {
    uint32_t value = 0;
    for (const uint8_t byte : bytes(size)) value = value << 8 | byte;
    return value;
  }

  std::span<const uint8_t> rest_;
};

}  // namespace longhaul::udt
