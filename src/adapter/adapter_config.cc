#include "adapter/adapter_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <string_view>

#include "thorns/error.h"

namespace thorns {
namespace {

constexpr const char* kActsOnActivations =
    "it acts on activations or virtual tokens, not on weights, so it cannot be folded";
constexpr const char* kNotYet = "only LoRA, rsLoRA, AdaLoRA and LN tuning are folded so far";
constexpr const char* kNeedsTheBase =
    "it needs a decomposition of its base that the adapter does not hold";

// peft_type values with a reason of their own; any other is kNotYet.
struct TypeReason {
  std::string_view type;
  const char* reason;
};
constexpr std::array<TypeReason, 13> kTypeReasons = {{
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
}};

// Options of the LoRA family that change the formula. Set means: neither absent, null, false nor
// empty.
struct OptionReason {
  const char* field;
  const char* reason;
};
constexpr std::array<OptionReason, 9> kOptionReasons = {{
    {"target_parameters", "LoRA on bare parameters (experts) is not folded yet"},
    {"trainable_token_indices", "trainable tokens are not folded yet"},
    {"layer_replication", "replicated layers change the model's depth, which is not folded yet"},
    {"alora_invocation_tokens", "an activated LoRA acts only behind its invocation text"},
    {"arrow_config", "Arrow routes by the input, so no fixed weight exists"},
    {"use_qalora", "QALoRA's factors belong to a quantised base"},
    {"use_bdlora", "block-diagonal LoRA is not folded yet"},
    {"kasa_config", "KaSA truncates its base's singular values, too"},
    {"megatron_config", "Megatron's layers are split between ranks"},
}};

// Ways to initialise that leave the base as it was, and those that change it: W_res = W - s B0 A0.
constexpr std::array<std::string_view, 4> kHarmlessInits = {"gaussian", "eva", "orthogonal",
                                                            "mica"};
constexpr std::array<std::string_view, 5> kBaseMutatingInits = {"pissa", "olora", "corda",
                                                                "lora_ga", "loftq"};

// Typed access to the fields of one file.
class Fields {
 public:
  Fields(const Json& json, const std::string& path) : json_(json), path_(path) {}

  // Null for a field that is absent or null.
  const Json* find(const char* name) const {
    const auto field = json_.find(name);
    return field == json_.end() || field->is_null() ? nullptr : &*field;
  }
  bool flag(const char* name) const {
    const Json* field = find(name);
    if (field == nullptr) return false;
    if (!field->is_boolean()) wrong(name, "true or false");
    return field->get<bool>();
  }
  std::string text(const char* name, const char* absent) const {
    const Json* field = find(name);
    if (field == nullptr) return absent;
    if (!field->is_string()) wrong(name, "text");
    return field->get<std::string>();
  }
  double number(const char* name, double absent) const {
    const Json* field = find(name);
    return field == nullptr ? absent : as_number(*field, name);
  }
  std::uint64_t count(const char* name, std::uint64_t absent) const {
    const Json* field = find(name);
    return field == nullptr ? absent : as_count(*field, name);
  }
  double as_number(const Json& value, const std::string& name) const {
    if (!value.is_number() || !std::isfinite(value.get<double>())) wrong(name, "a number");
    return value.get<double>();
  }
  std::uint64_t as_count(const Json& value, const std::string& name) const {
    if (!value.is_number_unsigned() || value.get<std::uint64_t>() == 0) {
      wrong(name, "a whole number from 1");
    }
    return value.get<std::uint64_t>();
  }
  const Json* object(const char* name) const {
    const Json* field = find(name);
    if (field != nullptr && !field->is_object()) wrong(name, "an object");
    return field;
  }
  std::vector<std::string> texts(const char* name) const {
    const Json* field = find(name);
    if (field == nullptr) return {};
    if (field->is_string()) return {field->get<std::string>()};
    if (!field->is_array()) wrong(name, "a list of names");
    std::vector<std::string> result;
    for (const Json& item : *field) {
      if (!item.is_string()) wrong(name, "a list of names");
      result.push_back(item.get<std::string>());
    }
    return result;
  }
  [[noreturn]] void wrong(const std::string& name, const char* expected) const {
    throw Error(ErrorCode::Corrupt, fmt::format("`{}` in `{}` is not {}", name, path_, expected),
                FilePlace{path_});
  }
  [[noreturn]] void refuse(const std::string& what, const std::string& hint = {}) const {
    throw Error(ErrorCode::Unsupported, fmt::format("`{}`: {}", path_, what), FilePlace{path_},
                hint);
  }

