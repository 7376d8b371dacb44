// Whole small tensors of an adapter as numbers. Private to this room.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "checkpoint/source.h"

namespace thorns {

// All elements of a blendable tensor, exactly, in the order in which they are stored. Throws what
// the source throws.
std::vector<double> read_numbers(const TensorSource& source, std::size_t tensor);
// `count` of them from element `first`.
std::vector<double> read_numbers(const TensorSource& source, std::size_t tensor,
                                 std::uint64_t first, std::size_t count);
// Its elements from `first`, as many as fit into `to`, each rounded to float32.
void read_floats(const TensorSource& source, std::size_t tensor, std::span<float> to,
                 std::uint64_t first = 0);

// Whether read_indices() knows the type: integers and floats.
bool holds_indices(Dtype dtype);
// All elements of a tensor of whole numbers from 0, whatever type they are stored in. Corrupt, with
// the tensor and the position, for any other number.
std::vector<std::uint64_t> read_indices(const TensorSource& source, std::size_t tensor);

}  // namespace thorns
