// DoRA's magnitudes as a change. Private to this room.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "adapter/change.h"

namespace thorns {

// `tensor`: the index of the `count` magnitudes in the adapter's source.
std::shared_ptr<const Change> dora_magnitudes(std::size_t tensor, std::uint64_t count,
                                              bool embedding);

}  // namespace thorns
