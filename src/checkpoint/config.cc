#include "checkpoint/config.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "checkpoint/checkpoint.h"
#include "checkpoint/json_events.h"

namespace thorns {
namespace {

constexpr std::uint64_t kMostConfigBytes = 4'000'000;

// transformers ties embeddings unless a configuration says otherwise; these model classes turn
// that default off, so their config.json may leave `tie_word_embeddings: false` out. Every type
// that is not named here keeps the general default (Gemma, GPT-2, OPT, T5, Falcon, BLOOM, ...).
constexpr std::array<std::string_view, 20> kUntiedByDefault = {
    "codegen", "deepseek_v2", "deepseek_v3", "gpt_neox", "gptj",      "llama",     "mistral",
    "mixtral", "nemotron",    "olmo",        "olmo2",    "olmoe",     "persimmon", "phi",
    "phi3",    "qwen2",       "qwen2_moe",   "qwen3",    "qwen3_moe", "stablelm"};

const Json* bool_field(const Json& object, const char* name) {
  if (!object.is_object()) return nullptr;
  const auto field = object.find(name);
  return field != object.end() && field->is_boolean() ? &*field : nullptr;
}

}  // namespace

Json read_json_file(Disk& disk, const std::string& path) {
  const std::string text = read_text(disk, path, kMostConfigBytes);
  refuse_lfs_pointer(text, path);
  return parse_json(text, path);
}

std::string text_field(const Json& object, const char* name) {
  if (!object.is_object()) return {};
  const auto field = object.find(name);
  return field != object.end() && field->is_string() ? field->get<std::string>() : std::string();
}

std::string architecture_in(const Json& config) {
  if (!config.is_object()) return {};
  const auto list = config.find("architectures");
  if (list == config.end() || !list->is_array() || list->empty()) return {};
  return list->front().is_string() ? list->front().get<std::string>() : std::string();
}

Dtype compute_dtype(const Json& config) {
  for (const char* name : {"dtype", "torch_dtype"}) {
    const auto dtype = output_dtype(text_field(config, name));
    if (dtype == Dtype::F16 || dtype == Dtype::BF16) return *dtype;
  }
  const auto text = config.is_object() ? config.find("text_config") : config.end();
  if (config.is_object() && text != config.end() && text->is_object() &&
      !text->contains("text_config")) {
    return compute_dtype(*text);
  }
  return Dtype::BF16;
}

StoredAs Checkpoint::stored_as(std::size_t tensor) const {
  const TensorInfo& info = tensors()[tensor];
  return {to_string(info.dtype), info.bytes()};
}

std::string Checkpoint::model_type() const { return text_field(config(), "model_type"); }

std::string Checkpoint::architecture() const { return architecture_in(config()); }

bool Checkpoint::ties_embeddings() const {
  const Json& all = config();
  if (!all.is_object()) return false;  // nothing says what the model does with its tensors
  if (const Json* field = bool_field(all, "tie_word_embeddings")) return field->get<bool>();
  // A vision-language model keeps the fields of its language model in a section of their own.
  const auto text = all.find("text_config");
  std::string type = model_type();
  if (text != all.end() && text->is_object()) {
    if (const Json* field = bool_field(*text, "tie_word_embeddings")) return field->get<bool>();
    if (const std::string inner = text_field(*text, "model_type"); !inner.empty()) type = inner;
  }
  return std::find(kUntiedByDefault.begin(), kUntiedByDefault.end(), type) ==
         kUntiedByDefault.end();
}

}  // namespace thorns
