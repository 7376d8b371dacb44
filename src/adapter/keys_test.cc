#include "adapter/keys.h"

#include <gtest/gtest.h>

namespace thorns {
namespace {

using Role = AdapterKey::Role;

struct Spelling {
  const char* key;
  Role role;
  const char* tensor;  // the family's, or the parameter that is replaced
  const char* module;
  const char* infix = "";
};

TEST(AdapterKeys, EverySpellingIsRead) {
  const char* q = "model.layers.0.self_attn.q_proj";
  const Spelling cases[] = {
      {"base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight", Role::Family, "lora_A", q},
      {"base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight", Role::Family, "lora_B", q},
      {"base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight", Role::Family,
       "lora_A", q, "default"},
      {"base_model.model.model.layers.0.self_attn.q_proj.lora_B.my-adapter.weight", Role::Family,
       "lora_B", q, "my-adapter"},
      {"base_model.model.model.layers.0.self_attn.q_proj.lora_A", Role::Family, "lora_A", q},
      {"base_model.model.model.layers.0.self_attn.q_proj.lora_B.default", Role::Family, "lora_B", q,
       "default"},
      {"base_model.model.model.layers.0.self_attn.q_proj.lora_B.bias", Role::Family, "lora_B.bias",
       q},
      {"base_model.model.model.layers.0.self_attn.q_proj.lora_B.default.bias", Role::Family,
       "lora_B.bias", q, "default"},
      {"base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector", Role::Family,
       "lora_magnitude_vector", q},
      {"base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector.default.weight",
       Role::Family, "lora_magnitude_vector", q, "default"},
      {"base_model.model.model.layers.0.self_attn.q_proj.ia3_l", Role::Family, "ia3_l", q},
      {"base_model.model.emb.lora_embedding_A", Role::Family, "lora_embedding_A", "emb"},
      {"emb.lora_embedding_B.default", Role::Family, "lora_embedding_B", "emb", "default"},
      {"emb.lora_embedding_B.my-adapter.weight", Role::Family, "lora_embedding_B", "emb",
       "my-adapter"},
      {"m.mha.base_layer.out_proj.lora_B.weight", Role::Family, "lora_B", "m.mha.out_proj"},
      {"m.e.token_adapter.trainable_tokens_delta", Role::Family, "trainable_tokens_delta", "m.e"},
      {"m.e.trainable_tokens_delta.default", Role::Family, "trainable_tokens_delta", "m.e",
       "default"},
      {"m.q.lora_E", Role::Family, "lora_E", "m.q"},
      {"base_model.model.ln.ln_tuning_layers.bias", Role::Family, "ln_tuning_layers.bias", "ln"},
      {"ln.ln_tuning_layers.default.weight", Role::Family, "ln_tuning_layers", "ln", "default"},
      {"base_model.model.m.q.hada_w1_a", Role::Family, "hada_w1_a", "m.q"},
      {"base_model.vera_A", Role::Family, "vera_A", ""},
      {"base_model.vera_B.default", Role::Family, "vera_B", "", "default"},
      // Prefixes, in any order and number.
      {"model.layers.0.self_attn.q_proj.lora_A.weight", Role::Family, "lora_A", q},
      {"base_model.model.layers.0.self_attn.q_proj.lora_A.weight", Role::Family, "lora_A",
       "layers.0.self_attn.q_proj"},
      {"module.base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight", Role::Family,
       "lora_A", q},
      {"base_model.model.module.model.layers.0.self_attn.q_proj.lora_A.weight", Role::Family,
       "lora_A", q},
      {"_orig_mod.base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight", Role::Family,
       "lora_A", q},
      {"module._orig_mod.module.base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight",
       Role::Family, "lora_A", q},
      {"base_model.model.base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight",
       Role::Family, "lora_A", q},
      {"base_model.model.model.layers.0._fsdp_wrapped_module.self_attn.q_proj.lora_A.weight",
       Role::Family, "lora_A", q},
      {"base_model.model.model.layers.0._orig_mod.self_attn.q_proj.lora_A.weight", Role::Family,
       "lora_A", q},
      // Parameters wrapped around each other.
      {"base_model.model.m.experts.base_layer.lora_A.weight", Role::Family, "base_layer.lora_A",
       "m.experts"},
      {"base_model.model.m.experts.base_layer.base_layer.lora_B.default.weight", Role::Family,
       "base_layer.base_layer.lora_B", "m.experts", "default"},
      {"base_model.model.m.q.lora_monteclora_sampler.std_prior", Role::Training, "", ""},
      {"base_model.model.m.q.lora_velora_embed.default", Role::Training, "", ""},
      // Replaced parameters.
      {"base_model.model.lm_head.weight", Role::Tensor, "weight", "lm_head"},
      {"base_model.model.lm_head.modules_to_save.default.weight", Role::Tensor, "weight", "lm_head",
       "default"},
      {"base_model.model.lm_head.modules_to_save.weight", Role::Tensor, "weight", "lm_head"},
      {"base_model.model.score.modules_to_save.default.dense.bias", Role::Tensor, "bias",
       "score.dense", "default"},
      {"base_model.model.model.layers.0.self_attn.q_proj.base_layer.bias", Role::Tensor, "bias", q},
      {"base_model.model.model.layers.0.self_attn.q_proj.bias", Role::Tensor, "bias", q},
      {"base_model.model.model.embed_tokens.base_layer.weight", Role::Tensor, "weight",
       "model.embed_tokens"},
      {"base_model.model.scale", Role::Tensor, "scale", ""},
      {"module.weight", Role::Tensor, "weight", ""},
      {"base_model.model.lm_head.original_module.weight", Role::Copy, "", ""},
      // A module that only looks like a mark.
      {"model.lora_encoder.layers.0.mlp.up.weight", Role::Tensor, "weight",
       "model.lora_encoder.layers.0.mlp.up"},
  };
  for (const Spelling& spelling : cases) {
    SCOPED_TRACE(spelling.key);
    const AdapterKey key = parse_adapter_key(spelling.key);
    EXPECT_EQ(key.role, spelling.role) << key.foreign;
    EXPECT_EQ(key.module, spelling.module);
    EXPECT_EQ(key.role == Role::Family ? key.tensor : key.parameter, spelling.tensor);
    EXPECT_EQ(key.infix, spelling.infix);
  }
}

TEST(AdapterKeys, WhatAnAdapterLiesOnIsTold) {
  EXPECT_TRUE(parse_adapter_key("base_model.model.lm_head.base_layer.weight").wrapped);
  EXPECT_FALSE(parse_adapter_key("base_model.model.lm_head.weight").wrapped);
  EXPECT_EQ(parse_adapter_key("m.mha.base_layer.out_proj.lora_B.weight").known_as, "m.mha");
  EXPECT_EQ(parse_adapter_key("m.experts.base_layer.lora_B.weight").known_as, "m.experts");
}

TEST(AdapterKeys, OtherTypesAreRecognised) {
  const std::pair<const char*, const char*> cases[] = {
      {"m.e.lora_embedding_B.bias", "an unknown kind of LoRA"},
      {"m.e.lora_embedding_C", "an unknown kind of LoRA"},
      {"base_layer.lora_A.weight", "LoRA without a module"},
      {"m.e.token_adapter.trainable_tokens_original", "trainable tokens"},
      {"lora_unet_down_blocks_0.lora_down.weight", "Kohya"},
      {"unet.q.lora_up.weight", "Kohya or diffusers"},
      {"model.layers.0.q_proj.lora_a", "MLX"},
      {"m.q.lora_A.weight.extra", "an unknown kind of LoRA"},
      {"m.q.lora_A.bias", "an unknown kind of LoRA"},
      {"m.q.lora_C.weight", "an unknown kind of LoRA"},
      {"lora_A.weight", "LoRA without a module"},
      {"m.q.vera_C", "VeRA"},
      {"m.q.hada_w3_a", "LoHa"},
      {"m.q.c3a_other", "C3A"},
      {"m.q.waveft_spectrum", "WaveFT"},
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
  for (const char* name : {"", ".", "..", "base_model", "base_model.model", "module", "_orig_mod",
                           "base_layer", "modules_to_save", "modules_to_save.x", "lora_A",
                           "lora_B.x", ".modules_to_save", "m.base_layer.", "m."}) {
    SCOPED_TRACE(name);
    const AdapterKey key = parse_adapter_key(name);
    EXPECT_NE(key.role, Role::Family);
    EXPECT_TRUE(key.role != Role::Tensor || !key.parameter.empty());
  }
}

}  // namespace
}  // namespace thorns
