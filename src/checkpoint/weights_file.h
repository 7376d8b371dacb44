// One weights file of any format that thorns reads. What it holds decides how it is read, never
// what it is called.
#pragma once

#include <cstddef>
#include <map>
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
  std::vector<StoredTensor> tensors;            // in no particular order; names unique
  std::map<std::string, std::string> metadata;  // that a safetensors file has beside them
};

// Reads and checks what a file says about its tensors, not the tensors. Throws Corrupt with the
// place in the file, Unsupported for what cannot be merged.
WeightsHeader read_weights_header(const ReadFile& file);

// "safetensors", "PyTorch" or "GGUF": what a file that was opened is.
const char* weights_format(const ReadFile& file);

// "model-00002-of-00005.safetensors" and "pytorch_model-00002-of-00005.bin" are one of 5; 0 for a
// name of another form.
std::size_t shard_count_of(const std::string& file_name);

// What a model in GGUF is called, by the name of its file or of its first part: "B" of "B.gguf" and
// of "B-00001-of-00003.gguf"; empty for any other file, and for later parts.
std::string gguf_model_name(const std::string& file_name);

// A single weights file as a source.
std::unique_ptr<TensorSource> open_weights(Disk& disk, const std::string& path);

// The same with the tensors that the caller has found in the file's header, under whatever names
// and strides it gives them. Corrupt where two have one name.
std::unique_ptr<TensorSource> open_tensors(Disk& disk, const std::string& path,
                                           std::vector<StoredTensor> tensors);

}  // namespace thorns
