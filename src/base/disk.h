// All access to files, behind one small interface, so that tests can record what was read and make
// any single call fail. Nothing outside this room calls the operating system for files.
//
// Every member throws thorns::Error (Io, NotFound, NoSpace, Exists) naming the path; short reads
// and writes are completed or reported, EINTR is retried. A path is UTF-8 as the user gave it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace thorns {

// Bytes of an open file in place, without a copy of them. They stay readable while this lives, but
// count only if nobody wrote to the file meanwhile. The file must outlive it. Thread-safe.
class FilePart {
 public:
  virtual ~FilePart() = default;
  virtual std::span<const std::byte> bytes() const = 0;
  // Throws what reading them would have thrown, had they changed or not been readable.
  virtual void require_intact() const = 0;
};

// An open file. Thread-safe: any number of threads may read at once.
class ReadFile {
 public:
  virtual ~ReadFile() = default;
  // Fills `to` from `offset`; a file that ends before is Corrupt ("ends at byte ... ").
  virtual void read(std::uint64_t offset, std::span<std::byte> to) const = 0;
  // The same bytes in place, brought into memory. Null where that cannot be done: they are to be
  // read then.
  virtual std::unique_ptr<FilePart> map(std::uint64_t /*offset*/, std::size_t /*bytes*/) const {
    return nullptr;
  }
  // Tells the system that [offset, offset + bytes) will be read soon. Never fails.
  virtual void will_need(std::uint64_t offset, std::uint64_t bytes) const = 0;
  virtual std::uint64_t size() const = 0;
  virtual const std::string& path() const = 0;
};

// A file being written from its start to its end. One thread at a time. Destroying it without
// `finish` closes it as it is.
class WriteFile {
 public:
  virtual ~WriteFile() = default;
  virtual void append(std::span<const std::byte> bytes) = 0;
  // Flushes to the device and closes; afterwards the file survives a power cut.
  virtual void finish() = 0;
};

// A lock that is held until this is destroyed or the process ends, however it ends.
class FileLock {
 public:
  virtual ~FileLock() = default;
};

struct FileStat {
  std::uint64_t size = 0;
  bool is_folder = false;
};

class Disk {
 public:
  virtual ~Disk() = default;
  virtual std::unique_ptr<ReadFile> open(const std::string& path) = 0;
  // Creates or truncates, not through a link. `expected` bytes are reserved where that is possible.
  virtual std::unique_ptr<WriteFile> create(const std::string& path, std::uint64_t expected) = 0;
  virtual bool exists(const std::string& path) = 0;
  virtual FileStat stat(const std::string& path) = 0;
  virtual std::vector<std::string> list(const std::string& folder) = 0;  // names, sorted
  virtual void make_folder(const std::string& path) = 0;  // the parent must exist; Exists if there
  virtual void rename(const std::string& from, const std::string& to) = 0;
  virtual void remove_all(const std::string& path) = 0;  // nothing there is no error
  virtual void sync_folder(const std::string& path) = 0;
  // One spelling for all paths of one file or folder: absolute, links followed. For comparing.
  virtual std::string canonical(const std::string& path) { return path; }
  // Throws what making something in `folder` would throw, as far as that can be known beforehand.
  virtual void require_writable(const std::string& folder) { static_cast<void>(folder); }
  virtual std::uint64_t free_space(
      const std::string& folder) = 0;  // bytes this user may still write
  // Locks the file `path`, made where it is missing, against every other `lock` of it, in this
  // process or another; nullptr where one is held. Not through a link. Granted without effect where
  // there are no locks. The default is for disks that only one owner sees: always granted.
  virtual std::unique_ptr<FileLock> lock(const std::string& path);
};

// The operating system's files. Thread-safe; lives for the whole program.
Disk& real_disk();

// The whole of a small file. Corrupt if it is larger than `limit`.
std::string read_text(Disk& disk, const std::string& path, std::uint64_t limit);
// Creates `path` with this content and flushes it.
void write_text(Disk& disk, const std::string& path, const std::string& content);

// "a/b" from "a" and "b"; `name` must be relative.
std::string join_path(const std::string& folder, const std::string& name);
std::string parent_path(const std::string& path);  // "." where there is none
std::string base_name(const std::string& path);    // last component, trailing slashes ignored

}  // namespace thorns
