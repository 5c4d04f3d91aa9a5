// Files through a stream, read and written at offsets by descriptor.
#pragma once

#include <cstdint>

#include "socket.hpp"

namespace longhaul::udt {

// Both return how many bytes went: fewer than `size` at the end of the file, or of the stream. Throws Error.
int64_t send_file(Socket& socket, int descriptor, int64_t offset, int64_t size, const Patience& patience);
int64_t receive_file(Socket& socket, int descriptor, int64_t offset, int64_t size, const Patience& patience);

}  // namespace longhaul::udt
