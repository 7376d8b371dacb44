#include "hub/fetch_repository.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "base/text.h"
#include "hub/cache_writer.h"
#include "hub/choice.h"
#include "thorns/error.h"

namespace thorns {
namespace {

constexpr std::uint64_t kLargestIndex = 100'000'000;  // bytes

// Brings files one after the other and tells how far it is.
class Bringer {
 public:
  Bringer(CacheWriter& writer, Hub& hub, const Hub::Wait& wait, Observer& observer)
      : writer_(writer), hub_(hub), wait_(wait), observer_(observer) {}

  void expect(const std::vector<HubFile>& files) {
    for (const HubFile& file : files) {
      now_.bytes_total += file.size;
      now_.bytes_done += writer_.present(file);
    }
    now_.tensors_total = files.size();
    observer_.progress(now_);
  }

  void bring(const HubFile& file) {
    const std::uint64_t at_end = now_.bytes_done + file.size - writer_.present(file);
    now_.tensor = file.name;
    const auto moved = [&](std::int64_t bytes) {
      now_.bytes_done += static_cast<std::uint64_t>(bytes);  // below 0: back again, modulo 2^64
      observer_.progress(now_);
    };
    const auto wait = [&](double seconds) {
      observer_.progress(now_);
      wait_(seconds);
    };
    if (observer_.cancelled()) throw Error(ErrorCode::Cancelled, "interrupted");
    writer_.bring(hub_, file, moved, wait);
    now_.bytes_done = at_end;
    ++now_.tensors_done;
    observer_.progress(now_);
  }

 private:
  CacheWriter& writer_;
  Hub& hub_;
  const Hub::Wait& wait_;
  Observer& observer_;
  Progress now_;
};

void require_space(Disk& disk, const std::string& cache, std::uint64_t needed,
                   const Repository& repository) {
  const std::uint64_t free = disk.free_space(cache);
  if (needed <= free) return;
  throw Error(ErrorCode::NoSpace,
              fmt::format("`{}` needs {} more, and the disk of the Hub cache has {}",
                          repository.text(), human_bytes(needed), human_bytes(free)),
              FilePlace{cache}, "free space there, or set HF_HUB_CACHE to a folder elsewhere");
}

std::uint64_t bytes_of(const std::vector<HubFile>& files) {
  std::uint64_t bytes = 0;
  for (const HubFile& file : files) bytes += file.size;  // 100 000 files of at most 2^50
  return bytes;
}

}  // namespace

FetchedRepository fetch_repository(Disk& disk, Hub& hub, const std::string& cache,
                                   const Repository& repository,
                                   const std::vector<std::string>& include, const Hub::Wait& wait,
                                   FetchObserver& observer) {
  const HubListing listing = hub.list(repository);
  HubChoice choice;
  if (include.empty()) {
    choice = choose_files(repository, listing);
  } else {
    choice.files = matching_files(repository, listing, include);
  }
  CacheWriter writer(disk, cache, repository, listing.commit);
  if (!choice.index.empty()) {
    const auto index = std::find_if(choice.files.begin(), choice.files.end(),
                                    [&](const HubFile& file) { return file.name == choice.index; });
    Bringer(writer, hub, wait, observer).bring(*index);
    const std::string path = join_path(writer.snapshot(), index->name);
    // Strange indices name what is chosen anyway, such as config.json.
    std::vector<HubFile> all;
    const std::vector<HubFile> shards =
        indexed_files(listing, read_text(disk, path, kLargestIndex), path);
    std::set_union(choice.files.begin(), choice.files.end(), shards.begin(), shards.end(),
                   std::back_inserter(all),
                   [](const HubFile& a, const HubFile& b) { return a.name < b.name; });
    choice.files = std::move(all);
  }

  FetchedRepository result{repository.text(),   listing.commit,         writer.snapshot(),
                           choice.files.size(), bytes_of(choice.files), 0};
  std::uint64_t needed = 0;
  for (const HubFile& file : choice.files) {
    result.bytes_there += writer.present(file);
    needed += writer.needed(file);
  }
  observer.fetch_started({result.repository, result.files, result.bytes, result.bytes_there});
  require_space(disk, cache, needed, repository);
  Bringer bringer(writer, hub, wait, observer);
  bringer.expect(choice.files);
  for (const HubFile& file : choice.files) bringer.bring(file);
  writer.publish();
  return result;
}

}  // namespace thorns
