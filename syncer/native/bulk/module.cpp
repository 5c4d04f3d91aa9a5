// Python's view: tuples in, tuples out, the GIL released in between.
#include <pybind11/pybind11.h>

#include <cerrno>

#include "files.hpp"

namespace py = pybind11;
using namespace longhaul::bulk;

namespace {

std::string bytes_of(const py::handle& value) {
  char* data = nullptr;
  Py_ssize_t size = 0;
  if (PyBytes_AsStringAndSize(value.ptr(), &data, &size) != 0) throw py::error_already_set();
  return {data, static_cast<std::size_t>(size)};
}

// (device, inode, size, mtime_ns, ctime_ns, st_mode)
py::tuple status_of(const struct stat& found) {
  const auto nanoseconds = [](const timespec& time) {
    return static_cast<std::int64_t>(time.tv_sec) * 1'000'000'000 + time.tv_nsec;
  };
  return py::make_tuple(found.st_dev, found.st_ino, found.st_size, nanoseconds(found.st_mtim),
                        nanoseconds(found.st_ctim), found.st_mode);
}

class Views {
 public:
  Views() = default;
  Views(const Views&) = delete;
  ~Views() {
    for (auto& view : views_) PyBuffer_Release(&view);
  }
  const Py_buffer& take(const py::handle& value) {
    Py_buffer view;
    if (PyObject_GetBuffer(value.ptr(), &view, PyBUF_SIMPLE) != 0) throw py::error_already_set();
    views_.push_back(view);
    return views_.back();
  }

 private:
  std::vector<Py_buffer> views_;
};

py::list written(const py::list& items, bool whole_file_system) {
  Views views;
  std::vector<NewFile> files;
  files.reserve(items.size());
  for (const auto& item : items) {
    const auto pair = py::reinterpret_borrow<py::tuple>(item);
    const Py_buffer& view = views.take(pair[1]);
    files.push_back({bytes_of(pair[0]), static_cast<const std::byte*>(view.buf), static_cast<std::size_t>(view.len)});
  }
  std::vector<int> errors;
  {
    py::gil_scoped_release release;
    errors = write_files(files, whole_file_system ? Sync::file_system : Sync::each);
  }
  py::list results;
  for (const int error : errors) results.append(error);
  return results;
}

py::list placed(int temporary, const py::list& items) {
  std::vector<Placement> placements;
  placements.reserve(items.size());
  for (const auto& item : items) {
    const auto fields = py::reinterpret_borrow<py::tuple>(item);
    placements.push_back({temporary, bytes_of(fields[0]), fields[1].cast<int>(), bytes_of(fields[2]),
                          fields[3].cast<off_t>(), fields[4].cast<mode_t>(), fields[5].cast<std::int64_t>()});
  }
  std::vector<Placed> results;
  {
    py::gil_scoped_release release;
    results = place_files(placements);
  }
  py::list answers;
  for (const auto& one : results) {
    if (one.is_missing || one.wrong_size) {
      answers.append(py::none());
    } else if (one.error != 0) {
      answers.append(py::int_(one.error));
    } else {
      answers.append(py::make_tuple(status_of(one.before), status_of(one.after)));
    }
  }
  return answers;
}

py::list contents(const py::list& items) {
  std::vector<Wanted> files;
  files.reserve(items.size());
  for (const auto& item : items) {
    const auto fields = py::reinterpret_borrow<py::tuple>(item);
    files.push_back({fields[0].cast<int>(), bytes_of(fields[1]), fields[2].cast<off_t>()});
  }
  std::vector<Read> found;
  {
    py::gil_scoped_release release;
    found = read_files(files);
  }
  py::list results;
  for (const auto& one : found) {
    if (one.error != 0) {
      results.append(py::int_(one.error));
    } else {
      results.append(py::make_tuple(py::bytes(one.data), status_of(one.before), status_of(one.after)));
    }
  }
  return results;
}

}  // namespace

PYBIND11_MODULE(_bulk, m) {
  m.doc() = "File operations for many small files at once, without the GIL.";
  m.def("write_files", &written, py::arg("files"), py::arg("whole_file_system"),
        "Make each (path, data) durable; a list of errno values, 0 for none.");
  m.def("place_files", &placed, py::arg("temporary"), py::arg("files"),
        "Move each (name, parent, target, size, mode, mtime_ns) from the directory ``temporary`` to its free target.");
  m.def("read_files", &contents, py::arg("files"), "The content and status of each (parent, name, size).");
}
