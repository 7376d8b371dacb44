// LoRA of llama.cpp: W + alpha / rank * lora_b lora_a, under ggml's names.
#include <utility>

#include "adapter/foreign.h"
#include "checkpoint/gguf_adapter.h"

namespace thorns {

ForeignAdapter tell_gguf(const ForeignFile& file, GgufAdapter adapter) {
  constexpr std::string_view kA = ".lora_a";
  constexpr std::string_view kEmbedding = "embed_tokens";
  ForeignAdapter told;
  told.rotates_neighbours = adapter.rotates_neighbours;
  told.config["peft_type"] = "LORA";
  if (!adapter.base_model.empty()) told.config["base_model_name_or_path"] = adapter.base_model;
  Scales scales;
  for (StoredTensor& tensor : adapter.tensors) {
    const bool is_a = tensor.info.name.ends_with(kA);
    const std::string module = tensor.info.name.substr(0, tensor.info.name.size() - kA.size());
    const bool embedding = module.ends_with(kEmbedding);
    if (embedding && is_a) tensor = transposed(file, std::move(tensor));
    if (is_a && !tensor.info.shape.empty()) {
      const std::uint64_t rank = tensor.info.shape[0];
      scales.set(module, rank, adapter.alpha == 0 ? static_cast<double>(rank) : adapter.alpha);
    }
    tensor.info.name = embedding ? peft_name(module, is_a ? "lora_embedding_A" : "lora_embedding_B")
                                 : peft_name(module, is_a ? "lora_A.weight" : "lora_B.weight");
    told.tensors.push_back(std::move(tensor));
  }
  scales.write(told.config, "lora_alpha");
  return told;
}

}  // namespace thorns
