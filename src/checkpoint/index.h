// The shard index of a checkpoint: which file holds which tensor. Private to this room.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "base/disk.h"
#include "checkpoint/shards.h"

namespace thorns {

struct ShardIndex {
  std::vector<std::string> files;  // names in the index's own folder, sorted, each once
  std::vector<std::pair<std::string, std::size_t>> tensors;  // name, index into files; by name
};

// Reads model.safetensors.index.json or pytorch_model.bin.index.json. Corrupt for broken JSON, a
// tensor named twice, a file name that is more than a name.
ShardIndex read_shard_index(Disk& disk, const std::string& path);

// Checks that index and shards name the same tensors in the same files (`source` opened from
// index.files, in that order). Corrupt lists those that do not.
void check_shard_index(const ShardIndex& index, const ShardedSource& source,
                       const std::string& path);

}  // namespace thorns
