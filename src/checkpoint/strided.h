// Reads tensors that do not lie in row-major order: transposed, cut out of larger ones, expanded.
// Private to this room.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/disk.h"

namespace thorns {

// As in StoredTensor. Whoever makes one has checked that every element lies within the file.
struct StridedLayout {
  std::uint64_t offset = 0;
  std::size_t element_size = 1;  // 1, 2, 4 or 8
  std::span<const std::uint64_t> shape;
  std::span<const std::uint64_t> strides;
};

// True where elements of these strides lie in row-major order without gaps. A stride along which
// there is no step does not matter.
bool is_row_major(std::span<const std::uint64_t> shape, std::span<const std::uint64_t> strides);

// Fills `to` with the elements from number `first` on, in row-major order. Needs a buffer of at
// most 256 kB, whatever the tensor's size; a few elements lying together are fetched in one call.
void read_strided(const ReadFile& file, const StridedLayout& layout, std::uint64_t first,
                  std::span<std::byte> to);
// Says that these elements will be read soon. Never fails.
void will_need_strided(const ReadFile& file, const StridedLayout& layout, std::uint64_t first,
                       std::uint64_t count);

}  // namespace thorns
