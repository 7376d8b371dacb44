// The operating system under the real disk, watched: the linker puts tests/watched_system.cc
// between the program's code and libc (CMakeLists.txt, --wrap), so that a test sees every call that
// a merge makes for files below one folder, and can make any single one fail. Nothing is flushed to
// the device while it watches: tests do not cut the power.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace thorns::test {

// The `nth` call (from 0) of a function for one path. That of one reader thread is the same in
// every run, whatever the threads do to the order of the whole.
struct SystemCall {
  std::string function;  // "pread"
  std::string path;
  std::size_t nth = 0;
  bool creates = false;      // open: O_CREAT
  std::uint64_t offset = 0;  // pread, mmap: what was asked for
  std::uint64_t bytes = 0;

  bool is_same(const SystemCall& other) const {
    return function == other.function && path == other.path && nth == other.nth;
  }
};

enum class Fault {
  Interrupted,   // EINTR, once
  Io,            // EIO
  NoSpace,       // ENOSPC
  NoDescriptor,  // EMFILE
  Unsupported,   // EOPNOTSUPP, as file systems say that lack the function
  Short,         // half of the bytes are read or written
  Shrinks,       // the file is cut in the middle before it is read, wholly where it is mapped
  Changes,       // its last byte is changed before it is read
};
const char* to_string(Fault fault);

class WatchedSystem {
 public:
  // Watches calls for files below `folder` until destroyed; one at a time.
  explicit WatchedSystem(const std::string& folder);
  ~WatchedSystem();
  WatchedSystem(const WatchedSystem&) = delete;
  WatchedSystem& operator=(const WatchedSystem&) = delete;

  // The call that will fail.
  void strike(const SystemCall& call, Fault fault);
  // From now on files cannot be mapped.
  void refuse_mappings();
  bool has_struck() const;
  std::vector<SystemCall> calls() const;
};

}  // namespace thorns::test
