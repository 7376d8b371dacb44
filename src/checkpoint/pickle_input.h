// The bytes of a pickle, read from its file in pieces from first to last. Private to this room.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/disk.h"
#include "thorns/error.h"

namespace thorns {

// The bytes [begin, end) of `file`.
struct FileRange {
  const ReadFile& file;
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
};

// Throws Corrupt (or what `code` says) for a file that is not what a PyTorch checkpoint should be.
// `at` counts from the beginning of a pickle that begins at byte `begin` of the file.
[[noreturn]] void refuse_pickle(const std::string& path, std::uint64_t begin, std::uint64_t at,
                                const std::string& why, ErrorCode code = ErrorCode::Corrupt,
                                const std::string& hint = {});

class PickleInput {
 public:
  explicit PickleInput(const FileRange& range) : range_(range) {}

  std::uint64_t position() const { return position_; }  // from the beginning of the range
  std::uint64_t left() const { return range_.end - range_.begin - position_; }

  std::uint8_t byte();
  std::uint64_t little_endian(std::size_t bytes);  // at most 8
  std::uint64_t big_endian(std::size_t bytes);
  std::string text(std::uint64_t bytes);
  // Up to the next newline, which is passed over.
  std::string line(std::size_t most);

  [[noreturn]] void fail(std::uint64_t at, const std::string& why,
                         ErrorCode code = ErrorCode::Corrupt, const std::string& hint = {}) const {
    refuse_pickle(range_.file.path(), range_.begin, at, why, code, hint);
  }

 private:
  void need(std::uint64_t bytes) const;

  FileRange range_;
  std::uint64_t position_ = 0;
  std::vector<std::byte> buffer_;   // the bytes around the position
  std::uint64_t buffer_begin_ = 0;  // its place in the range
};

}  // namespace thorns
