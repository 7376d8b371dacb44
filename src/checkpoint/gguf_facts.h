// What a GGUF file says of itself beside its tensors.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/disk.h"

namespace thorns {

struct GgufFacts {
  std::string type;       // "model", "adapter"
  std::string tokenizer;  // ggml's word for its kind: "llama", "gpt2"; empty: it has none
  std::uint64_t tokens = 0;
  bool chat_template = false;
};

// nullopt for a file of another format; throws what read_gguf_header throws.
std::optional<GgufFacts> read_gguf_facts(const ReadFile& file);

}  // namespace thorns
