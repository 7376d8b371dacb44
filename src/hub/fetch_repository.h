// One repository brought into the cache: what the Hub lists, what a merge needs of it, and the
// files one after the other.
#pragma once

#include <string>
#include <vector>

#include "base/disk.h"
#include "hub/hub.h"
#include "hub/repository.h"
#include "thorns/fetch.h"

namespace thorns {

// `wait` as for Hub. Throws as `fetch` does.
FetchedRepository fetch_repository(Disk& disk, Hub& hub, const std::string& cache,
                                   const Repository& repository,
                                   const std::vector<std::string>& include, const Hub::Wait& wait,
                                   FetchObserver& observer);

}  // namespace thorns
