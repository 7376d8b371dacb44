// A GGUF file, the container of llama.cpp, as a checkpoint. Private to this room.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/disk.h"
#include "base/json.h"
#include "checkpoint/checkpoint.h"

namespace thorns {

// What lies beside the weights and goes before what their metadata says.
struct GgufSide {
  Json config;  // null: made from the metadata
  std::optional<std::string> generation_config = std::nullopt;
  std::vector<std::string> tokenizer = {};  // files; empty: made from the metadata
};

// All parts of the model that the file `path` is of, by their names: "-00001-of-00003.gguf"; else
// this file alone.
std::vector<std::string> gguf_parts(const std::string& path);

// A model of one of the architectures in gguf_model.h, under the names, shapes and order of rows
// that transformers uses; the matrices of experts one by one. Block types are decoded as they are
// read, to float32; every value is the one that ggml's formula defines, rounded once. `path` is
// what the user named, `weights` the file or one of its parts. Throws Corrupt, NotFound for a part,
// or Unsupported naming the architecture, the tensors or the type that stand in the way.
std::unique_ptr<Checkpoint> open_gguf(Disk& disk, const std::string& path,
                                      const std::string& weights, GgufSide side);

}  // namespace thorns
