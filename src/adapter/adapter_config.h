// adapter_config.json: what of it changes a fold, and everything in it that cannot be folded.
// Private to this room.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "base/json.h"

namespace thorns {

struct AdapterConfig {
  bool ia3 = false;          // IA3: none of the fields about ranks and scales counts
  bool adalora = false;      // ADALORA: `initial_rank` divides alpha, not the rank of the tensors
  double initial_rank = 12;  // `init_r`
  bool norms = false;        // LN_TUNING: whole normalisation layers; else LoRA
  std::uint64_t rank = 8;    // `r`: only a fallback and a check, the tensors know better
  double alpha = 8;          // `lora_alpha`
  std::vector<std::pair<std::string, std::uint64_t>> rank_pattern;  // in the order of the file
  std::vector<std::pair<std::string, double>> alpha_pattern;
  bool rslora = false;
  bool dora = false;
  bool fan_in_fan_out = false;
  bool lora_bias = false;
  std::string bias = "none";  // "none", "all" or "lora_only"
  std::vector<std::string> modules_to_save;
  std::string base_model;  // base_model_name_or_path
};

// Corrupt for fields of a wrong type; Unsupported, with the reason, for every adapter type and
// option that is not LoRA, rsLoRA, DoRA, AdaLoRA, IA3 or LN tuning. Unknown fields are ignored.
AdapterConfig read_adapter_config(const Json& json, const std::string& path);

}  // namespace thorns
