// One weights file of any format that thorns reads. What it holds decides how it is read, never
// what it is called.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/disk.h"
#include "checkpoint/source.h"
#include "checkpoint/stored_tensor.h"

namespace thorns {

enum class WeightsFormat { Safetensors, PyTorch };

struct WeightsHeader {
  WeightsFormat format = WeightsFormat::Safetensors;
  std::vector<StoredTensor> tensors;  // in no particular order; names unique
};

// Reads and checks what a file says about its tensors, not the tensors. Throws Corrupt with the
// place in the file, Unsupported for what cannot be merged.
WeightsHeader read_weights_header(const ReadFile& file);

// A single weights file as a source.
std::unique_ptr<TensorSource> open_weights(Disk& disk, const std::string& path);

}  // namespace thorns
