// A disk on which repositories that are not in the cache lie as folders, `hub:OWNER/REPO@COMMIT`,
// whose files are read at the Hub, only those bytes that are asked for and a little more.
// Everything else is the disk below. For opening headers; a whole model is better fetched.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/disk.h"
#include "hub/cache.h"
#include "hub/hub.h"

namespace thorns {

// Thread-safe; the Hub is asked by one thread at a time.
class RemoteDisk final : public Disk, public RepositoryDisk {
 public:
  // Both must outlive this.
  RemoteDisk(Disk& below, Hub& hub) : below_(below), hub_(hub) {}

  std::string folder_of(const Repository& repository) override;

  std::unique_ptr<ReadFile> open(const std::string& path) override;
  bool exists(const std::string& path) override;
  FileStat stat(const std::string& path) override;
  std::vector<std::string> list(const std::string& folder) override;
  std::string canonical(const std::string& path) override;

  std::unique_ptr<WriteFile> create(const std::string& path, std::uint64_t expected) override {
    return below_.create(path, expected);
  }
  void make_folder(const std::string& path) override { below_.make_folder(path); }
  void rename(const std::string& from, const std::string& to) override { below_.rename(from, to); }
  void remove_all(const std::string& path) override { below_.remove_all(path); }
  void sync_folder(const std::string& path) override { below_.sync_folder(path); }
  void require_writable(const std::string& folder) override { below_.require_writable(folder); }
  std::uint64_t free_space(const std::string& folder) override { return below_.free_space(folder); }
  std::unique_ptr<FileLock> lock(const std::string& path) override { return below_.lock(path); }

 private:
  struct Mounted {
    Repository repository;
    HubListing listing;
  };
  struct Place;
  class File;
  Place place_of(const std::string& path);

  Disk& below_;
  Hub& hub_;
  std::mutex mutex_;                            // of all below
  std::map<std::string, Mounted> mounted_;      // by folder; never removed
  std::map<std::string, std::string> folders_;  // by repository and revision
};

}  // namespace thorns
