#include "hub/cache.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <set>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/text.h"
#include "hub/choice.h"
#include "thorns/error.h"

namespace thorns {
namespace {

constexpr std::uint64_t kLongestRef = 1000;  // bytes
constexpr std::size_t kMostFilesNamed = 4;   // files spelled out in a message

// A link to nowhere is no file.
bool is_there(Disk& disk, const std::string& path) {
  if (!disk.exists(path)) return false;
  try {
    disk.stat(path);
    return true;
  } catch (const Error& error) {
    if (error.code() == ErrorCode::NotFound) return false;
    throw;
  }
}

std::string fetch_hint(const Repository& repository) {
  return fmt::format("`thorns fetch {}` downloads it", repository.text());
}

// The revisions that the cache knows by name, those in sub-folders (refs/pr/1) left out.
std::vector<std::string> revisions(Disk& disk, const std::string& home) {
  const std::string refs = join_path(home, "refs");
  return is_there(disk, refs) ? disk.list(refs) : std::vector<std::string>();
}

// The commit that a revision stands for; empty where the cache does not know.
std::string commit_of(Disk& disk, const std::string& home, const std::string& revision) {
  if (is_commit(revision)) return revision;
  const std::string path = join_path(join_path(home, "refs"), revision);
  if (!is_there(disk, path) || disk.stat(path).is_folder) return {};
  std::string text = read_text(disk, path, kLongestRef);
  while (text.ends_with('\n') || text.ends_with('\r')) text.pop_back();
  if (!is_commit(text)) {
    throw Error(ErrorCode::Corrupt, fmt::format("`{}` does not name a commit", path),
                FilePlace{path}, "remove it and fetch the repository again");
  }
  return text;
}

// The files that a shard index names. What is wrong with it is said when the model is opened.
void add_shards(Disk& disk, const std::string& path, std::set<std::string>& names) {
  Json index;
  try {
    index = parse_json(read_text(disk, path, kLargestIndex), path);
  } catch (const Error&) {
    return;
  }
  if (!index.is_object() || !index.contains("weight_map")) return;
  for (const Json& file : index["weight_map"]) {
    if (file.is_string()) names.insert(file.get<std::string>());
  }
}

// The weights files that a snapshot should have and does not. Safetensors go before PyTorch's.
std::vector<std::string> missing_weights(Disk& disk, const std::string& snapshot,
                                         const std::vector<std::string>& names) {
  std::set<std::string> wanted;
  for (const char* index : {"model.safetensors.index.json", "pytorch_model.bin.index.json"}) {
    if (!wanted.empty() || !std::binary_search(names.begin(), names.end(), index)) continue;
    const std::string path = join_path(snapshot, index);
    if (!is_there(disk, path)) return {index};
    add_shards(disk, path, wanted);
  }
  if (wanted.empty()) {
    std::copy_if(names.begin(), names.end(), std::inserter(wanted, wanted.end()), is_weights);
  }
  std::vector<std::string> missing;
  std::copy_if(wanted.begin(), wanted.end(), std::back_inserter(missing),
               [&](const std::string& name) { return !is_there(disk, join_path(snapshot, name)); });
  return missing;
}

bool was_interrupted(Disk& disk, const std::string& home) {
  const std::string blobs = join_path(home, "blobs");
  if (!is_there(disk, blobs)) return false;
  const std::vector<std::string> names = disk.list(blobs);
  return std::any_of(names.begin(), names.end(),
                     [](const std::string& name) { return name.ends_with(".incomplete"); });
}

[[noreturn]] void refuse_partial(Disk& disk, const std::string& home, const Repository& repository,
                                 const std::string& what) {
  throw Error(ErrorCode::NotFound,
              fmt::format("`{}` is in the Hub cache, but {}{}", repository.text(), what,
                          was_interrupted(disk, home) ? "; a download was interrupted" : ""),
              {}, fmt::format("`thorns fetch {}` brings what is missing", repository.text()));
}

std::string folder_in_cache(Disk& disk, const std::string& cache, const Repository& repository) {
  const std::string home = cache.empty() ? "" : join_path(cache, repository.folder());
  if (home.empty() || !is_there(disk, home)) {
    throw Error(ErrorCode::NotFound,
                fmt::format("`{}` is no folder here, and not in the Hub cache", repository.text()),
                {}, fetch_hint(repository));
  }
  const std::string commit = commit_of(disk, home, repository.revision);
  std::string snapshot = join_path(join_path(home, "snapshots"), commit);
  if (commit.empty() || !is_there(disk, snapshot)) {
    const std::vector<std::string> known = revisions(disk, home);
    if (known.empty() && was_interrupted(disk, home)) {
      refuse_partial(disk, home, repository, "not whole");
    }
    throw Error(ErrorCode::NotFound,
                fmt::format("`{}` is in the Hub cache, but not its revision `{}`{}", repository.id,
                            repository.revision,
                            known.empty() ? "" : "; it has " + list_text(known, kMostFilesNamed)),
                {}, fetch_hint(repository));
  }
  const std::vector<std::string> names = disk.list(snapshot);
  if (std::none_of(names.begin(), names.end(), is_weights)) {
    refuse_partial(disk, home, repository, "without weights");
  }
  const std::vector<std::string> missing = missing_weights(disk, snapshot, names);
  if (!missing.empty()) {
    refuse_partial(disk, home, repository, "without " + list_text(missing, kMostFilesNamed));
  }
  return snapshot;
}

}  // namespace

std::string snapshot_folder(Disk& disk, const std::string& cache, const Repository& repository) {
  try {
    return folder_in_cache(disk, cache, repository);
  } catch (const Error& error) {
    auto* const beyond = dynamic_cast<RepositoryDisk*>(&disk);
    if (beyond == nullptr || error.code() != ErrorCode::NotFound) throw;
    return beyond->folder_of(repository);
  }
}

std::string located_in_cache(Disk& disk, const std::string& cache, const std::string& path) {
  if (disk.exists(path)) return path;
  const auto repository = parse_repository(path);
  return repository ? snapshot_folder(disk, cache, *repository) : path;
}

}  // namespace thorns
