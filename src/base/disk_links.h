// Making links, which is more than disk.h asks of a disk.
#pragma once

#include <string>

#include "base/disk.h"

namespace thorns {

class LinkingDisk {
 public:
  virtual ~LinkingDisk() = default;
  // Makes `path` a symbolic link with the text `target`. Exists where something is there already;
  // Io where the file system knows no links.
  virtual void make_link(const std::string& target, const std::string& path) = 0;
};

// nullptr where the disk cannot.
LinkingDisk* linking(Disk& disk);

}  // namespace thorns
