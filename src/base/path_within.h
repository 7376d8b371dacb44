// Paths in folders that strangers made.
#pragma once

#include <string>

#include "base/disk.h"

namespace thorns {

// join_path(folder, name), which need not exist. Corrupt where a link leads out of the folder. A
// snapshot of the Hub's cache (REPO/snapshots/REVISION) may have links into REPO/blobs: there that
// layout keeps the files.
std::string path_within(Disk& disk, const std::string& folder, const std::string& name);

}  // namespace thorns
