// What the files of a checkpoint say that they hold, by their headers alone: for looking at one
// that cannot be opened. Nothing is decoded, renamed, or held against an index.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/disk.h"
#include "base/json.h"
#include "checkpoint/checkpoint.h"

namespace thorns {

struct ListedTensor {
  std::string name;  // as its file has it
  std::vector<std::uint64_t> shape;
  std::uint64_t elements = 0;
  StoredAs stored;
};

struct CheckpointListing {
  std::vector<InputFile> files;  // that could be read
  std::vector<ListedTensor> tensors;
  // config.json; of GGUF without one, what its metadata say in the same words; null where neither
  // can be read.
  Json config;
  std::vector<std::string> tokenizer;  // names of files
  std::vector<std::string> broken;     // of each file that could not be read: why
};

// `path` is a folder or a weights file; an adapter's may be listed, too. Throws what reading the
// first file throws where none can be read, and NotFound where there is none.
CheckpointListing list_checkpoint(Disk& disk, const std::string& path);

}  // namespace thorns
