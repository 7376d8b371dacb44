#include "hub/fetch_repository.h"

#include <fmt/format.h>

#include <algorithm>
#include <exception>
#include <iterator>
#include <mutex>
#include <utility>

#include "base/text.h"
#include "base/threads.h"
#include "hub/cache_writer.h"
#include "hub/choice.h"
#include "thorns/error.h"

namespace thorns {
namespace {

// Brings files, as many at a time as there are hubs, and tells how far it is.
class Bringer {
 public:
  Bringer(CacheWriter& writer, const std::vector<HubFile>& files, const Hub::Wait& wait,
          JointObserver& observer)
      : writer_(writer), files_(files), wait_(wait), observer_(observer) {
    for (const HubFile& file : files_) {
      there_.push_back(writer_.present(file));
      now_.bytes_total += file.size;
      now_.bytes_done += there_.back();
    }
    now_.tensors_total = files_.size();
  }

  void bring_all(std::span<Hub> hubs) {
    observer_.progress(now_);
    ThreadPool pool(std::min(hubs.size(), files_.size()));
    pool.run(files_.size(), [&](std::size_t index, std::size_t worker) {
      try {
        bring(index, hubs[worker]);
      } catch (...) {
        const std::lock_guard lock(mutex_);
        if (!failure_) failure_ = std::current_exception();  // that of others is that they stop
        observer_.stop();
      }
    });
    if (failure_) std::rethrow_exception(failure_);
  }

 private:
  void bring(std::size_t index, Hub& hub) {
    const HubFile& file = files_[index];
    if (observer_.cancelled()) throw Error(ErrorCode::Cancelled, "interrupted");
    tell([&] { now_.tensor = file.name; });
    std::uint64_t left = file.size - there_[index];
    const auto moved = [&](std::int64_t bytes) {
      if (observer_.cancelled()) throw Error(ErrorCode::Cancelled, "interrupted");
      left -= static_cast<std::uint64_t>(bytes);  // below 0: back again, modulo 2^64
      tell([&] { now_.bytes_done += static_cast<std::uint64_t>(bytes); });
    };
    const auto wait = [&](double seconds) {
      tell([] {});
      wait_(seconds);
    };
    writer_.bring(hub, file, moved, wait);
    tell([&] {
      now_.bytes_done += left;  // another process may have brought it
      ++now_.tensors_done;
    });
  }

  template <typename Change>
  void tell(Change change) {
    const std::lock_guard lock(mutex_);
    change();
    observer_.progress(now_);
  }

  CacheWriter& writer_;
  const std::vector<HubFile>& files_;
  const Hub::Wait& wait_;
  JointObserver& observer_;
  std::vector<std::uint64_t> there_;  // bytes of each file when this began
  std::mutex mutex_;                  // of what follows
  Progress now_;
  std::exception_ptr failure_;
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

FetchedRepository fetch_repository(Disk& disk, std::span<Hub> hubs, const std::string& cache,
                                   const Repository& repository,
                                   const std::vector<std::string>& include, const Hub::Wait& wait,
                                   JointObserver& observer) {
  const HubListing listing = hubs.front().list(repository);
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
    Bringer(writer, {*index}, wait, observer).bring_all(hubs.first(1));
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
  Bringer(writer, choice.files, wait, observer).bring_all(hubs);
  writer.publish(wait);
  return result;
}

}  // namespace thorns
