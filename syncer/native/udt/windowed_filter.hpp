// The largest or smallest value of a sliding window, in constant space: the window is cut into slots and whole slots expire.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>

namespace longhaul::udt {

// `Better` is std::greater for a maximum, std::less for a minimum. Positions (times, or round counts) never go back.
// A value is kept for at least `window` and at most a slot longer.
template <class Better, size_t kSlots = 10>
class WindowedFilter {
 public:
  explicit WindowedFilter(int64_t window) { set_window(window); }

  void set_window(int64_t window) {
    int64_t width = (window + static_cast<int64_t>(kSlots) - 1) / static_cast<int64_t>(kSlots);
    if (width < 1) width = 1;
    if (width == width_) return;
    width_ = width;
    for (Slot& slot : slots_) slot.index = slot.filled ? slot.position / width_ : slot.index;
  }

  void update(int64_t position, double value) {
    int64_t index = position / width_;
    Slot& slot = slots_[newest_];
    if (slot.filled && slot.index == index) {
      if (Better{}(value, slot.value)) slot = {index, position, value, true};
    } else {
      newest_ = (newest_ + 1) % slots_.size();
      slots_[newest_] = {index, position, value, true};
    }
  }

  // `otherwise` when nothing is in the window that ends at `position`.
  double best(int64_t position, double otherwise) const {
    int64_t oldest = position / width_ - static_cast<int64_t>(kSlots);
    bool found = false;
    double result = otherwise;
    for (const Slot& slot : slots_) {
      if (!slot.filled || slot.index < oldest) continue;
      if (!found || Better{}(slot.value, result)) result = slot.value;
      found = true;
    }
    return result;
  }

  void clear() {
    for (Slot& slot : slots_) slot.filled = false;
  }

 private:
  struct Slot {
    int64_t index = 0;
    int64_t position = 0;
    double value = 0;
    bool filled = false;
  };
  std::array<Slot, kSlots + 1> slots_{};
  size_t newest_ = 0;
  int64_t width_ = 0;
};

using WindowedMax = WindowedFilter<std::greater<double>>;
using WindowedMin = WindowedFilter<std::less<double>>;

}  // namespace longhaul::udt
