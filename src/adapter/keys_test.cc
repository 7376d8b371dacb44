#include "adapter/keys.h"

#include <gtest/gtest.h>

namespace thorns {
namespace {

using Role = AdapterKey::Role;

struct Spelling {
  const char* key;
  Role role;
  const char* module;
  const char* parameter;
  const char* infix = "";
};

TEST(AdapterKeys, EverySpellingIsRead) {
  const char* q = "model.layers.0.self_attn.q_proj";
  const Spelling cases[] = {
      {"base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight", Role::LoraA, q, "weight"},
      {"base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight", Role::LoraB, q, "weight"},
      {"base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight", Role::LoraA, q,
       "weight", "default"},
      {"base_model.model.model.layers.0.self_attn.q_proj.lora_B.my-adapter.weight", Role::LoraB, q,
       "weight", "my-adapter"},
      {"base_model.model.model.layers.0.self_attn.q_proj.lora_A", Role::LoraA, q, "weight"},
      {"base_model.model.model.layers.0.self_attn.q_proj.lora_B.default", Role::LoraB, q, "weight",
       "default"},
      {"base_model.model.model.layers.0.self_attn.q_proj.lora_B.bias", Role::LoraBias, q, "bias"},
      {"base_model.model.model.layers.0.self_attn.q_proj.lora_B.default.bias", Role::LoraBias, q,
       "bias", "default"},
      {"base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector", Role::Magnitude, q,
       "weight"},
      {"base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector.default.weight",
       Role::Magnitude, q, "weight", "default"},
      {"base_model.model.model.layers.0.self_attn.q_proj.ia3_l", Role::Ia3, q, "weight"},
      {"base_model.model.emb.lora_embedding_A", Role::EmbeddingA, "emb", "weight"},
      {"emb.lora_embedding_B.default", Role::EmbeddingB, "emb", "weight", "default"},
      {"emb.lora_embedding_B.my-adapter.weight", Role::EmbeddingB, "emb", "weight", "my-adapter"},
      {"m.mha.base_layer.out_proj.lora_B.weight", Role::LoraB, "m.mha.out_proj", "weight"},
      {"m.q.lora_E", Role::LoraE, "m.q", "weight"},
      {"base_model.model.ln.ln_tuning_layers.bias", Role::Norm, "ln", "bias"},
      {"ln.ln_tuning_layers.default.weight", Role::Norm, "ln", "weight", "default"},
      // Prefixes, in any order and number.
      {"model.layers.0.self_attn.q_proj.lora_A.weight", Role::LoraA, q, "weight"},
      {"base_model.model.layers.0.self_attn.q_proj.lora_A.weight", Role::LoraA,
       "layers.0.self_attn.q_proj", "weight"},
      {"module.base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight", Role::LoraA, q,
       "weight"},
      {"base_model.model.module.model.layers.0.self_attn.q_proj.lora_A.weight", Role::LoraA, q,
       "weight"},
      {"_orig_mod.base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight", Role::LoraA, q,
       "weight"},
      {"module._orig_mod.module.base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight",
       Role::LoraA, q, "weight"},
      {"base_model.model.base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight",
       Role::LoraA, q, "weight"},
      {"base_model.model.model.layers.0._fsdp_wrapped_module.self_attn.q_proj.lora_A.weight",
       Role::LoraA, q, "weight"},
      {"base_model.model.model.layers.0._orig_mod.self_attn.q_proj.lora_A.weight", Role::LoraA, q,
       "weight"},
      // Replaced parameters.
      {"base_model.model.lm_head.weight", Role::Tensor, "lm_head", "weight"},
      {"base_model.model.lm_head.modules_to_save.default.weight", Role::Tensor, "lm_head", "weight",
       "default"},
      {"base_model.model.lm_head.modules_to_save.weight", Role::Tensor, "lm_head", "weight"},
      {"base_model.model.score.modules_to_save.default.dense.bias", Role::Tensor, "score.dense",
       "bias", "default"},
      {"base_model.model.model.layers.0.self_attn.q_proj.base_layer.bias", Role::Tensor, q, "bias"},
      {"base_model.model.model.layers.0.self_attn.q_proj.bias", Role::Tensor, q, "bias"},
      {"base_model.model.model.embed_tokens.base_layer.weight", Role::Tensor, "model.embed_tokens",
       "weight"},
      {"base_model.model.scale", Role::Tensor, "", "scale"},
      {"module.weight", Role::Tensor, "", "weight"},
      {"base_model.model.lm_head.original_module.weight", Role::Copy, "", ""},
      // A module that only looks like a mark.
      {"model.lora_encoder.layers.0.mlp.up.weight", Role::Tensor,
       "model.lora_encoder.layers.0.mlp.up", "weight"},
  };
  for (const Spelling& spelling : cases) {
    SCOPED_TRACE(spelling.key);
    const AdapterKey key = parse_adapter_key(spelling.key);
    EXPECT_EQ(key.role, spelling.role) << key.foreign;
    EXPECT_EQ(key.module, spelling.module);
    EXPECT_EQ(key.parameter, spelling.parameter);
    EXPECT_EQ(key.infix, spelling.infix);
  }
}

TEST(AdapterKeys, OtherTypesAreRecognised) {
  const std::pair<const char*, const char*> cases[] = {
      {"m.experts.base_layer.lora_A.weight", "target_parameters"},
      {"m.e.lora_embedding_B.bias", "an unknown kind of LoRA"},
      {"m.e.lora_embedding_C", "an unknown kind of LoRA"},
      {"base_layer.lora_A.weight", "target_parameters"},
      {"m.e.token_adapter.trainable_tokens_delta", "trainable tokens"},
      {"m.e.trainable_tokens_delta", "trainable tokens"},
      {"lora_unet_down_blocks_0.lora_down.weight", "Kohya"},
      {"unet.q.lora_up.weight", "Kohya or diffusers"},
      {"model.layers.0.q_proj.lora_a", "MLX"},
      {"m.q.lora_A.weight.extra", "an unknown kind of LoRA"},
      {"m.q.lora_A.bias", "an unknown kind of LoRA"},
      {"m.q.lora_C.weight", "an unknown kind of LoRA"},
      {"lora_A.weight", "LoRA without a module"},
      {"base_model.vera_A", "VeRA"},
      {"m.q.hada_w1_a", "LoHa"},
      {"prompt_embeddings", "prompt-learning"},
  };
  for (const auto& [name, what] : cases) {
    SCOPED_TRACE(name);
    const AdapterKey key = parse_adapter_key(name);
    EXPECT_EQ(key.role, Role::Foreign);
    EXPECT_NE(key.foreign.find(what), std::string::npos) << key.foreign;
  }
}

TEST(AdapterKeys, OddNamesDoNoHarm) {
  for (const char* name :
       {"", ".", "..", "base_model", "base_model.model", "module", "_orig_mod", "base_layer",
        "modules_to_save", "modules_to_save.x", "lora_A", "lora_B.x"}) {
    SCOPED_TRACE(name);
    const AdapterKey key = parse_adapter_key(name);
    EXPECT_NE(key.role, Role::LoraA);
    EXPECT_NE(key.role, Role::LoraB);
  }
}

}  // namespace
}  // namespace thorns
