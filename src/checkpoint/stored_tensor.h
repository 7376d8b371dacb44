// Where the elements of a tensor lie in its file: what the reader of every weights format finds
// out, and all that reading them takes. Private to this room.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "checkpoint/source.h"

namespace thorns {

struct GgufType;

constexpr std::size_t kMostDimensions = 16;  // of a tensor; real ones have 5 at the most

struct StoredTensor {
  TensorInfo info;
  std::uint64_t offset = 0;  // of the first element, from the start of the file
  // Distance from an element to its neighbour in each dimension, in elements. Empty where the
  // elements lie in row-major order without gaps, as almost always.
  std::vector<std::uint64_t> strides = {};
  // Not null: at `offset` begin blocks of this type, which stand for float32 numbers; the strides
  // are those of the numbers.
  const GgufType* blocks = nullptr;
};

}  // namespace thorns
