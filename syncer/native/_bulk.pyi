from typing_extensions import Buffer

Status = tuple[int, int, int, int, int, int]
"""Device, inode, size, mtime_ns, ctime_ns, st_mode."""

def write_files(files: list[tuple[bytes, Buffer]], whole_file_system: bool) -> list[int]:
    """Make new files of mode 0600 (path, content), all on one file system, and make their contents durable: by one
    syncfs(2), or by an fsync(2) of each. A file that is there is unlinked first.

    For each an errno value, 0 for none. The files' names are not durable until their directory is.
    """

def place_files(
    temporary: int, files: list[tuple[bytes, int, bytes, int, int, int]]
) -> list[tuple[Status, Status] | int | None]:
    """Move files out of directory ``temporary``: (name, parent directory's descriptor, target name, size, mode,
    mtime_ns). Each gets its mode and time first, and its target must be free (else EEXIST).

    For each its status just before and after the move, or an errno value, or None: it is missing or of another size.
    """

def read_files(files: list[tuple[int, bytes, int]]) -> list[tuple[bytes, Status, Status] | int]:
    """Read files (parent directory's descriptor, name, size), never following a symlink, never blocking.

    For each its content and its status before and after, or an errno value. What is no regular file of that size has
    no content; one that was cut short meanwhile has less.
    """
