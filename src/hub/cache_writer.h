// Files of the Hub brought into its cache, in the layout of cache.h, so that huggingface_hub takes
// them for its own. A file that is half there is blobs/HASH.incomplete and is gone on with; only
// what has the right size and hash gets its name. Locks as huggingface_hub has them,
// .locks/REPOSITORY/HASH.lock, keep two processes, or threads, from fetching the same. Thread-safe,
// where the disk is.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "base/disk.h"
#include "hub/hub.h"
#include "hub/listing.h"
#include "hub/repository.h"

namespace thorns {

class CacheWriter {
 public:
  // Told of bytes as they come; negative for those that were there and have to come again.
  using Moved = std::function<void(std::int64_t bytes)>;

  // `cache` and the repository's folder are made where they are missing. All arguments must outlive
  // this.
  CacheWriter(Disk& disk, const std::string& cache, const Repository& repository,
              const std::string& commit);

  const std::string& snapshot() const { return snapshot_; }
  // Bytes of `file` that are there: all of them where it is whole, else those of its beginning.
  std::uint64_t present(const HubFile& file) const;
  // Bytes that the disk has to have free for the rest.
  std::uint64_t needed(const HubFile& file) const;
  // Fetches what is missing of `file` and makes its link. `wait` is called again and again while
  // another process fetches the same. Throws what Hub::get throws, and Corrupt where what came is
  // not what the Hub's list says.
  void bring(Hub& hub, const HubFile& file, const Moved& moved, const Hub::Wait& wait);
  // Makes the repository's revision lead here; to be called when all files are there.
  void publish(const Hub::Wait& wait);

 private:
  std::string blob(const HubFile& file) const;
  std::string link_path(const HubFile& file) const;
  bool is_whole(const HubFile& file) const;
  void download(Hub& hub, const HubFile& file, const Moved& moved);
  void link(const HubFile& file);

  Disk& disk_;
  const Repository& repository_;
  const std::string& commit_;
  std::string home_;
  std::string locks_;
  std::string snapshot_;
};

}  // namespace thorns
