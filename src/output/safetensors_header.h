// The bytes of safetensors headers and of the shard index, exactly as the reference writers make
// them. Nothing here touches a file.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "output/json_text.h"
#include "plan/plan.h"
#include "thorns/dtype.h"

namespace thorns {

// One tensor of a header; offsets follow from the order.
struct HeaderEntry {
  std::string name;
  Dtype dtype = Dtype::F32;
  std::vector<std::uint64_t> shape;
};

// The bytes before the data: u64 little-endian length, compact JSON, spaces up to a multiple of 8.
// `entries` stand in data order (the reference writer's: layout_rank descending, then name);
// `__metadata__` comes first and is left out where `metadata` is empty.
std::string safetensors_header(std::span<const HeaderEntry> entries,
                               const std::map<std::string, std::string>& metadata);

// The header of one shard of a plan, with the metadata that PyTorch loaders ask for.
std::string shard_header(const Plan& plan, const Shard& shard);

inline constexpr const char* kIndexFile = "model.safetensors.index.json";

// model.safetensors.index.json, in pieces: which shard holds which tensor, sorted by name.
void write_index(const Plan& plan, const TextSink& out);

}  // namespace thorns
