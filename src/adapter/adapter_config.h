// adapter_config.json: what all families of adapters share, and what in it cannot be folded.
// Private to this room.
#pragma once

#include <string>
#include <vector>

#include "adapter/config_fields.h"
#include "adapter/family.h"
#include "adapter/replication.h"
#include "base/json.h"

namespace thorns {

struct AdapterConfig {
  const AdapterFamily* family = nullptr;
  ConfigFields fields;
  std::string name;  // of the family: "rsLoRA"
  bool fan_in_fan_out = false;
  std::string bias = "none";  // "none", "all", or the biases of adapted layers: "lora_only"
  std::vector<std::string> modules_to_save;
  std::vector<LayerRange> layer_replication;
  std::string base_model;  // base_model_name_or_path
};

// Corrupt for fields of a wrong type; Unsupported, with the reason, for every adapter type that is
// not in the catalogue and for options that cannot be folded. Unknown fields are ignored.
AdapterConfig read_adapter_config(const Json& json, const std::string& path);

}  // namespace thorns
