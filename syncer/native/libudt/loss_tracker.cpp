#include "loss_tracker.hpp"

#include <iterator>

namespace longhaul {

namespace {
constexpr int64_t kSequenceSpace = int64_t{1} << 31;
// A gap wider than any flow window is not loss but a sequence that libudt skipped.
constexpr int64_t kWidestGap = int64_t{1} << 18;
}  // namespace

int64_t LossTracker::unwrap(int32_t sequence) const {
  int64_t distance = (sequence - newest_) % kSequenceSpace;
  if (distance < -kSequenceSpace / 2) distance += kSequenceSpace;
  if (distance >= kSequenceSpace / 2) distance -= kSequenceSpace;
  return newest_ + distance;
}

bool LossTracker::arrived(int32_t sequence, int64_t now_us) {
  if (!started_) {
    started_ = true;
    // Far from zero, so that earlier packets never unwrap to a negative number.
    newest_ = sequence + kSequenceSpace;
    return true;
  }
  const int64_t packet = unwrap(sequence);
  if (packet > newest_) {
    const int64_t gap = packet - newest_ - 1;
    if (gap > 0 && gap <= kWidestGap) {
      missing_.emplace_hint(missing_.end(), newest_ + 1, Range{packet - 1, now_us});
      missing_packets_ += gap;
    }
    newest_ = packet;
    return true;
  }
  auto after = missing_.upper_bound(packet);
  if (after == missing_.begin()) return false;
  auto found = std::prev(after);
  const int64_t first = found->first;
  const Range range = found->second;
  if (packet > range.last) return false;
  --missing_packets_;
  if (packet == first) {
    auto hint = missing_.erase(found);
    if (packet < range.last) missing_.emplace_hint(hint, packet + 1, range);
  } else {
    found->second.last = packet - 1;
    if (packet < range.last) missing_.emplace_hint(after, packet + 1, range);
  }
  return true;
}

std::vector<int32_t> LossTracker::overdue(int64_t now_us, int64_t patience_us, std::size_t max_words) {
  std::vector<int32_t> words;
  for (auto& [first, range] : missing_) {
    if (words.size() + 2 > max_words) break;
    if (now_us - range.asked_us < patience_us) continue;
    range.asked_us = now_us;
    const auto low = static_cast<int32_t>(first % kSequenceSpace);
    const auto high = static_cast<int32_t>(range.last % kSequenceSpace);
    // A range across the wrap is left to libudt's own repair: its encoding cannot hold it.
    if (high < low) continue;
    if (low == high) {
      words.push_back(low);
    } else {
      words.push_back(static_cast<int32_t>(static_cast<uint32_t>(low) | 0x80000000u));
      words.push_back(high);
    }
  }
  return words;
}

}  // namespace longhaul
