// What interruptions ask for beyond disk.h: going on with files that were left, and no moment
// between. A disk that can do it is a ResumableDisk too; on any other an interrupted run starts
// anew.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/disk.h"

namespace thorns {

class ResumableDisk {
 public:
  enum class Kind { None, File, Folder, Other };

  virtual ~ResumableDisk() = default;
  // Opens a file that is there, cuts it after `keep` bytes and goes on from there; `expected` bytes
  // in all are reserved as by `create`. Links are not followed (Io). Corrupt where it is shorter.
  virtual std::unique_ptr<WriteFile> reopen(const std::string& path, std::uint64_t keep,
                                            std::uint64_t expected) = 0;
  // What stands at `path` itself: a link is something other, wherever it leads.
  virtual Kind kind(const std::string& path) = 0;
  // When the content changed last, nanoseconds since 1970. NotFound.
  virtual std::int64_t modified(const std::string& path) = 0;
  // What the file occupies on the device, space reserved beyond its end included. NotFound.
  virtual std::uint64_t occupied(const std::string& path) = 0;
  // Exchanges two files or folders in one step, so that neither path is ever without one. False
  // where the file system cannot; then nothing is changed.
  virtual bool exchange(const std::string& /*one*/, const std::string& /*other*/) { return false; }
};

// nullptr where the disk cannot.
ResumableDisk* resumable(Disk& disk);

}  // namespace thorns
