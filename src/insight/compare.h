// One tensor of two sources, compared number by number.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "checkpoint/source.h"
#include "thorns/diff.h"

namespace thorns {

// What compare_tensors holds at most, whatever the size of the tensors; bytes.
constexpr std::uint64_t kComparing = 8'000'000;

// Both tensors have one shape. Throws what the sources throw.
TensorDiff compare_tensors(const TensorSource& a, std::size_t in_a, const TensorSource& b,
                           std::size_t in_b);

// The tensors of one layer together, and what stands before and after the layers.
std::vector<DiffGroup> by_layer(std::span<const TensorDiff> tensors);
// Those whose names differ in numbers alone.
std::vector<DiffGroup> by_module(std::span<const TensorDiff> tensors);

}  // namespace thorns
