// The names that PEFT and the trainers around it give to an adapter's tensors, taken apart. Private
// to this room.
#pragma once

#include <string>
#include <string_view>

namespace thorns {

// Before the name of a tensor, once for every wrapper around it: "base_layer.lora_A" belongs to the
// second of a module's parameters that an adapter wraps.
inline constexpr std::string_view kNested = "base_layer.";

struct AdapterKey {
  enum class Role {
    Family,    // a tensor of a family of adapters: `tensor` says which
    Tensor,    // a parameter of the model itself: replaces it
    Copy,      // original_module: an untouched copy, to be passed over
    Training,  // what training alone needs, to be passed over
    Foreign,   // of an adapter type that is not read
  };
  Role role = Role::Tensor;
  std::string module;  // "model.layers.0.self_attn.q_proj"; wrappers' names removed. Empty for
                       // tensors that all modules share
  // Family: what the patterns of the configuration know the module by. The module, or the one that
  // holds it and is adapted as a whole: multi-head attention for its out_proj.
  std::string known_as;
  std::string tensor;     // Family: by the name that AdapterFamily gives it, "lora_A"
  std::string parameter;  // Tensor: "weight", "bias", ...
  bool wrapped = false;   // Tensor: of a layer that is adapted itself, `base_layer`
  std::string infix;      // the adapter's own name, where the key carries it: "default"
  std::string foreign;    // Foreign: what it is, "C3A"
};

AdapterKey parse_adapter_key(const std::string& name);

}  // namespace thorns
