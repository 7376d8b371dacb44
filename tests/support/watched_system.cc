#include "support/watched_system.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdarg>
#include <filesystem>
#include <map>
#include <mutex>
#include <utility>

extern "C" {
int __real_open(const char* path, int flags, ...);
int __real_close(int file);
ssize_t __real_pread(int file, void* to, size_t bytes, off_t offset);
ssize_t __real_write(int file, const void* from, size_t bytes);
int __real_fsync(int file);
int __real_fstat(int file, struct ::stat* info);
int __real_stat(const char* path, struct ::stat* info);
int __real_lstat(const char* path, struct ::stat* info);
int __real_statvfs(const char* path, struct ::statvfs* info);
int __real_access(const char* path, int mode);
int __real_fstatfs(int file, struct ::statfs* info);
int __real_fallocate(int file, int mode, off_t offset, off_t bytes);
int __real_ftruncate(int file, off_t bytes);
off_t __real_lseek(int file, off_t offset, int whence);
void* __real_mmap(void* at, size_t bytes, int protection, int flags, int file, off_t offset);
int __real_madvise(void* at, size_t bytes, int advice);
int __real_posix_fadvise(int file, off_t offset, off_t bytes, int advice);
int __real_flock(int file, int operation);
int __real_rename(const char* from, const char* to);
int __real_renameat2(int from_folder, const char* from, int to_folder, const char* to,
                     unsigned how);
int __real_mkdir(const char* path, mode_t mode);
DIR* __real_opendir(const char* path);
struct ::dirent* __real_readdir(DIR* folder);
int __real_closedir(DIR* folder);
}

namespace thorns::test {
namespace {

class State {
 public:
  std::mutex mutex;
  bool watching = false;
  std::string folder;
  std::map<int, std::string> files;
  std::map<DIR*, std::string> folders;
  std::map<void*, std::string> mappings;
  bool refuses_mappings = false;
  std::map<std::pair<std::string, std::string>, std::size_t> counts;
  std::vector<SystemCall> calls;
  std::optional<SystemCall> victim;
  Fault fault = Fault::Io;
  bool struck = false;

  // Notes the call; the fault that it is to have.
  std::optional<Fault> note(SystemCall call) {
    const std::lock_guard lock(mutex);
    if (!watching || !call.path.starts_with(folder)) return std::nullopt;
    call.nth = counts[{call.function, call.path}]++;
    calls.push_back(call);
    if (struck || !victim || !victim->is_same(call)) return std::nullopt;
    struck = true;
    return fault;
  }
  std::string path_of(int file) {
    const std::lock_guard lock(mutex);
    const auto found = files.find(file);
    return found == files.end() ? std::string() : found->second;
  }
  std::string path_of(void* mapping) {
    const std::lock_guard lock(mutex);
    const auto found = mappings.find(mapping);
    return found == mappings.end() ? std::string() : found->second;
  }
  std::string path_of(DIR* folder_stream) {
    const std::lock_guard lock(mutex);
    const auto found = folders.find(folder_stream);
    return found == folders.end() ? std::string() : found->second;
  }
};

// Never destroyed: libc calls come after the last destructor, too.
State& state() {
  static State* const state = new State;
  return *state;
}

int number_of(Fault fault) {
  switch (fault) {
    case Fault::Interrupted:
      return EINTR;
    case Fault::NoSpace:
      return ENOSPC;
    case Fault::NoDescriptor:
      return EMFILE;
    case Fault::Unsupported:
      return EOPNOTSUPP;
    default:
      return EIO;
  }
}

// `real()`, or `failed` with errno set where this call is the one to fail.
template <class Result, class Real>
Result call(const char* function, const std::string& path, Result failed, Real real,
            bool creates = false) {
  const auto fault = state().note({function, path, 0, creates, 0, 0});
  if (!fault) return real();
  errno = number_of(*fault);
  return failed;
}

template <class Result, class Real>
Result call(const char* function, int file, Result failed, Real real) {
  return call(function, state().path_of(file), failed, real);
}

void change_last_byte(const std::string& path) {
  const int file = __real_open(path.c_str(), O_RDWR);
  const off_t last = __real_lseek(file, 0, SEEK_END) - 1;
  char byte = 0;
  if (__real_pread(file, &byte, 1, last) == 1) {
    byte = static_cast<char>(byte ^ 1);
    __real_lseek(file, last, SEEK_SET);
    static_cast<void>(__real_write(file, &byte, 1) == 1);
  }
  __real_close(file);
}

}  // namespace

const char* to_string(Fault fault) {
  switch (fault) {
    case Fault::Interrupted:
      return "EINTR";
    case Fault::Io:
      return "EIO";
    case Fault::NoSpace:
      return "ENOSPC";
    case Fault::NoDescriptor:
      return "EMFILE";
    case Fault::Unsupported:
      return "EOPNOTSUPP";
    case Fault::Short:
      return "half of the bytes";
    case Fault::Shrinks:
      return "the file shrinks";
    case Fault::Changes:
      return "the file changes";
  }
  return "";
}

WatchedSystem::WatchedSystem(const std::string& folder) {
  const std::lock_guard lock(state().mutex);
  state().watching = true;
  state().folder = folder;
}

WatchedSystem::~WatchedSystem() {
  const std::lock_guard lock(state().mutex);
  state().watching = false;
  state().counts.clear();
  state().calls.clear();
  state().victim.reset();
  state().struck = false;
  state().refuses_mappings = false;
}

void WatchedSystem::strike(const SystemCall& call, Fault fault) {
  const std::lock_guard lock(state().mutex);
  state().victim = call;
  state().fault = fault;
}

void WatchedSystem::refuse_mappings() {
  const std::lock_guard lock(state().mutex);
  state().refuses_mappings = true;
}

bool WatchedSystem::has_struck() const {
  const std::lock_guard lock(state().mutex);
  return state().struck;
}

std::vector<SystemCall> WatchedSystem::calls() const {
  const std::lock_guard lock(state().mutex);
  return state().calls;
}

}  // namespace thorns::test

