// Repositories of the Hub for the functions of the API: those in the cache, and those that are read
// from afar.
#pragma once

#include <memory>
#include <string>

#include "base/disk.h"
#include "hub/hub.h"
#include "hub/remote_disk.h"
#include "thorns/observer.h"

namespace thorns {

// A path of the caller's: itself, or of owner/repo[@revision] the folder in the Hub's cache. Throws
// NotFound where that is named and not there.
std::string located(Disk& disk, const std::string& path);

// Sleeps, and throws Cancelled as soon as `observer`, which must outlive it, says so.
Hub::Wait patient_wait(Observer& observer);

// The disk of a plan that looks at the Hub for what is not in the cache.
class RemoteInputs {
 public:
  // Throws what hub_settings throws. `observer` must outlive this.
  explicit RemoteInputs(Observer& observer);
  Disk& disk() { return disk_; }

 private:
  HubSettings settings_;
  std::unique_ptr<HttpClient> client_;
  Hub hub_;
  RemoteDisk disk_;
};

}  // namespace thorns
