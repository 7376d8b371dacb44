#include "checkpoint/gguf_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

#include "base/text.h"
#include "thorns/error.h"

namespace thorns {
namespace {

constexpr std::array<GgufFamily, 8> kFamilies = {{
    {"llama", "llama", "LlamaForCausalLM", false, true},
    {"llama", "mixtral", "MixtralForCausalLM", true, true},
    {"qwen2", "qwen2", "Qwen2ForCausalLM"},
    {"qwen2moe", "qwen2_moe", "Qwen2MoeForCausalLM", true},
    {"qwen3", "qwen3", "Qwen3ForCausalLM"},
    {"qwen3moe", "qwen3_moe", "Qwen3MoeForCausalLM", true},
    {"gemma", "gemma", "GemmaForCausalLM", false, false, true},
    {"gemma2", "gemma2", "Gemma2ForCausalLM", false, false, true},
}};

struct NamePair {
  std::string_view ggml;
  std::string_view transformers;
};
constexpr std::array<NamePair, 3> kOutside = {
    {{"token_embd", "model.embed_tokens"}, {"output_norm", "model.norm"}, {"output", "lm_head"}}};
constexpr std::array<NamePair, 16> kInLayer = {{{"attn_norm", "input_layernorm"},
                                                {"attn_q", "self_attn.q_proj"},
                                                {"attn_k", "self_attn.k_proj"},
                                                {"attn_v", "self_attn.v_proj"},
                                                {"attn_output", "self_attn.o_proj"},
                                                {"attn_q_norm", "self_attn.q_norm"},
                                                {"attn_k_norm", "self_attn.k_norm"},
                                                {"ffn_norm", "post_attention_layernorm"},
                                                {"ffn_gate", "mlp.gate_proj"},
                                                {"ffn_up", "mlp.up_proj"},
                                                {"ffn_down", "mlp.down_proj"},
                                                {"ffn_gate_inp", "mlp.gate"},
                                                {"ffn_gate_shexp", "mlp.shared_expert.gate_proj"},
                                                {"ffn_up_shexp", "mlp.shared_expert.up_proj"},
                                                {"ffn_down_shexp", "mlp.shared_expert.down_proj"},
                                                {"ffn_gate_inp_shexp", "mlp.shared_expert_gate"}}};
// Where a family has another name for it.
constexpr std::array<NamePair, 3> kInGemma2 = {{{"post_attention_norm", "post_attention_layernorm"},
                                                {"ffn_norm", "pre_feedforward_layernorm"},
                                                {"post_ffw_norm", "post_feedforward_layernorm"}}};
constexpr std::array<NamePair, 1> kInMixtral = {{{"ffn_gate_inp", "block_sparse_moe.gate"}}};
// One matrix of all experts.
constexpr std::array<std::string_view, 3> kStacks = {"ffn_gate_exps", "ffn_down_exps",
                                                     "ffn_up_exps"};
constexpr std::array<std::string_view, 3> kExperts = {"gate_proj", "down_proj", "up_proj"};
constexpr std::array<std::string_view, 3> kMixtralExperts = {"w1", "w2", "w3"};

template <std::size_t N>
std::optional<std::string_view> find(const std::array<NamePair, N>& names, std::string_view ggml) {
  for (const auto& [from, to] : names) {
    if (from == ggml) return to;
  }
  return std::nullopt;
}

std::optional<std::string_view> name_in_layer(const GgufFamily& family, std::string_view ggml) {
  // Names that only some families have.
  const bool qk_norm = ggml == "attn_q_norm" || ggml == "attn_k_norm";
  if (qk_norm && !family.model_type.starts_with("qwen3")) return std::nullopt;
  if (ggml.ends_with("_shexp") && family.model_type != "qwen2_moe") return std::nullopt;
  if (ggml == "ffn_gate_inp" && !family.experts) return std::nullopt;
  std::optional<std::string_view> own;
  if (family.model_type == "mixtral") own = find(kInMixtral, ggml);
  if (family.model_type == "gemma2") own = find(kInGemma2, ggml);
  return own ? own : find(kInLayer, ggml);
}

bool is_count(std::string_view text) {
  return !text.empty() && text.size() <= 6 && (text == "0" || text[0] != '0') &&
         text.find_first_not_of("0123456789") == std::string_view::npos;
}

std::optional<TransformersName> expert_name(const GgufFamily& family, std::string_view layer,
                                            std::string_view ggml, std::string_view ending) {
  const auto* const stack = std::find(kStacks.begin(), kStacks.end(), ggml);
  if (stack == kStacks.end() || !family.experts) return std::nullopt;
  const auto which = static_cast<std::size_t>(stack - kStacks.begin());
  const bool mixtral = family.model_type == "mixtral";
  return TransformersName{
      fmt::format("model.layers.{}.{}.experts.", layer, mixtral ? "block_sparse_moe" : "mlp"),
      fmt::format(".{}{}", mixtral ? kMixtralExperts[which] : kExperts[which], ending)};
}

// "llama3" of transformers, as llama.cpp writes it: for each rotation what its angle is divided by.
constexpr double kLlama3Low = 1.0;
constexpr double kLlama3High = 4.0;
constexpr double kLlama3Context = 8192;

double llama3_factor(double base, std::size_t i, std::size_t half, double factor) {
  const double exponent = static_cast<double>(i) / static_cast<double>(half);
  const double wave = 2 * std::numbers::pi * std::pow(base, exponent);
  if (wave < kLlama3Context / kLlama3High) return 1;
  if (wave > kLlama3Context / kLlama3Low) return factor;
  const double smooth = (kLlama3Context / wave - kLlama3Low) / (kLlama3High - kLlama3Low);
  return 1 / ((1 - smooth) / factor + smooth);
}

}  // namespace

std::optional<TransformersName> transformers_name(const GgufFamily& family, std::string_view name) {
  const std::size_t dot = name.rfind('.');
  if (dot == std::string_view::npos) return std::nullopt;
  const std::string_view ending = name.substr(dot);
  if (ending != ".weight" && ending != ".bias") return std::nullopt;
  name = name.substr(0, dot);
  if (const auto outside = find(kOutside, name))
    return TransformersName{fmt::format("{}{}", *outside, ending), ""};
  constexpr std::string_view kBlock = "blk.";
  if (!name.starts_with(kBlock)) return std::nullopt;
  name.remove_prefix(kBlock.size());
  const std::string_view layer = name.substr(0, name.find('.'));
  if (!is_count(layer) || layer.size() == name.size()) return std::nullopt;
  name.remove_prefix(layer.size() + 1);
  if (auto experts = expert_name(family, layer, name, ending)) return experts;
  // Files of 2023 and early 2024 hold the experts one by one: "ffn_gate.3".
  if (const std::size_t at = name.find('.'); at != std::string_view::npos && family.experts) {
    const std::string_view expert = name.substr(at + 1);
    auto one = expert_name(family, layer, fmt::format("{}_exps", name.substr(0, at)), ending);
    if (!one || !is_count(expert)) return std::nullopt;
    return TransformersName{fmt::format("{}{}{}", one->before, expert, one->after), ""};
  }
  const auto inside = name_in_layer(family, name);
  if (!inside) return std::nullopt;
  return TransformersName{fmt::format("model.layers.{}.{}{}", layer, *inside, ending), ""};
}

std::string transformers_name(std::string_view name) {
  const auto found = transformers_name(kFamilies[0], name);
  return found ? found->before : std::string();
}

GgufModel::GgufModel(const ReadFile& file, const GgufHeader& header)
    : header_(header), path_(file.path()) {
  if (text("general.type") == "adapter") {
    refuse("is an adapter, not a model", "an adapter is folded into a model: Model[Adapter]");
  }
  const std::string architecture = text("general.architecture");
  const bool experts = number(architecture + ".expert_count").value_or(0) > 0;
  const auto* const found =
      std::find_if(kFamilies.begin(), kFamilies.end(), [&](const GgufFamily& family) {
        return family.ggml == architecture && family.experts == experts;
      });
  if (found == kFamilies.end()) {
    refuse(fmt::format("is of the architecture `{}`{}; llama (with mistral and mixtral), qwen2, "
                       "qwen3, both with experts, gemma and gemma2 are read",
                       architecture, experts ? " with experts" : ""),
           "convert the model to safetensors");
  }
  family_ = found;
}

void GgufModel::refuse(const std::string& what, const std::string& hint) const {
  throw Error(ErrorCode::Unsupported, fmt::format("`{}` {}", path_, what), FilePlace{path_}, hint);
}

void GgufModel::fail(const std::string& what) const {
  throw Error(ErrorCode::Corrupt, fmt::format("`{}` is no sound GGUF file: {}", path_, what),
              FilePlace{path_});
}

std::string GgufModel::text(const std::string& name) const {
  const auto found = header_.fields.find(name);
  if (found == header_.fields.end() || !found->second.is_string()) return {};
  const auto text = found->second.get<std::string>();
  return is_utf8(text) ? text : std::string("?");
}

std::optional<std::uint64_t> GgufModel::number(const std::string& name) const {
  const auto found = header_.fields.find(name);
  if (found == header_.fields.end() || !found->second.is_number_integer()) return std::nullopt;
  if (found->second.is_number_unsigned()) return found->second.get<std::uint64_t>();
  const auto value = found->second.get<std::int64_t>();
  if (value < 0) return std::nullopt;
  return static_cast<std::uint64_t>(value);
}

std::uint64_t GgufModel::need(const std::string& name) const {
  const std::string full = fmt::format("{}.{}", family_->ggml, name);
  if (header_.arrays.contains(full)) {
    refuse(fmt::format("has a `{}` for each layer, which is not read", full),
           "convert the model to safetensors");
  }
  const auto value = number(full);
  if (!value || *value == 0) fail(fmt::format("its metadata has no `{}`", full));
  return *value;
}

std::uint64_t GgufModel::key_value_heads() const {
  const std::string own = fmt::format("{}.attention.head_count_kv", family_->ggml);
  const bool there = number(own).has_value() || header_.arrays.contains(own);
  return need(there ? "attention.head_count_kv" : "attention.head_count");
}

// A float32 as the shortest decimal number that means it, so that 1e-5 is not 9.99999975e-06.
std::optional<double> GgufModel::real(const std::string& name) const {
  const auto found = header_.fields.find(fmt::format("{}.{}", family_->ggml, name));
  if (found == header_.fields.end() || !found->second.is_number()) return std::nullopt;
  const auto value = found->second.get<float>();
  if (!std::isfinite(value)) fail(fmt::format("its `{}` is no number", found->first));
  return std::stod(fmt::format("{}", value));
}

Json GgufModel::rope_scaling(const std::vector<float>& factors) const {
  const std::string type = text(fmt::format("{}.rope.scaling.type", family_->ggml));
  if (!factors.empty()) {
    const double factor = *std::max_element(factors.begin(), factors.end());
    const double base = real("rope.freq_base").value_or(10000.0);
    for (std::size_t i = 0; i < factors.size(); ++i) {
      const double wanted = llama3_factor(base, i, factors.size(), factor);
      if (std::abs(factors[i] - wanted) <= 1e-4 * wanted) continue;
      refuse("scales its rotary embedding by a `rope_freqs.weight` that is not that of Llama 3.1",
             "convert the model to safetensors");
    }
    if (factor == 1) return nullptr;
    return {{"rope_type", "llama3"},
            {"factor", factor},
            {"low_freq_factor", kLlama3Low},
            {"high_freq_factor", kLlama3High},
            {"original_max_position_embeddings", static_cast<std::uint64_t>(kLlama3Context)}};
  }
  if (type.empty() || type == "none") return nullptr;
  const double factor = real("rope.scaling.factor").value_or(1.0);
  if (type == "linear") return {{"rope_type", "linear"}, {"type", "linear"}, {"factor", factor}};
  const auto original =
      number(fmt::format("{}.rope.scaling.original_context_length", family_->ggml));
  if (type == "yarn" && original && !real("rope.scaling.attn_factor")) {
    return {{"rope_type", "yarn"},
            {"type", "yarn"},
            {"factor", factor},
            {"original_max_position_embeddings", *original}};
  }
  refuse(fmt::format("scales its rotary embedding in the way `{}`", type),
         "convert the model to safetensors");
}

void GgufModel::set_experts(Json& config) const {
  const bool mixtral = family_->model_type == "mixtral";
  config[mixtral ? "num_local_experts" : "num_experts"] = need("expert_count");
  config["num_experts_per_tok"] = need("expert_used_count");
  if (mixtral) return;
  config["moe_intermediate_size"] = need("expert_feed_forward_length");
  // As llama.cpp computes them; the metadata does not say it.
  config["norm_topk_prob"] = family_->model_type == "qwen3_moe";
  if (family_->model_type == "qwen2_moe") {
    config["shared_expert_intermediate_size"] = need("expert_shared_feed_forward_length");
  }
}

void GgufModel::set_gemma(Json& config) const {
  config["hidden_act"] = "gelu_pytorch_tanh";
  config["hidden_activation"] = "gelu_pytorch_tanh";
  if (family_->model_type != "gemma2") return;
  config["attn_logit_softcapping"] = real("attn_logit_softcapping").value_or(50.0);
  config["final_logit_softcapping"] = real("final_logit_softcapping").value_or(30.0);
  config["sliding_window"] = need("attention.sliding_window");
  // The metadata does not say it; the model of 46 layers is the one that divides by another number.
  constexpr std::uint64_t kLargest = 46;
  const std::uint64_t width = need("attention.key_length");
  config["query_pre_attn_scalar"] = need("block_count") == kLargest
                                        ? need("embedding_length") / need("attention.head_count")
                                        : width;
}

Json GgufModel::config(const Facts& facts) const {
  Json config;
  config["architectures"] = {family_->model_class};
  config["model_type"] = family_->model_type;
  config["hidden_size"] = need("embedding_length");
  config["intermediate_size"] = need("feed_forward_length");
  config["num_hidden_layers"] = need("block_count");
  config["num_attention_heads"] = need("attention.head_count");
  config["num_key_value_heads"] = key_value_heads();
  if (const auto length = number(fmt::format("{}.attention.key_length", family_->ggml)))
    config["head_dim"] = *length;
  const bool qwen2 = family_->model_type.starts_with("qwen2");  // its q, k and v always have one
  if (!qwen2) config["attention_bias"] = facts.has_bias;
  config["max_position_embeddings"] = need("context_length");
  config["rms_norm_eps"] = real("attention.layer_norm_rms_epsilon").value_or(1e-6);
  config["rope_theta"] = real("rope.freq_base").value_or(10000.0);
  if (Json scaling = rope_scaling(facts.rotary_factors); !scaling.is_null())
    config["rope_scaling"] = std::move(scaling);
  config["hidden_act"] = "silu";
  if (family_->experts) set_experts(config);
  if (family_->norms_from_one) set_gemma(config);
  config["vocab_size"] = facts.vocabulary;
  config["tie_word_embeddings"] = facts.ties;
  for (const char* name : {"bos_token_id", "eos_token_id"}) {
    if (const auto id = number(fmt::format("tokenizer.ggml.{}", name))) config[name] = *id;
  }
  config["torch_dtype"] = torch_name(facts.dtype);
  return config;
}

}  // namespace thorns
