#include "base/path_within.h"

#include <fmt/format.h>

#include <string_view>

#include "thorns/error.h"

namespace thorns {

std::string path_within(Disk& disk, const std::string& folder, const std::string& name) {
  std::string path = join_path(folder, name);
  const std::string home = disk.canonical(folder);
  const std::string real = disk.canonical(path);
  // The path itself: a disk without links, or one that nobody can follow.
  if (real == path || real == join_path(home, name) || real.starts_with(join_path(home, "")))
    return path;
  constexpr std::string_view kSnapshots = "/snapshots/";
  const std::size_t snapshots = home.rfind(kSnapshots);
  if (snapshots != std::string::npos && real.starts_with(home.substr(0, snapshots) + "/blobs/")) {
    return path;
  }
  throw Error(ErrorCode::Corrupt,
              fmt::format("`{}` is a link to `{}`, outside of its folder", path, real),
              FilePlace{path}, "put the file itself there, if you trust what it leads to");
}

}  // namespace thorns
