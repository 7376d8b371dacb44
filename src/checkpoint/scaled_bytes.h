// Weights of one byte an element with a scale for each block, and perhaps a zero point: FP8 and
// int8 in all their variants. Private to this room.
#pragma once

#include <array>
#include <memory>
#include <optional>

#include "checkpoint/block_grid.h"
#include "checkpoint/decoder.h"
#include "checkpoint/tensor_reader.h"

namespace thorns {

struct ScaledBytes {
  explicit ScaledBytes(TensorReader tensor) : weight(tensor) {}

  TensorReader weight;  // F8_E4M3, F8_E5M2 or I8; its shape is the result's
  std::optional<TensorReader> scale;
  std::optional<TensorReader> zero;  // of the scale's shape
  std::optional<BlockGrid> grid;     // set where `scale` is
  double divisor = 1.0;
};

// (weight - zero) * scale / divisor, rounded once to float32; what is not set does not take part.
std::unique_ptr<Decoder> decode_scaled_bytes(const ScaledBytes& what);

}  // namespace thorns
