// What the files of a model folder are, by their names. Private to this room.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/disk.h"

namespace thorns {

// How a format's files are called in a folder.
struct FileNames {
  const char* what;
  const char* whole;
  const char* index;
  const char* adapter;
};
inline constexpr FileNames kSafetensors = {"safetensors", "model.safetensors",
                                           "model.safetensors.index.json",
                                           "adapter_model.safetensors"};
inline constexpr FileNames kPyTorch = {"PyTorch", "pytorch_model.bin",
                                       "pytorch_model.bin.index.json", "adapter_model.bin"};

bool is_file(Disk& disk, const std::string& path);

// The names of `names` that may be a model's weights in one format, which is one of the two above.
std::vector<std::string> weights_among(const std::vector<std::string>& names,
                                       const FileNames& format);

// The first file of the one GGUF model in a folder without other weights.
std::optional<std::string> only_gguf_model(const std::vector<std::string>& names);

// Tokenizer and processor files among `names`, sorted, and the templates in a folder of their own.
// Throws Corrupt for a Git-LFS pointer: they are copied to the output, whatever stands there.
std::vector<std::string> find_tokenizer_files(Disk& disk, const std::string& folder,
                                              const std::vector<std::string>& names);

}  // namespace thorns
