// The types of ggml: how many bytes hold a block, and what numbers they stand for. Private to this
// room.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

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

}  // namespace thorns
