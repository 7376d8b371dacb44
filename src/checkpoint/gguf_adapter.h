// A LoRA in GGUF, as convert_lora_to_gguf.py of llama.cpp writes it.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/disk.h"
#include "checkpoint/stored_tensor.h"

namespace thorns {

struct GgufAdapter {
  double alpha = 0;  // 0: the update is not scaled
  std::string base_model;
  // Under transformers' names: "model.layers.0.self_attn.q_proj" and ".lora_a" (rank x in) or
  // ".lora_b" (out x rank); of an embedding lora_a is (vocabulary x rank).
  std::vector<StoredTensor> tensors;
  // The rows of q and k are in llama.cpp's order: within a head, row t D/2 + i is row 2 i + t.
  bool rotates_neighbours = false;
};

bool is_gguf_file(const ReadFile& file);

// Throws what read_gguf_header throws; Unsupported, naming it, for what is no LoRA, for tensors
// of a type that is not read or that have no place in a model, and for architectures whose rows may
// be reordered in ways that are not known.
GgufAdapter read_gguf_adapter(const ReadFile& file);

}  // namespace thorns
