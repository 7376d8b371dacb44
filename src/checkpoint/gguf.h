// GGUF, the container of llama.cpp (versions 2 and 3), as a checkpoint. Private to this room.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/disk.h"
#include "base/json.h"
#include "checkpoint/checkpoint.h"

namespace thorns {

struct GgufTensor {
  std::string name;                  // as the file has it: "blk.0.attn_q.weight"
  std::uint32_t type = 0;            // ggml's number
  std::vector<std::uint64_t> shape;  // row-major: the reverse of the file's order
  std::uint64_t elements = 0;
  std::uint64_t offset = 0;  // from the start of the file
  std::uint64_t bytes = 0;
};

struct GgufHeader {
  std::map<std::string, Json> fields;           // numbers, truth values and texts
  std::map<std::string, std::uint64_t> arrays;  // how many elements each has; not kept
  std::vector<GgufTensor> tensors;              // in the file's order; names unique
};

// The header, checked against the size of the file: memory is never taken by a count that the file
// could not hold. Throws Corrupt with the byte in the file, Unsupported for an unknown version or
// tensor type.
GgufHeader read_gguf_header(const ReadFile& file);

// What transformers calls the tensor that ggml calls so: "blk.0.attn_q.weight" is
// "model.layers.0.self_attn.q_proj.weight". Empty for a name that is not known.
std::string transformers_name(std::string_view name);

// Whether a file that begins so is one.
bool is_gguf(std::string_view start);

// A model of the architecture llama or qwen2 (dense) in one file, under the names, shapes and order
// of rows that transformers uses, with a config.json made from the metadata. Block types are
// decoded as they are read, to float32; every value is the one that ggml's formula defines, rounded
// once. The tokenizer in the metadata is not read. Throws Corrupt, or Unsupported naming the
// architecture, the tensors or the type that stand in the way.
std::unique_ptr<Checkpoint> open_gguf(Disk& disk, const std::string& path);

}  // namespace thorns
