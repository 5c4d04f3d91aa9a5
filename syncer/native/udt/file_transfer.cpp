#include "file_transfer.hpp"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <vector>

namespace longhaul::udt {
namespace {

constexpr int64_t kPiece = 1 << 20;

}  // namespace

int64_t send_file(Socket& socket, int descriptor, int64_t offset, int64_t size, const Patience& patience) {
  std::vector<uint8_t> piece(static_cast<size_t>(std::clamp<int64_t>(size, 0, kPiece)));
  int64_t done = 0;
  while (done < size) {
    const auto wanted = static_cast<size_t>(std::min(size - done, kPiece));
    const ssize_t got = pread(descriptor, piece.data(), wanted, offset + done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw Error::system("reading the file");
    if (got == 0) break;
    socket.write({piece.data(), static_cast<size_t>(got)}, true, patience);
    done += got;
  }
  return done;
}

int64_t receive_file(Socket& socket, int descriptor, int64_t offset, int64_t size, const Patience& patience) {
  std::vector<uint8_t> piece(static_cast<size_t>(std::clamp<int64_t>(size, 0, kPiece)));
  int64_t done = 0;
  while (done < size) {
    const auto wanted = static_cast<size_t>(std::min(size - done, kPiece));
    const size_t got = socket.read({piece.data(), wanted}, true, patience);
    for (size_t written = 0; written < got;) {
      const ssize_t count =
          pwrite(descriptor, piece.data() + written, got - written, offset + done + static_cast<int64_t>(written));
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) throw Error::system("writing the file");
      written += static_cast<size_t>(count);
    }
    done += static_cast<int64_t>(got);
    if (got < wanted) break;
  }
  return done;
}

}  // namespace longhaul::udt
