// What is due when: a binary heap whose members know their place, so that moving one's deadline costs its depth and
// allocates nothing.
#pragma once

#include <cstddef>
#include <utility>
#include <vector>

#include "numbers.hpp"

namespace longhaul::udt {

// `Member` has the fields `Micros deadline` and `size_t heap_place`, the latter kNowhere at first; both are the heap's.
template <typename Member>
class DeadlineHeap {
 public:
  static constexpr size_t kNowhere = static_cast<size_t>(-1);

  Micros earliest() const { return members_.empty() ? kNever : members_[0]->deadline; }
  Member* first() const { return members_.empty() ? nullptr : members_[0]; }

  // kNever takes it out.
  void set(Member* member, Micros deadline) {
    if (deadline == kNever) {
      remove(member);
      return;
    }
    if (member->heap_place == kNowhere) {
      member->heap_place = members_.size();
      members_.push_back(member);
    }
    member->deadline = deadline;
    sink(rise(member->heap_place));
  }

  void remove(Member* member) {
    const size_t place = member->heap_place;
    if (place == kNowhere) return;
    member->heap_place = kNowhere;
    member->deadline = kNever;
    Member* last = members_.back();
    members_.pop_back();
    if (last == member) return;
    members_[place] = last;
    last->heap_place = place;
    sink(rise(place));
  }

 private:
  void exchange(size_t one, size_t other) {
    std::swap(members_[one], members_[other]);
    members_[one]->heap_place = one;
    members_[other]->heap_place = other;
  }

  size_t rise(size_t place) {
    while (place > 0 && members_[place]->deadline < members_[(place - 1) / 2]->deadline) {
      exchange(place, (place - 1) / 2);
      place = (place - 1) / 2;
    }
    return place;
  }

  void sink(size_t place) {
    while (true) {
      size_t least = place;
      for (size_t child = 2 * place + 1; child <= 2 * place + 2 && child < members_.size(); ++child) {
        if (members_[child]->deadline < members_[least]->deadline) least = child;
      }
      if (least == place) return;
      exchange(place, least);
      place = least;
    }
  }

  std::vector<Member*> members_;
};

}  // namespace longhaul::udt
