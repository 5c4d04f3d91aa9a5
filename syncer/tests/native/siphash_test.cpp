#include "siphash.hpp"

#include <doctest/doctest.h>

#include <set>
#include <vector>

namespace longhaul::udt {
namespace {

TEST_CASE("SipHash-2-4 gives the value of the paper's appendix") {
  std::array<uint8_t, 16> key{};
  for (uint8_t i = 0; i < 16; ++i) key[i] = i;
  std::vector<uint8_t> message;
  for (uint8_t i = 0; i < 15; ++i) message.push_back(i);
  CHECK(siphash_2_4(key, message) == 0xa129ca6149be45e5ull);
}

TEST_CASE("every length and every key gives another value") {
  std::set<uint64_t> values;
  std::array<uint8_t, 16> key{};
  const std::vector<uint8_t> zeros(64, 0);
  for (size_t size = 0; size <= zeros.size(); ++size)
    values.insert(siphash_2_4(key, std::span(zeros).first(size)));
  CHECK(values.size() == 65);
  key[15] = 1;
  CHECK(!values.contains(siphash_2_4(key, zeros)));
}

}  // namespace
}  // namespace longhaul::udt