using thorns::test::call;
using thorns::test::Fault;
using thorns::test::state;

extern "C" {

int __wrap_open(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = (flags & O_CREAT) != 0 ? va_arg(arguments, mode_t) : 0;
  va_end(arguments);
  const int file = call(
      "open", path, -1, [&] { return __real_open(path, flags, mode); }, (flags & O_CREAT) != 0);
  if (file >= 0) {
    const std::lock_guard lock(state().mutex);
    state().files[file] = path;
  }
  return file;
}

int __wrap_close(int file) {
  const std::string path = state().path_of(file);
  {
    const std::lock_guard lock(state().mutex);
    state().files.erase(file);
  }
  // Linux closes the file even where it says that it was interrupted.
  const int result = __real_close(file);
  return call("close", path, -1, [&] { return result; });
}

ssize_t __wrap_pread(int file, void* to, size_t bytes, off_t offset) {
  const std::string path = state().path_of(file);
  const auto fault =
      state().note({"pread", path, 0, false, static_cast<std::uint64_t>(offset), bytes});
  if (!fault) return __real_pread(file, to, bytes, offset);
  switch (*fault) {
    case Fault::Short:
      return __real_pread(file, to, (bytes + 1) / 2, offset);
    case Fault::Shrinks:
      std::filesystem::resize_file(path, static_cast<std::uint64_t>(offset) + bytes / 2);
      return __real_pread(file, to, bytes, offset);
    case Fault::Changes:
      thorns::test::change_last_byte(path);
      return __real_pread(file, to, bytes, offset);
    default:
      errno = thorns::test::number_of(*fault);
      return -1;
  }
}

ssize_t __wrap_write(int file, const void* from, size_t bytes) {
  const std::string path = state().path_of(file);
  const auto fault = state().note({"write", path, 0, false, 0, bytes});
  if (!fault) return __real_write(file, from, bytes);
  if (*fault == Fault::Short) return __real_write(file, from, (bytes + 1) / 2);
  errno = thorns::test::number_of(*fault);
  return -1;
}

int __wrap_fsync(int file) {
  const bool watched = !state().path_of(file).empty();
  return call("fsync", file, -1, [&] { return watched ? 0 : __real_fsync(file); });
}
int __wrap_fstat(int file, struct ::stat* info) {
  return call("fstat", file, -1, [&] { return __real_fstat(file, info); });
}
int __wrap_stat(const char* path, struct ::stat* info) {
  return call("stat", std::string(path), -1, [&] { return __real_stat(path, info); });
}
int __wrap_lstat(const char* path, struct ::stat* info) {
  return call("lstat", std::string(path), -1, [&] { return __real_lstat(path, info); });
}
int __wrap_statvfs(const char* path, struct ::statvfs* info) {
  return call("statvfs", std::string(path), -1, [&] { return __real_statvfs(path, info); });
}
int __wrap_access(const char* path, int mode) {
  return call("access", std::string(path), -1, [&] { return __real_access(path, mode); });
}
// Files in memory pass for files on a disk, for which space is reserved.
int __wrap_fstatfs(int file, struct ::statfs* info) {
  const int result = __real_fstatfs(file, info);
  if (!state().path_of(file).empty()) info->f_type = EXT4_SUPER_MAGIC;
  return result;
}
int __wrap_fallocate(int file, int mode, off_t offset, off_t bytes) {
  return call("fallocate", file, -1, [&] { return __real_fallocate(file, mode, offset, bytes); });
}
int __wrap_ftruncate(int file, off_t bytes) {
  return call("ftruncate", file, -1, [&] { return __real_ftruncate(file, bytes); });
}
off_t __wrap_lseek(int file, off_t offset, int whence) {
  return call("lseek", file, off_t{-1}, [&] { return __real_lseek(file, offset, whence); });
}
void* __wrap_mmap(void* at, size_t bytes, int protection, int flags, int file, off_t offset) {
  // Only a handler of signals maps at a place of its own choice, and it must not wait or allocate.
  if ((flags & MAP_FIXED) != 0) return __real_mmap(at, bytes, protection, flags, file, offset);
  const std::string path = file < 0 ? std::string() : state().path_of(file);
  const auto fault =
      state().note({"mmap", path, 0, false, static_cast<std::uint64_t>(offset), bytes});
  if (fault == Fault::Shrinks) std::filesystem::resize_file(path, 0);
  if (fault == Fault::Changes) thorns::test::change_last_byte(path);
  if (fault == Fault::Io || (!path.empty() && state().refuses_mappings)) {
    errno = ENODEV;
    return MAP_FAILED;
  }
  void* const mapping = __real_mmap(at, bytes, protection, flags, file, offset);
  const std::lock_guard lock(state().mutex);
  path.empty() ? static_cast<void>(state().mappings.erase(mapping))
               : static_cast<void>(state().mappings[mapping] = path);
  return mapping;
}
int __wrap_madvise(void* at, size_t bytes, int advice) {
  const std::string path = state().path_of(at);
  const auto fault = state().note({"madvise", path, 0, false, 0, bytes});
  if (fault == Fault::Io) {
    errno = EIO;
    return -1;
  }
  const int result = __real_madvise(at, bytes, advice);
  if (fault == Fault::Shrinks) std::filesystem::resize_file(path, 0);
  if (fault == Fault::Changes) thorns::test::change_last_byte(path);
  return result;
}
int __wrap_posix_fadvise(int file, off_t offset, off_t bytes, int advice) {
  return call("posix_fadvise", file, EIO,
              [&] { return __real_posix_fadvise(file, offset, bytes, advice); });
}
int __wrap_flock(int file, int operation) {
  return call("flock", file, -1, [&] { return __real_flock(file, operation); });
}
int __wrap_rename(const char* from, const char* to) {
  return call("rename", std::string(from), -1, [&] { return __real_rename(from, to); });
}
int __wrap_renameat2(int from_folder, const char* from, int to_folder, const char* to,
                     unsigned how) {
  return call("renameat2", std::string(from), -1,
              [&] { return __real_renameat2(from_folder, from, to_folder, to, how); });
}
int __wrap_mkdir(const char* path, mode_t mode) {
  return call("mkdir", std::string(path), -1, [&] { return __real_mkdir(path, mode); });
}

DIR* __wrap_opendir(const char* path) {
  DIR* const none = nullptr;
  DIR* const folder =
      call("opendir", std::string(path), none, [&] { return __real_opendir(path); });
  if (folder != nullptr) {
    const std::lock_guard lock(state().mutex);
    state().folders[folder] = path;
  }
  return folder;
}
struct ::dirent* __wrap_readdir(DIR* folder) {
  struct ::dirent* const none = nullptr;
  return call("readdir", state().path_of(folder), none, [&] { return __real_readdir(folder); });
}
int __wrap_closedir(DIR* folder) {
  {
    const std::lock_guard lock(state().mutex);
    state().folders.erase(folder);
  }
  return __real_closedir(folder);
}
}
