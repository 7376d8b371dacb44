// Memory as the system gives it: whole pages, and how many of them the process has had.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace thorns {

struct Unmap {
  std::size_t size = 0;
  void operator()(std::byte* memory) const;
};

// A fixed block of memory on a page boundary, in huge pages where the system has them, not touched
// until it is used. NoSpace where there is none.
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(std::size_t bytes);
  std::byte* data() const { return memory_.get(); }
  std::size_t size() const { return size_; }

 private:
  std::unique_ptr<std::byte, Unmap> memory_;
  std::size_t size_ = 0;
};

// Takes away the whole pages among these bytes of a Buffer: they read as zeros again, and are not
// resident until they are used.
void give_back(const std::byte* from, std::size_t bytes);

// Resident memory of the process at its highest, in bytes.
std::uint64_t peak_memory();

}  // namespace thorns