 private:
  const Json& json_;
  const std::string& path_;
};

// The type, in capitals: LORA, ADALORA, IA3 or LN_TUNING; any other is refused.
std::string type_of(const Fields& fields) {
  if (fields.find("peft_type") == nullptr) {
    if (fields.find("lora_parameters") != nullptr || fields.find("fine_tune_type") != nullptr) {
      fields.refuse("this is an adapter in the layout of MLX, which is not read yet",
                    "convert it to PEFT's layout");
    }
    fields.wrong("peft_type", "given, so the kind of adapter is unknown");
  }
  std::string type = fields.text("peft_type", "");
  std::transform(type.begin(), type.end(), type.begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  if (type == "LORA" || type == "ADALORA" || type == "IA3" || type == "LN_TUNING") return type;
  const char* reason = kNotYet;
  for (const auto& [name, why] : kTypeReasons) {
    if (type == name) reason = why;
  }
  fields.refuse(fmt::format("the adapter is of type {}: {}", type, reason));
}

bool is_set(const Json& value) {
  if (value.is_boolean()) return value.get<bool>();
  if (value.is_array() || value.is_object() || value.is_null()) return !value.empty();
  return true;
}

void check_options(const Fields& fields) {
  for (const auto& [name, reason] : kOptionReasons) {
    const Json* field = fields.find(name);
    if (field != nullptr && is_set(*field)) {
      fields.refuse(fmt::format("the adapter sets `{}`: {}", name, reason));
    }
  }
}

void check_initialisation(const Fields& fields) {
  const Json* field = fields.find("init_lora_weights");
  if (field == nullptr || field->is_boolean()) return;
  const std::string init = fields.text("init_lora_weights", "");
  if (std::find(kHarmlessInits.begin(), kHarmlessInits.end(), init) != kHarmlessInits.end()) {
    return;
  }
  const bool known =
      std::any_of(kBaseMutatingInits.begin(), kBaseMutatingInits.end(),
                  [&](std::string_view name) { return std::string_view(init).starts_with(name); });
  fields.refuse(
      fmt::format("the adapter was initialised with `{}`, which {} the base model, so its factors "
                  "do not belong to the original weights",
                  init, known ? "changes" : "may have changed"),
      "convert it to a plain LoRA: PEFT does that when it saves the adapter together with its "
      "initial state (path_initial_model_for_weight_conversion)");
}

std::string bias_of(const Fields& fields) {
  std::string bias = fields.text("bias", "none");
  if (bias != "none" && bias != "all" && bias != "lora_only") {
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
  const Fields fields(json, path);
  const std::string type = type_of(fields);
  check_options(fields);
  check_initialisation(fields);

  AdapterConfig config;
  config.ia3 = type == "IA3";
  config.norms = type == "LN_TUNING";
  config.adalora = type == "ADALORA";
  if (config.adalora) {
    config.initial_rank = static_cast<double>(fields.count("init_r", 12));
    config.alpha = fields.number("lora_alpha", config.alpha);
    config.fan_in_fan_out = fields.flag("fan_in_fan_out");
    config.bias = bias_of(fields);
    config.modules_to_save = fields.texts("modules_to_save");
    config.base_model = fields.text("base_model_name_or_path", "");
    return config;  // rank_pattern says which singular values were cut away; the tensors show it
  }
  config.rank = fields.count("r", config.rank);
  config.alpha = fields.number("lora_alpha", config.alpha);
  config.rslora = fields.flag("use_rslora");
  config.dora = fields.flag("use_dora");
  config.fan_in_fan_out = fields.flag("fan_in_fan_out");
  config.lora_bias = fields.flag("lora_bias");
  config.bias = bias_of(fields);
  config.modules_to_save = fields.texts("modules_to_save");
  config.base_model = fields.text("base_model_name_or_path", "");
  if (const Json* pattern = fields.object("rank_pattern")) {
    for (const auto& [key, value] : pattern->items()) {
      config.rank_pattern.emplace_back(key, fields.as_count(value, "rank_pattern." + key));
    }
  }
  if (const Json* pattern = fields.object("alpha_pattern")) {
    for (const auto& [key, value] : pattern->items()) {
      config.alpha_pattern.emplace_back(key, fields.as_number(value, "alpha_pattern." + key));
    }
  }
  return config;
}

}  // namespace thorns
