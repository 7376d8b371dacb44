// One repository brought into the cache: what the Hub lists, what a merge needs of it, and the
// files, several at a time.
#pragma once

#include <atomic>
#include <span>
#include <string>
#include <vector>

#include "base/disk.h"
#include "hub/hub.h"
#include "hub/repository.h"
#include "thorns/fetch.h"

namespace thorns {

// The caller's observer for all who bring files: when one of them fails, it tells the others to
// stop. Thread-safe but for what it hands on.
class JointObserver final : public FetchObserver {
 public:
  explicit JointObserver(FetchObserver& caller) : caller_(caller) {}
  void fetch_started(const FetchStarted& job) override { caller_.fetch_started(job); }
  void progress(const Progress& now) override { caller_.progress(now); }
  bool cancelled() override { return stopped_ || caller_.cancelled(); }
  void stop() { stopped_ = true; }

 private:
  FetchObserver& caller_;
  std::atomic<bool> stopped_ = false;
};

// Brings as many files at a time as there are `hubs`, one at least, whose clients and waits stop
// when `observer` says so. `wait` as for Hub, from any thread. Throws as `fetch` does.
FetchedRepository fetch_repository(Disk& disk, std::span<Hub> hubs, const std::string& cache,
                                   const Repository& repository,
                                   const std::vector<std::string>& include, const Hub::Wait& wait,
                                   JointObserver& observer);

}  // namespace thorns
