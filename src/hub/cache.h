// The Hub's cache on this machine, in the layout of huggingface_hub (its documentation, "Understand
// caching"):
//   models--OWNER--REPO/refs/REVISION             a commit
//   models--OWNER--REPO/snapshots/COMMIT/FILE     a link to ../../blobs/HASH, or the file itself
#pragma once

#include <optional>
#include <string>

#include "base/disk.h"
#include "hub/repository.h"

namespace thorns {

// A disk that knows repositories beyond the cache.
class RepositoryDisk {
 public:
  virtual ~RepositoryDisk() = default;
  // A folder of that disk. Throws what asking for it throws.
  virtual std::string folder_of(const Repository& repository) = 0;
};

// The folder of `repository` in the cache at `cache`, with all weights that belong to it. Throws
// NotFound, with `thorns fetch` as the way out, where it is not there, not at this revision, or
// only in part: a weights file that is named by an index or a link is missing. A RepositoryDisk is
// asked instead.
std::string snapshot_folder(Disk& disk, const std::string& cache, const Repository& repository);

// `path` where something is there, or where it does not name a repository; else its
// snapshot_folder.
std::string located_in_cache(Disk& disk, const std::string& cache, const std::string& path);

}  // namespace thorns
