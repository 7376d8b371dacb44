// Bytes of a file read in place, through the page cache, without a copy of them. Private to this
// room: others map through ReadFile::map (disk.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

namespace thorns {

// Part of an open file in this process's memory. Where the system cannot bring a page in (the file
// was cut short, its device failed), the page reads as zeros and the mapping is damaged; without
// this class the process would be killed by SIGBUS.
//
// Thread-safe. The descriptor may be closed once the mapping is made.
class Mapping {
 public:
  // [offset, offset + bytes) of the file, all of it brought into memory. Null where that cannot be
  // done, for whatever reason: reading says which.
  static std::unique_ptr<Mapping> make(int descriptor, std::uint64_t offset, std::size_t bytes);
  ~Mapping();
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  std::span<const std::byte> bytes() const { return bytes_; }
  bool is_damaged() const;

 private:
  Mapping() = default;

  std::span<std::byte> pages_;  // whole ones, with `bytes_` in them
  std::span<const std::byte> bytes_;
  std::size_t place_ = 0;  // in the signal handler's table
};

}  // namespace thorns
