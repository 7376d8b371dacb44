// The types of ggml: how many bytes hold a block, and what numbers they stand for. Private to this
// room.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "base/disk.h"
#include "thorns/dtype.h"

namespace thorns {

struct GgufType {
  std::uint32_t number = 0;
  const char* name = "";
  std::uint32_t elements = 1;  // of a block
  std::uint32_t bytes = 1;     // of a block
  // A plain number of this type, or else blocks that `decode` turns into `elements` floats.
  std::optional<Dtype> plain = std::nullopt;
  void (*decode)(const std::uint8_t* block, float* to) = nullptr;

  // Of others only the size is known.
  bool is_read() const { return plain || decode != nullptr; }
};

// nullptr for a number that is no type's. Lives for ever.
const GgufType* find_gguf_type(std::uint32_t number);

// Of consecutive blocks the elements [skipped, skipped + count) as float32, at any address.
void decode_blocks(const GgufType& type, const std::uint8_t* block, std::uint64_t skipped,
                   std::uint64_t count, std::byte* to);
// The same from element `first` on, of blocks that begin at byte `offset` of `file`: as many as
// fill `to`. Holds about 430 kB of blocks at the most. Throws what reading throws.
void read_blocks(const ReadFile& file, std::uint64_t offset, const GgufType& type,
                 std::uint64_t first, std::span<std::byte> to);

// These blocks as a file of float32 numbers, for those who know where numbers lie in files. Reads
// whole numbers only. `file` must outlive it.
std::unique_ptr<ReadFile> decoded_blocks(const ReadFile& file, std::uint64_t offset,
                                         const GgufType& type, std::uint64_t elements);

}  // namespace thorns
