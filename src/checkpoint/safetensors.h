// One safetensors file: its header, checked by every rule of the reference reader and more, and its
// bytes. Format: u64 little-endian header length N, N bytes of JSON, data.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/disk.h"
#include "checkpoint/stored_tensor.h"

namespace thorns {

struct SafetensorsHeader {
  std::vector<StoredTensor> entries;            // by offset
  std::map<std::string, std::string> metadata;  // __metadata__
  std::uint64_t data_begin = 0;                 // 8 + N
};

// Reads and validates the header of `file`. Corrupt with the file and byte offset when any rule is
// broken; Unsupported for a dtype that thorns has no use for, naming the tensor.
SafetensorsHeader read_safetensors_header(const ReadFile& file);

}  // namespace thorns
