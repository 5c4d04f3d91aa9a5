// Batches of small file operations: one call for what would be some ten system calls a file from Python.
//
// Nothing here throws or keeps state; every result says for each file what the system said. Errors are errno values,
// 0 for none.
#pragma once

#include <sys/stat.h>
#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace longhaul::bulk {

struct NewFile {
  std::string path;
  const std::byte* data;
  std::size_t size;
};

enum class Sync {
  file_system,  // one syncfs(2) for all: cheapest, but waits for what others write to the file system too
  each,         // fsync(2) of each, several at once
};

// Makes the files, which must not be there (one that is there is unlinked first: it may be in another's hands by now),
// mode 0600, and makes their content durable. Not durable: their names. All on one file system.
std::vector<int> write_files(const std::vector<NewFile>& files, Sync sync);

struct Placement {
  int temporary;  // descriptor of the directory in which ``name`` is
  std::string name;
  int parent;  // descriptor of the directory in which ``target`` is made
  std::string target;
  off_t size;
  mode_t mode;
  std::int64_t mtime_ns;
};

struct Placed {
  int error = 0;
  bool wrong_size = false;  // not of ``size``: nothing was changed
  bool is_missing = false;  // there is no ``name``
  struct stat before {};    // with its mode and time, before it was moved
  struct stat after {};
};

// Gives each file its mode and time and moves it to its target, where nothing may stand (else EEXIST).
std::vector<Placed> place_files(const std::vector<Placement>& placements);

struct Wanted {
  int parent;
  std::string name;
  off_t size;
};

struct Read {
  int error = 0;
  struct stat before {};
  struct stat after {};
  std::string data;  // at most ``size`` bytes
};

// The content of regular files, with their status before and after. Others have their status and no data.
std::vector<Read> read_files(const std::vector<Wanted>& files);

}  // namespace longhaul::bulk
