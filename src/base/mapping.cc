#include "base/mapping.h"

#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <limits>
#include <mutex>
#include <vector>

namespace thorns {
namespace {

std::uintptr_t page_size() {
  static const auto size = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  return size;
}

// The mappings there are, where a signal handler can look them up: it may neither lock nor
// allocate. An empty range is a free place.
struct Watched {
  std::atomic<std::uintptr_t> begin = 0;
  std::atomic<std::uintptr_t> end = 0;
  std::atomic<bool> damaged = false;
};
constexpr std::size_t kMostWatched = 4096;
std::array<Watched, kMostWatched> watched;
struct ::sigaction handler_before {};

// Puts a page of zeros where the file's could not be had, and lets the thread go on. A fault that
// is none of ours gets the handler that was there before: the instruction faults again.
void on_bus_error(int number, siginfo_t* info, void* /*context*/) {
  const int kept_errno = errno;
  const auto at = reinterpret_cast<std::uintptr_t>(info->si_addr);
  for (Watched& range : watched) {
    if (info->si_code <= 0 || at < range.begin || at >= range.end) continue;
    auto* const page = static_cast<std::byte*>(info->si_addr) - at % page_size();
    if (::mmap(page, page_size(), PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) ==
        MAP_FAILED) {
      break;
    }
    range.damaged = true;
    errno = kept_errno;
    return;
  }
  ::sigaction(number, &handler_before, nullptr);
  if (info->si_code <= 0) ::raise(number);  // somebody sent it
  errno = kept_errno;
}

void install_handler() {
  page_size();  // known before the first signal
  struct ::sigaction action {};
  action.sa_sigaction = on_bus_error;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  ::sigaction(SIGBUS, &action, &handler_before);
}

// Free places of the table.
class Places {
 public:
  Places() {
    for (std::size_t i = kMostWatched; i > 0; --i) free_.push_back(i - 1);
  }
  // kMostWatched where there is none.
  std::size_t take() {
    const std::lock_guard lock(mutex_);
    if (free_.empty()) return kMostWatched;
    const std::size_t place = free_.back();
    free_.pop_back();
    return place;
  }
  void give_back(std::size_t place) {
    const std::lock_guard lock(mutex_);
    free_.push_back(place);
  }

 private:
  std::mutex mutex_;
  std::vector<std::size_t> free_;
};

Places& places() {
  static Places all;
  return all;
}

}  // namespace

std::unique_ptr<Mapping> Mapping::make(int descriptor, std::uint64_t offset, std::size_t bytes) {
#ifdef MADV_POPULATE_READ
  static std::once_flag installed;
  std::call_once(installed, install_handler);
  const std::uint64_t before = offset % page_size();
  const std::size_t length =
      (static_cast<std::size_t>(before) + bytes + page_size() - 1) / page_size() * page_size();
  const std::size_t place = places().take();
  if (place == kMostWatched) return nullptr;
  void* const pages = ::mmap(nullptr, length, PROT_READ, MAP_SHARED, descriptor,
                             static_cast<off_t>(offset - before));
  if (pages == MAP_FAILED) {
    places().give_back(place);
    return nullptr;
  }
  auto* const data = static_cast<std::byte*>(pages);
  std::unique_ptr<Mapping> mapping(new Mapping);
  mapping->place_ = place;
  mapping->pages_ = {data, length};
  mapping->bytes_ = {data + before, bytes};
  watched[place].damaged = false;
  watched[place].begin = reinterpret_cast<std::uintptr_t>(data);
  watched[place].end = reinterpret_cast<std::uintptr_t>(data) + length;
  if (::madvise(pages, length, MADV_POPULATE_READ) != 0) return nullptr;
  return mapping;
#else
  static_cast<void>(descriptor);
  static_cast<void>(offset);
  static_cast<void>(bytes);
  return nullptr;
#endif
}

Mapping::~Mapping() {
  watched[place_].end = 0;
  ::munmap(pages_.data(), pages_.size());
  places().give_back(place_);
}

bool Mapping::is_damaged() const { return watched[place_].damaged; }

}  // namespace thorns
