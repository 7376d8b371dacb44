// The names that PEFT and the trainers around it give to an adapter's tensors, taken apart. Private
// to this room.
#pragma once

#include <string>

namespace thorns {

struct AdapterKey {
  enum class Role {
    LoraA,
    LoraB,
    LoraBias,    // lora_B.bias
    LoraE,       // singular values, rank x 1 (AdaLoRA)
    EmbeddingA,  // lora_embedding_A: the weight is stored (vocabulary, dimension)
    EmbeddingB,
    Magnitude,  // of DoRA
    Ia3,
    Tensor,   // a parameter of the model itself: replaces it
    Norm,     // ln_tuning_layers: likewise
    Copy,     // original_module: an untouched copy, to be passed over
    Foreign,  // of an adapter type that is not read
  };
  Role role = Role::Tensor;
  std::string module;     // "model.layers.0.self_attn.q_proj"; wrappers' names removed
  std::string parameter;  // "weight", "bias", ...
  std::string infix;      // the adapter's own name, where the key carries it: "default"
  std::string foreign;    // Foreign: what it is, "DoRA"
};

AdapterKey parse_adapter_key(const std::string& name);

}  // namespace thorns
