#include "adapter/adapter_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <string_view>

#include "base/text.h"
#include "thorns/error.h"

namespace thorns {
namespace {

constexpr const char* kActsOnActivations =
    "it acts on activations or virtual tokens, not on weights, so it cannot be folded";
constexpr const char* kNeedsTheBase =
    "it needs a decomposition of its base that the adapter does not hold";
constexpr const char* kMixesRows = "it makes each output of all outputs of its base";

// peft_type values with a reason of their own.
struct TypeReason {
  std::string_view type;
  const char* reason;
};
constexpr std::array<TypeReason, 17> kTypeReasons = {{
    {"XLORA",
     "its gates depend on the input, so no fixed weight exists; its member LoRAs can be folded"},
    {"POLY", "its routing depends on the task, so no fixed weight exists"},
    {"LILY", kActsOnActivations},
    {"PROMPT_TUNING", kActsOnActivations},
    {"P_TUNING", kActsOnActivations},
    {"PREFIX_TUNING", kActsOnActivations},
    {"MULTITASK_PROMPT_TUNING", kActsOnActivations},
    {"CPT", kActsOnActivations},
    {"CARTRIDGE", kActsOnActivations},
    {"ADAPTION_PROMPT", kActsOnActivations},
    {"OSF", kNeedsTheBase},
    {"FROD", kNeedsTheBase},
    {"ADAMSS", kNeedsTheBase},
    {"PSOFT", kNeedsTheBase},
    {"DEFT", kMixesRows},
    {"GLORA", "its biases depend on the weights of its base"},
    {"PEANUT", "its update is no linear function of its base"},
}};

// Options of the LoRA family that change the formula. Set means: neither absent, null, false nor
// empty.
struct OptionReason {
  const char* field;
  const char* reason;
};
constexpr std::array<OptionReason, 5> kOptionReasons = {{
    {"alora_invocation_tokens", "an activated LoRA acts only behind its invocation text"},
    {"arrow_config", "Arrow routes by the input, so no fixed weight exists"},
    {"use_qalora", "QALoRA's factors act on pooled inputs of a quantised base"},
    {"kasa_config",
     "KaSA cuts the smallest singular values off its base, so its factors belong to other weights"},
    {"megatron_config", "Megatron's layers are split between ranks"},
}};

// Ways to initialise that leave the base as it was, and those that change it: W_res = W - s B0 A0.
constexpr std::array<std::string_view, 4> kHarmlessInits = {"gaussian", "eva", "orthogonal",
                                                            "mica"};
constexpr std::array<std::string_view, 5> kBaseMutatingInits = {"pissa", "olora", "corda",
                                                                "lora_ga", "loftq"};

// The family that the type names; any other is refused.
const AdapterFamily& family_of(const ConfigFields& fields) {
  if (fields.find("peft_type") == nullptr) {
    fields.wrong("peft_type", "given, so the kind of adapter is unknown");
  }
  std::string type = fields.text("peft_type", "");
  std::transform(type.begin(), type.end(), type.begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  if (const AdapterFamily* family = find_family(type)) return *family;
  for (const auto& [name, why] : kTypeReasons) {
    if (type == name) fields.refuse(fmt::format("the adapter is of type {}: {}", type, why));
  }
  std::vector<std::string> known;
  for (const AdapterFamily& family : family_catalogue()) known.push_back(family.name);
  fields.refuse(fmt::format("the adapter is of type {}, which is not folded; folded are {}", type,
                            list_text(known, known.size())));
}

void check_options(const ConfigFields& fields) {
  for (const auto& [name, reason] : kOptionReasons) {
    if (!fields.is_set(name)) continue;
    fields.refuse(fmt::format("the adapter sets `{}`: {}", name, reason));
  }
}

void check_initialisation(const ConfigFields& fields) {
  const Json* field = fields.find("init_lora_weights");
  if (field == nullptr || field->is_boolean()) return;
  const std::string init = fields.text("init_lora_weights", "");
  std::string lower = init;  // PEFT takes "Gaussian" for "gaussian"
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  if (std::find(kHarmlessInits.begin(), kHarmlessInits.end(), lower) != kHarmlessInits.end()) {
    return;
  }
  const bool known =
      std::any_of(kBaseMutatingInits.begin(), kBaseMutatingInits.end(),
                  [&](std::string_view name) { return std::string_view(lower).starts_with(name); });
  fields.refuse(
      fmt::format("the adapter was initialised with `{}`, which {} the base model, so its factors "
                  "do not belong to the original weights",
                  init, known ? "changes" : "may have changed"),
      "convert it to a plain LoRA: PEFT does that when it saves the adapter together with its "
      "initial state (path_initial_model_for_weight_conversion). To fold it into the changed base "
      "itself, where you have that, set init_lora_weights to true in its adapter_config.json");
}

// [[0, 2], [1, 3]]: ranges of layers.
std::vector<LayerRange> replication_of(const ConfigFields& fields) {
  std::vector<LayerRange> ranges;
  const Json* field = fields.find("layer_replication");
  if (field == nullptr) return ranges;
  const auto wrong = [&] { fields.wrong("layer_replication", "a list of ranges of layers"); };
  if (!field->is_array()) wrong();
  for (const Json& range : *field) {
    if (!range.is_array() || range.size() != 2 || !range[0].is_number_unsigned() ||
        !range[1].is_number_unsigned() ||
        range[0].get<std::uint64_t>() >= range[1].get<std::uint64_t>()) {
      wrong();
    }
    ranges.push_back({range[0].get<std::uint64_t>(), range[1].get<std::uint64_t>()});
  }
  return ranges;
}

std::string bias_of(const ConfigFields& fields) {
  std::string bias = fields.text("bias", "none");
  if (bias != "none" && bias != "all" && !bias.ends_with("_only")) {
    fields.refuse(fmt::format("`bias` is `{}`; known are none, all and lora_only", bias));
  }
  return bias;
}

}  // namespace

AdapterConfig read_adapter_config(const Json& json, const std::string& path) {
  if (!json.is_object()) {
    throw Error(ErrorCode::Corrupt, fmt::format("`{}` is not a JSON object", path),
                FilePlace{path});
  }
  AdapterConfig config;
  config.fields = ConfigFields(json, path);
  const ConfigFields& fields = config.fields;
  config.family = &family_of(fields);
  check_options(fields);
  check_initialisation(fields);
  config.name = config.family->name_for(fields);
  config.fan_in_fan_out = fields.flag("fan_in_fan_out");
  config.bias = bias_of(fields);
  config.layer_replication = replication_of(fields);
  config.modules_to_save = fields.texts("modules_to_save");
  config.base_model = fields.text("base_model_name_or_path", "");
  return config;
}

}  // namespace thorns
