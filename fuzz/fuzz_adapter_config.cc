// Any JSON as adapter_config.json: settings within their bounds, or an error that names the file.
// Its patterns, which are a stranger's regular expressions, are matched to modules' names.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "adapter/adapter_config.h"
#include "adapter/patterns.h"
#include "base/json.h"
#include "support/fuzz_parts.h"
#include "thorns/error.h"

namespace {

using thorns::fuzz::require;

void match(const std::vector<std::string>& keys) {
  thorns::PatternList patterns(keys, "rank_pattern");
  std::size_t matches = 0;
  for (const char* module : {"model.layers.11.self_attn.q_proj", "lm_head", ""}) {
    const auto first = patterns.first_match(module);
    require(!first || *first < keys.size());
    matches += first ? 1 : 0;
  }
  require(patterns.unused().size() + (matches > 0 ? 1 : 0) <= keys.size());
}

// The fields that families ask for.
void read_fields(const thorns::ConfigFields& fields) {
  require(fields.count("r", 8) > 0);
  require(std::isfinite(fields.number("lora_alpha", 8)));
  fields.flag("use_rslora");
  fields.flag("use_dora");
  fields.text("init_weights", "");
  std::vector<std::string> keys;
  for (const auto& [key, rank] : fields.counts("rank_pattern")) {
    require(rank > 0);
    keys.push_back(key);
  }
  for (const auto& [key, alpha] : fields.numbers("alpha_pattern")) {
    require(std::isfinite(alpha));
    keys.push_back(key);
  }
  match(keys);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  try {
    const thorns::AdapterConfig config =
        thorns::read_adapter_config(thorns::parse_json(text, "c.json"), "c.json");
    require(config.family != nullptr && !config.name.empty());
    require(config.bias == "none" || config.bias == "all" || config.bias == "lora_only");
    read_fields(config.fields);
  } catch (const thorns::Error& error) {
    require(error.code() != thorns::ErrorCode::Internal);
    to_string(error);
  }
  return 0;
}
