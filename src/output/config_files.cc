#include "output/config_files.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <string_view>

#include "checkpoint/token_rows.h"
#include "plan/vocabulary.h"

namespace thorns {
namespace {

bool is_head(std::string_view name) {
  static constexpr std::array<std::string_view, 3> kSuffixes = {
      "lm_head.weight", "embed_out.weight", "output_layer.weight"};
  return name == kSpeechHead ||
         std::any_of(kSuffixes.begin(), kSuffixes.end(),
                     [&](std::string_view suffix) { return ends_with_components(name, suffix); });
}

// The row count that all embeddings of a model share; nullopt where they differ or there is none.
class Rows {
 public:
  void add(const std::vector<std::uint64_t>& shape) {
    if (shape.size() != 2) return;
    if (count_ && *count_ != shape[0]) differ_ = true;
    count_ = shape[0];
  }
  std::optional<std::uint64_t> count() const { return differ_ ? std::nullopt : count_; }

 private:
  std::optional<std::uint64_t> count_;
  bool differ_ = false;
};

bool has(const Json& object, const char* field) { return object.find(field) != object.end(); }

// Sets those of `fields` that are there; false if none is.
template <std::size_t N>
bool set_present(Json& object, const std::array<const char*, N>& fields, const Json& value) {
  bool found = false;
  for (const char* field : fields) {
    if (!has(object, field)) continue;
    object[field] = value;
    found = true;
  }
  return found;
}

// transformers 4 says torch_dtype, transformers 5 dtype; both read both.
void set_dtype(Json& config, const std::string& dtype) {
  constexpr std::array kFields = {"torch_dtype", "dtype"};
  bool found = set_present(config, kFields, dtype);
  for (auto& [name, part] : config.items()) {  // text_config, vision_config, ...
    if (!part.is_object() || !name.ends_with("_config")) continue;
    found = set_present(part, kFields, dtype) || found;
  }
  if (!found) config["torch_dtype"] = dtype;
}

// Sets a field that stands on the top level, in text_config or in both; `add` where in neither.
void set_text_field(Json& config, const char* field, const Json& value, bool add) {
  const std::array fields = {field};
  bool found = set_present(config, fields, value);
  const bool nested = has(config, "text_config") && config["text_config"].is_object();
  if (nested) found = set_present(config["text_config"], fields, value) || found;
  if (!found && add) (nested ? config["text_config"] : config)[field] = value;
}

// The layers of the first leaf that the output's are made of; empty where they are the same.
std::vector<std::uint64_t> repeated_layers(const Plan& plan) {
  std::vector<std::string> output;
  for (const Program& program : plan.programs) output.push_back(program.tensor);
  std::vector<std::string> input;
  for (const TensorInfo& tensor : plan.leaves.front()->tensors()) input.push_back(tensor.name);
  const LayerStack above(output);
  const LayerStack below(input);
  std::vector<std::uint64_t> layers(above.layers());
  std::iota(layers.begin(), layers.end(), 0);
  bool repeated = above.layers() != below.layers();
  for (const Program& program : plan.programs) {
    const LayerPosition position = above.position(program.tensor);
    if (position.part != LayerPosition::Inside) continue;
    for (const Operand& operand : program.operands) {
      if (operand.source != plan.leaves.front().get() || operand.adapter != nullptr) continue;
      layers[position.layer] = below.position(operand.source->tensors()[operand.tensor].name).layer;
      repeated = repeated || layers[position.layer] != position.layer;
    }
  }
  if (!repeated) layers.clear();
  return layers;
}

// How many layers there are, and what is said of each of them.
void set_layers(Json& config, const std::vector<std::uint64_t>& layers) {
  for (const char* field : {"num_hidden_layers", "n_layer", "num_layers"}) {
    set_text_field(config, field, layers.size(), false);
  }
  for (Json* part : {&config, has(config, "text_config") ? &config["text_config"] : nullptr}) {
    if (part == nullptr || !part->is_object() || !has(*part, "layer_types")) continue;
    const Json stored = (*part)["layer_types"];
    Json types = Json::array();
    for (const std::uint64_t layer : layers) {
      if (stored.is_array() && layer < stored.size()) types.push_back(stored[layer]);
    }
    (*part)["layer_types"] = types;
  }
}

// Numbers of special tokens: one, or a list of them.
void set_token_ids(Json& object, const Vocabulary& vocabulary) {
  const auto follow = [&](Json& id) {
    if (id.is_number_unsigned()) id = vocabulary.row_of(0, id.get<std::uint64_t>());
  };
  for (auto& [name, value] : object.items()) {
    if (!name.ends_with("token_id") && !name.ends_with("token_ids")) continue;
    if (!value.is_array()) {
      follow(value);
      continue;
    }
    for (Json& id : value) follow(id);
  }
}

std::string file_text(const Json& json) {
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + '\n';
}

}  // namespace

ConfigFacts config_facts(const Plan& plan) {
  ConfigFacts facts;
  facts.dtype = plan.base_dtype;
  facts.tied = plan.tied;
  Rows output;
  for (const Program& program : plan.programs) {
    if (is_embedding(program.tensor)) output.add(program.shape);
    facts.head_stored = facts.head_stored || is_head(program.tensor);
  }
  Rows base;
  if (!plan.leaves.empty()) {
    for (const TensorInfo& tensor : plan.leaves.front()->tensors()) {
      if (is_embedding(tensor.name)) base.add(tensor.shape);
      facts.head_stored = facts.head_stored || is_head(tensor.name);
    }
  }
  facts.vocabulary = output.count();
  facts.resized = output.count() != base.count();
  if (!plan.leaves.empty()) facts.layers = repeated_layers(plan);
  facts.other = plan.config;
  return facts;
}

Json edited_config(Json base, const ConfigFacts& facts) {
  for (const char* field : {"quantization_config", "compression_config", "_name_or_path"}) {
    base.erase(field);  // the weights are plain numbers now, and no longer those of that model
    for (auto& [name, part] : base.items()) {
      if (part.is_object() && name.ends_with("_config")) part.erase(field);
    }
  }
  set_dtype(base, facts.dtype);
  // A field that is missing stands for the default of the model's class. It is spelled out only
  // where the output may differ from what the default says.
  if (facts.vocabulary) set_text_field(base, "vocab_size", *facts.vocabulary, facts.resized);
  set_text_field(base, "tie_word_embeddings", facts.tied, facts.head_stored);
  if (!facts.layers.empty()) set_layers(base, facts.layers);
  for (const auto& [field, value] : facts.other.items()) base[field] = value;
  return base;
}

std::optional<std::string> config_text(const Plan& plan) {
  if (plan.leaves.empty() || !plan.leaves.front()->config().is_object()) return std::nullopt;
  Json config = edited_config(plan.leaves.front()->config(), config_facts(plan));
  if (plan.vocabulary) {
    set_token_ids(config, *plan.vocabulary);
    if (has(config, "text_config")) set_token_ids(config["text_config"], *plan.vocabulary);
  }
  return file_text(config);
}

std::optional<std::string> generation_config_text(const Plan& plan) {
  if (plan.leaves.empty() || !plan.leaves.front()->generation_config()) return std::nullopt;
  const std::string& text = *plan.leaves.front()->generation_config();
  if (!plan.vocabulary || plan.vocabulary->leaves.front().moved == 0) return text;
  Json config = parse_json(text, join_path(plan.leaves.front()->path(), "generation_config.json"));
  set_token_ids(config, *plan.vocabulary);
  return file_text(config);
}

}  // namespace thorns
