// Whole small tensors of an adapter as numbers. Private to this room.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "checkpoint/source.h"

namespace thorns {

// All elements of a blendable tensor, exactly, in the order in which they are stored. Throws what
// the source throws.
std::vector<double> read_numbers(const TensorSource& source, std::size_t tensor);
// The same, each rounded to float32, into `to`, which has room for all.
void read_floats(const TensorSource& source, std::size_t tensor, std::span<float> to);

}  // namespace thorns
