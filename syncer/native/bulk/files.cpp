#include "files.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <thread>

namespace longhaul::bulk {
namespace {

constexpr std::size_t kSyncThreads = 8;
constexpr std::size_t kFilesPerThread = 8;  // with fewer a thread costs more than it brings
constexpr int kReadFlags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;

int open_new(const char* path) {
  constexpr int flags = O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC;
  int fd = ::open(path, flags, 0600);
  if (fd < 0 && errno == EEXIST && ::unlink(path) == 0) fd = ::open(path, flags, 0600);
  return fd;
}

int write_all(int fd, const std::byte* data, std::size_t size) {
  while (size > 0) {
    const ssize_t written = ::write(fd, data, size);
    if (written < 0) {
      if (errno == EINTR) continue;
      return errno;
    }
    data += written;
    size -= static_cast<std::size_t>(written);
  }
  return 0;
}

// fsyncs the files that have no error yet. The kernel joins the journal commits and flushes of several at once.
void sync_each(const std::vector<int>& fds, std::vector<int>& errors) {
  for (std::size_t i = 0; i < fds.size(); ++i) {
    if (errors[i] == 0) ::sync_file_range(fds[i], 0, 0, SYNC_FILE_RANGE_WRITE);  // a hint: no error to be had
  }
  std::atomic<std::size_t> next{0};
  const auto work = [&] {
    for (std::size_t i = next++; i < fds.size(); i = next++) {
      if (errors[i] == 0 && ::fsync(fds[i]) != 0) errors[i] = errno;
    }
  };
  std::vector<std::thread> helpers;
  const std::size_t wanted = std::min(kSyncThreads, fds.size() / kFilesPerThread);
  try {
    for (std::size_t i = 1; i < wanted; ++i) helpers.emplace_back(work);
  } catch (const std::system_error&) {
    // no thread to be had: this one does it
  }
  work();
  for (auto& helper : helpers) helper.join();
}

int stat_of(int fd, struct stat& found) { return ::fstat(fd, &found) == 0 ? 0 : errno; }

void place(const Placement& wanted, Placed& result) {
  const int fd = ::openat(wanted.temporary, wanted.name.c_str(), kReadFlags);
  if (fd < 0) {
    result.error = errno;
    result.is_missing = errno == ENOENT;
    return;
  }
  const timespec time{static_cast<time_t>(wanted.mtime_ns / 1'000'000'000 - (wanted.mtime_ns % 1'000'000'000 < 0)),
                      static_cast<long>((wanted.mtime_ns % 1'000'000'000 + 1'000'000'000) % 1'000'000'000)};
  const timespec times[2] = {time, time};
  if (stat_of(fd, result.before) != 0) {
    result.error = errno;
  } else if (result.before.st_size != wanted.size) {
    result.wrong_size = true;
  } else if (::fchmod(fd, wanted.mode) != 0 || ::futimens(fd, times) != 0 || ::fstat(fd, &result.before) != 0 ||
             ::renameat2(wanted.temporary, wanted.name.c_str(), wanted.parent, wanted.target.c_str(),
                         RENAME_NOREPLACE) != 0 ||
             ::fstat(fd, &result.after) != 0) {
    result.error = errno;
  }
  ::close(fd);
}

void read_one(const Wanted& wanted, Read& result) {
  const int fd = ::openat(wanted.parent, wanted.name.c_str(), kReadFlags);
  if (fd < 0) {
    result.error = errno;
    return;
  }
  result.error = stat_of(fd, result.before);
  if (result.error == 0 && S_ISREG(result.before.st_mode) && result.before.st_size == wanted.size) {
    result.data.resize(static_cast<std::size_t>(wanted.size));
    std::size_t at = 0;
    while (at < result.data.size()) {
      const ssize_t got = ::pread(fd, result.data.data() + at, result.data.size() - at, static_cast<off_t>(at));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) result.error = errno;
      if (got <= 0) break;
      at += static_cast<std::size_t>(got);
    }
    result.data.resize(at);
  }
  if (result.error == 0) result.error = stat_of(fd, result.after);
  ::close(fd);
}

}  // namespace

std::vector<int> write_files(const std::vector<NewFile>& files, Sync sync) {
  std::vector<int> errors(files.size(), 0);
  std::vector<int> fds(files.size(), -1);
  int any = -1;
  for (std::size_t i = 0; i < files.size(); ++i) {
    fds[i] = open_new(files[i].path.c_str());
    errors[i] = fds[i] < 0 ? errno : write_all(fds[i], files[i].data, files[i].size);
    if (fds[i] >= 0 && any < 0) any = fds[i];
  }
  // If it fails, each file's own fsync tells which one it was.
  if (any >= 0 && (sync == Sync::each || ::syncfs(any) != 0)) sync_each(fds, errors);
  for (std::size_t i = 0; i < files.size(); ++i) {
    if (fds[i] >= 0 && ::close(fds[i]) != 0 && errors[i] == 0 && errno != EINTR) errors[i] = errno;
  }
  return errors;
}

std::vector<Placed> place_files(const std::vector<Placement>& placements) {
  std::vector<Placed> results(placements.size());
  for (std::size_t i = 0; i < placements.size(); ++i) place(placements[i], results[i]);
  return results;
}

std::vector<Read> read_files(const std::vector<Wanted>& files) {
  std::vector<Read> results(files.size());
  for (std::size_t i = 0; i < files.size(); ++i) read_one(files[i], results[i]);
  return results;
}

}  // namespace longhaul::bulk
