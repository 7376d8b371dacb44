// IA3's vectors as changes. Private to this room.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "adapter/change.h"

namespace thorns {

// `tensor`: the index of the `count` factors in the adapter's source. Outputs: every row of a
// Linear weight (column of a Conv1D) and every element of a bias is multiplied by its factor.
// Inputs: every column of a Linear weight (row of a Conv1D).
enum class Ia3Side { Outputs, Inputs };
std::shared_ptr<const Change> ia3_scale(std::size_t tensor, std::uint64_t count, Ia3Side side);

}  // namespace thorns
