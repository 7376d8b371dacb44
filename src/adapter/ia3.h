// IA3 with the factors of several adapters. Private to this room.
#pragma once

#include <cstddef>
#include <memory>
#include <span>

#include "adapter/change.h"

namespace thorns {

// One adapter's part in a sum: its change, and where its tensors begin in the sum's source.
struct WeightedScale {
  const Change* change = nullptr;  // made by the family IA3
  double weight = 1.0;
  std::size_t offset = 0;
};

// Multiplies by the weighted sum of all factors. Null where they are not for the same side of one
// layer.
std::shared_ptr<const Change> sum_of_scales(std::span<const WeightedScale> scales);

}  // namespace thorns
