// One PyTorch checkpoint file (.bin, .pt, .pth), read without running anything of it: a state dict
// in the zip format of today or the one before it. Private to this room.
#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

#include "base/disk.h"
#include "checkpoint/stored_tensor.h"

namespace thorns {

constexpr std::size_t kPyTorchStart = 512;  // bytes of a file that tell what it is

// "pytorch_model.bin", "consolidated.00.pth": names that PyTorch checkpoints have.
bool has_pytorch_name(std::string_view path);

// Whether a file that begins with `start` (its first kPyTorchStart bytes, or all) should be taken
// for a PyTorch file, if only to be refused as one. Its name decides where its bytes do not.
bool is_pytorch(std::string_view start, std::string_view path);

// Reads the directory and the pickle; every rule of both is checked. Throws Corrupt or Unsupported
// with the place, and names what the pickle would have called.
std::vector<StoredTensor> read_pytorch_header(const ReadFile& file);

}  // namespace thorns
