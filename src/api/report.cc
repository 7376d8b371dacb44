// thorns::report: a finished folder's manifest, completed and taken apart; and a page saved.
#include "thorns/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "api/repositories.h"
#include "base/disk.h"
#include "hub/repository.h"
#include "output/manifest_reader.h"
#include "report/anatomy.h"
#include "report/missing.h"
#include "thorns/error.h"

namespace thorns {
namespace {

constexpr std::string_view kPageStart = "<!DOCTYPE html>";

bool is_page(const ReadFile& file) {
  if (file.size() < kPageStart.size()) return false;
  std::string start(kPageStart.size(), '\0');
  file.read(0, std::as_writable_bytes(std::span(start)));
  return start == kPageStart;
}

}  // namespace

Report report(const ReportOptions& options, Observer& observer) {
  Disk& disk = real_disk();
  const std::string folder = located(disk, options.folder);
  Manifest manifest = read_manifest(disk, folder);
  if (!options.no_weights) {
    measure_missing(disk, folder, options.threads, manifest, observer);
  }
  return anatomy(manifest, base_name(disk.canonical(options.folder)));
}

std::string page_path(const std::string& folder) {
  const std::string name = base_name(folder);
  const bool named = !name.empty() && name != "." && name != ".." && name != "/";
  // Of a repository in the Hub's cache the page comes to where thorns runs.
  if (!real_disk().exists(folder) && parse_repository(folder)) return name + ".html";
  const std::string path = named ? folder : real_disk().canonical(folder);
  return path.substr(0, path.find_last_not_of('/') + 1) + ".html";
}

void save_page(const std::string& path, const std::string& page) {
  Disk& disk = real_disk();
  if (disk.exists(path)) {
    if (disk.stat(path).is_folder) {
      throw Error(ErrorCode::Exists, fmt::format("`{}` is a folder", path), FilePlace{path},
                  "name the file to write: -o FILE.html");
    }
    const auto there = disk.open(path);
    if (there->size() == 0) return write_text(disk, disk.canonical(path), page);
    if (!is_page(*there)) {
      throw Error(ErrorCode::Exists, fmt::format("`{}` is there and is no report", path),
                  FilePlace{path}, "give another name with -o, or remove it");
    }
  }
  const std::string draft = join_path(parent_path(path), "." + base_name(path) + ".part");
  try {
    write_text(disk, draft, page);
    disk.rename(draft, path);
  } catch (...) {
    disk.remove_all(draft);
    throw;
  }
}

}  // namespace thorns
