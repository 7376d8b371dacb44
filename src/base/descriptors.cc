#include "base/descriptors.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

namespace thorns {
namespace {

constexpr std::size_t kMost = 256;
constexpr std::size_t kLeast = 4;

std::size_t most_open() {
  struct ::rlimit limit {};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return kLeast;
  return std::clamp(static_cast<std::size_t>(std::min<rlim_t>(limit.rlim_cur, 2 * kMost)) / 2,
                    kLeast, kMost);
}

}  // namespace

Descriptor::~Descriptor() {
  if (number_ >= 0) ::close(number_);
}

int Descriptor::release() { return std::exchange(number_, -1); }

FileStamp::FileStamp(const struct ::stat& info)
    : device(info.st_dev),
      inode(info.st_ino),
      size(info.st_size),
      modified(std::int64_t{info.st_mtim.tv_sec} * 1'000'000'000 + info.st_mtim.tv_nsec) {}

std::shared_ptr<const Descriptor> DescriptorPool::get(const void* owner,
                                                      const std::function<Descriptor()>& open) {
  {
    const std::lock_guard lock(mutex_);
    const auto found = by_owner_.find(owner);
    if (found != by_owner_.end()) {
      entries_.splice(entries_.begin(), entries_, found->second);
      return found->second->descriptor;
    }
  }
  auto descriptor = std::make_shared<const Descriptor>(open());
  const std::lock_guard lock(mutex_);
  const auto found = by_owner_.find(owner);  // another thread may have been faster
  if (found != by_owner_.end()) return found->second->descriptor;
  while (entries_.size() >= most_) {
    by_owner_.erase(entries_.back().owner);
    entries_.pop_back();
  }
  entries_.push_front({owner, descriptor});
  by_owner_[owner] = entries_.begin();
  return descriptor;
}

void DescriptorPool::forget(const void* owner) {
  const std::lock_guard lock(mutex_);
  const auto found = by_owner_.find(owner);
  if (found == by_owner_.end()) return;
  entries_.erase(found->second);
  by_owner_.erase(found);
}

bool DescriptorPool::close_one() {
  const std::lock_guard lock(mutex_);
  if (entries_.empty()) return false;
  by_owner_.erase(entries_.back().owner);
  entries_.pop_back();
  return true;
}

std::size_t DescriptorPool::open() const {
  const std::lock_guard lock(mutex_);
  return entries_.size();
}

DescriptorPool& read_descriptors() {
  static DescriptorPool pool(most_open());
  return pool;
}

}  // namespace thorns
