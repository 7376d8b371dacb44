// The two containers that torch.save has used: what each of them keeps where. Private to this room.
#pragma once

#include <cstdint>
#include <vector>

#include "base/disk.h"
#include "checkpoint/state_dict.h"

namespace thorns {

struct TorchFile {
  StateDict state;
  std::vector<std::uint64_t> storages;  // first byte of each of state.storages in the file
};

// A zip archive (since PyTorch 1.6): a record with the pickle, and one for every storage.
TorchFile read_torch_zip(const ReadFile& file);

// Before that: five pickles (a magic number, a protocol, the machine, the state dict, the keys of
// the storages), then the storages, each with its size before it.
TorchFile read_torch_legacy(const ReadFile& file);

}  // namespace thorns
