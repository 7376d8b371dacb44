#include "base/pages.h"

#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <fstream>
#include <string>

#include "thorns/error.h"

namespace thorns {

Buffer::Buffer(std::size_t bytes) : size_(bytes) {
  void* const memory =
      ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    throw Error(ErrorCode::NoSpace, "the system has no memory left for the merge's buffers",
                Where{}, "use a smaller --memory");
  }
  memory_ = {static_cast<std::byte*>(memory), Unmap{bytes}};
  ::madvise(memory, bytes, MADV_HUGEPAGE);  // fewer page faults; not having them costs only time
}

void Unmap::operator()(std::byte* memory) const { ::munmap(memory, size); }

void give_back(const std::byte* from, std::size_t bytes) {
  static const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto at = reinterpret_cast<std::uintptr_t>(from);
  const std::uintptr_t begin = (at + page - 1) / page * page;
  const std::uintptr_t end = (at + bytes) / page * page;
  if (begin >= end) return;
  ::madvise(const_cast<std::byte*>(from) + (begin - at), end - begin, MADV_DONTNEED);
}

// getrusage would count what the parent held when it started this process, so Linux is asked for
// the figure of this address space.
std::uint64_t peak_memory() {
  std::ifstream status("/proc/self/status");
  std::string word;
  while (status >> word) {
    std::uint64_t kilobytes = 0;
    if (word == "VmHWM:" && status >> kilobytes) return kilobytes * 1024;
  }
  struct ::rusage usage {};
  ::getrusage(RUSAGE_SELF, &usage);
  return static_cast<std::uint64_t>(usage.ru_maxrss) * 1024;
}

}  // namespace thorns
