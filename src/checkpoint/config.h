// The small JSON files of a model folder. Private to this room and to adapter/.
#pragma once

#include <string>

#include "base/disk.h"
#include "base/json.h"

namespace thorns {

// Parses a small JSON file. Corrupt for broken JSON, one of more than 4 MB, or a Git-LFS pointer.
Json read_json_file(Disk& disk, const std::string& path);

}  // namespace thorns
