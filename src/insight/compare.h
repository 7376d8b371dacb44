// One tensor of two sources, compared number by number.
#pragma once

#include <cstddef>

#include "checkpoint/source.h"
#include "thorns/diff.h"

namespace thorns {

// Both tensors have one shape. Holds a few megabytes, whatever their size. Throws what the sources
// throw.
TensorDiff compare_tensors(const TensorSource& a, std::size_t in_a, const TensorSource& b,
                           std::size_t in_b);

}  // namespace thorns
