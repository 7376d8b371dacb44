// The descriptors of files that are read. A checkpoint may have thousands of files, a process may
// hold a few dozen descriptors: the least recently used is closed, and a file that is read again is
// opened again, if it is still the same. Private to this room.
#pragma once

#include <sys/stat.h>

#include <cstddef>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>

namespace thorns {

// Owns a descriptor.
class Descriptor {
 public:
  explicit Descriptor(int number) : number_(number) {}
  Descriptor(Descriptor&& other) noexcept : number_(other.release()) {}
  ~Descriptor();
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  Descriptor& operator=(Descriptor&&) = delete;
  int get() const { return number_; }
  int release();

 private:
  int number_;
};

// By what a file is known again: one that was written to or replaced has another.
struct FileStamp {
  explicit FileStamp(const struct ::stat& info);
  bool operator==(const FileStamp&) const = default;

  dev_t device;
  ino_t inode;
  off_t size;
  std::int64_t modified;  // nanoseconds since 1970
};

// Thread-safe.
class DescriptorPool {
 public:
  // Keeps at most `most` open, and those that are in use just now.
  explicit DescriptorPool(std::size_t most) : most_(most) {}

  // What belongs to `owner`; `open` is called where it is not open, and may throw. It stays open as
  // long as the result lives.
  std::shared_ptr<const Descriptor> get(const void* owner, const std::function<Descriptor()>& open);
  void forget(const void* owner);
  // Closes the least recently used, to make room for another. False where there is none.
  bool close_one();
  std::size_t open() const;

 private:
  struct Entry {
    const void* owner;
    std::shared_ptr<const Descriptor> descriptor;
  };

  const std::size_t most_;
  mutable std::mutex mutex_;
  std::list<Entry> entries_;  // most recently used first
  std::unordered_map<const void*, std::list<Entry>::iterator> by_owner_;
};

// Of all files that this process reads: half of the descriptors that it may have.
DescriptorPool& read_descriptors();

}  // namespace thorns
