// A Hugging Face model folder (or one weights file) opened for reading: all tensors of all shards
// under one index, config.json, tokenizer files. Opening reads headers and small JSON files only.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/disk.h"
#include "base/json.h"
#include "checkpoint/source.h"

namespace thorns {

struct InputFile {
  std::string path;
  std::uint64_t size = 0;
};

// A tensor as its file holds it. Of a quantised one: its codes, without their scales.
struct StoredAs {
  std::string type;  // "BF16", "F8_E4M3", "Q4_K"
  std::uint64_t bytes = 0;
};

class Checkpoint : public TensorSource {
 public:
  virtual const std::string& path() const = 0;
  virtual const std::vector<InputFile>& files() const = 0;  // the weights files, in name order
  // config.json; a null value for a single weights file.
  virtual const Json& config() const = 0;
  // generation_config.json as text, where there is one.
  virtual const std::optional<std::string>& generation_config() const = 0;
  // Names (relative to path()) of the tokenizer and processor files that are present.
  virtual const std::vector<std::string>& tokenizer_files() const = 0;
  // What the weights are decoded from, "scaled FP8"; empty where they are stored as plain numbers.
  virtual std::string quantisation() const { return {}; }

  virtual StoredAs stored_as(std::size_t tensor) const;

  std::string model_type() const;    // "llama"; empty where unknown
  std::string architecture() const;  // first of `architectures`; empty where unknown
  // tie_word_embeddings as the model class understands it: the field, else the class's default.
  bool ties_embeddings() const;
};

// Throws one clear error for: no such folder, no weights in it, index and shards that disagree, a
// missing or truncated shard, a Git-LFS pointer, a quantised checkpoint that cannot be decoded (by
// its method's name) or whose parts do not fit together, a weights format that is not readable yet
// (by its name).
std::unique_ptr<Checkpoint> open_checkpoint(Disk& disk, const std::string& path);

}  // namespace thorns
