// One file of the output: written from start to end, counted and hashed on the way, small pieces
// gathered into larger writes.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/disk.h"
#include "base/hash.h"
#include "output/writer.h"

namespace thorns {

class OutputFile {
 public:
  // Makes `folder`/`name` and reserves `expected` bytes. Every byte is added to `total`.
  OutputFile(Disk& disk, const std::string& folder, std::string name, std::uint64_t expected,
             std::atomic<std::uint64_t>& total);

  // Goes on with a file whose first `size` bytes are written and are in `hash`.
  OutputFile(std::unique_ptr<WriteFile> file, std::string name, Sha256 hash, std::uint64_t size,
             std::atomic<std::uint64_t>& total);

  void append(std::span<const std::byte> bytes);
  void append(std::string_view text) { append(std::as_bytes(std::span(text))); }
  // Hands on what is gathered.
  void flush();
  std::uint64_t size() const { return size_; }
  std::string sha256_so_far() const { return hash_.hex_so_far(); }
  // Flushes to the device and closes. Once, and last.
  WrittenFile finish();

 private:
  std::unique_ptr<WriteFile> file_;
  std::string name_;
  Sha256 hash_;
  std::vector<std::byte> gathered_;
  std::uint64_t size_ = 0;
  std::atomic<std::uint64_t>& total_;
};

}  // namespace thorns
