// Which output tensor goes into which file, and where.
#pragma once

#include <cstdint>
#include <vector>

#include "plan/plan.h"

namespace thorns {

inline constexpr std::uint64_t kDefaultShardSize = 5'000'000'000;

// Sorts `programs` into writing order and returns the shards. Tensors are taken in the order in
// which people count (layer 2 before layer 10); a shard is closed before it would exceed
// `shard_size`, and a tensor larger than that has a shard of its own (the rule of huggingface_hub).
// Within a shard tensors stand as the reference writer of safetensors puts them: widest type first,
// then by name.
std::vector<Shard> lay_out(std::vector<Program>& programs, std::uint64_t shard_size);

}  // namespace thorns
