// Adapters of other makers: what they say is what the same adapter says in PEFT's layout.
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <string>

#include "adapter/adapter.h"
#include "adapter/refit.h"
#include "support/byte_disk.h"
#include "support/error_of.h"
#include "support/gguf_builder.h"
#include "support/safetensors_builder.h"

namespace thorns {
namespace {

using test::ByteDisk;
using test::error_of;
using test::GgufBuilder;
using test::SafetensorsBuilder;
using Numbers = std::vector<double>;

constexpr std::uint64_t kIn = 3;
constexpr std::uint64_t kOut = 4;
constexpr std::uint64_t kRank = 2;
const Numbers kA = {1, 2, 3, 4, 5, 6};             // rank x in
const Numbers kB = {7, 8, 9, 10, 11, 12, 13, 14};  // out x rank

Numbers turned(const Numbers& matrix, std::uint64_t rows) {
  const std::uint64_t columns = matrix.size() / rows;
  Numbers result(matrix.size());
  for (std::size_t i = 0; i < matrix.size(); ++i) {
    result[i % columns * rows + i / columns] = matrix[i];
  }
  return result;
}

TensorInfo weight(const std::string& name, std::vector<std::uint64_t> shape = {kOut, kIn}) {
  TensorInfo info{name, Dtype::F32, std::move(shape), 1};
  for (const std::uint64_t dim : info.shape) info.elements *= dim;
  return info;
}

// An adapter, folded into a model of these tensors.
class Folded {
 public:
  Folded(ByteDisk& disk, const std::string& path, std::vector<TensorInfo> model,
         const KeyMap& map = {})
      : model_(std::move(model)), adapter_(rename_modules(open_adapter(disk, path), map)) {
    std::sort(model_.begin(), model_.end(),
              [](const TensorInfo& a, const TensorInfo& b) { return a.name < b.name; });
    resolved_ = resolve(*adapter_, {model_, "llama"});
  }

  const Adapter& adapter() const { return *adapter_; }
  const std::vector<ResolvedUpdate>& all() const { return resolved_; }
  // scale * U V of update `index`.
  Numbers change(std::size_t index = 0) const {
    const ResolvedUpdate& one = resolved_.at(index);
    const std::size_t columns = one.base.columns();
    const std::size_t rank = one.update->rank;
    std::vector<float> u(one.base.rows() * rank);
    std::vector<float> v(rank * columns);
    load_factors(*adapter_, *one.update, one.base, u, v);
    Numbers sum(one.base.elements());
    for (std::size_t i = 0; i < sum.size(); ++i) {
      for (std::size_t k = 0; k < rank; ++k) {
        sum[i] += one.update->scale * static_cast<double>(u[i / columns * rank + k]) *
                  static_cast<double>(v[k * columns + i % columns]);
      }
    }
    return sum;
  }

 private:
  std::vector<TensorInfo> model_;
  std::unique_ptr<Adapter> adapter_;
  std::vector<ResolvedUpdate> resolved_;
};

// scale * B A
Numbers product(double scale) {
  Numbers sum(kOut * kIn);
  for (std::size_t i = 0; i < sum.size(); ++i) {
    for (std::size_t k = 0; k < kRank; ++k) {
      sum[i] += scale * kB[i / kIn * kRank + k] * kA[k * kIn + i % kIn];
    }
  }
  return sum;
}

ByteDisk disk_of(const SafetensorsBuilder& weights, const std::string& path = "l.safetensors",
                 const std::string& config = {}) {
  ByteDisk disk;
  disk.files[path] = weights.bytes();
  if (!config.empty()) disk.files["a/adapter_config.json"] = config;
  return disk;
}

// ---------------------------------------------------------------- Kohya, diffusers

TEST(Kohya, NamesOfTrainersMeanLora) {
  struct Case {
    const char* a;
    const char* b;
    const char* model;
  };
  for (const Case& c :
       {Case{"lora_te_text_model_encoder_layers_0_self_attn_q_proj.lora_down.weight",
             "lora_te_text_model_encoder_layers_0_self_attn_q_proj.lora_up.weight",
             "text_model.encoder.layers.0.self_attn.q_proj"},
        Case{"lora_unet_layers_0_self_attn_q_proj.lora_down.weight",
             "lora_unet_layers_0_self_attn_q_proj.lora_up.weight",
             "model.layers.0.self_attn.q_proj"},
        Case{"lycoris_layers_0_q_proj.lora_down.weight", "lycoris_layers_0_q_proj.lora_up.weight",
             "model.layers.0.q_proj"},
        Case{"text_encoder.layers.0.q.lora_linear_layer.down.weight",
             "text_encoder.layers.0.q.lora_linear_layer.up.weight", "layers.0.q"},
        Case{"unet.mid.attn1.processor.to_q_lora.down.weight",
             "unet.mid.attn1.processor.to_q_lora.up.weight", "mid.attn1.to_q"},
        Case{"unet.mid.attn1.processor.to_out_lora.down.weight",
             "unet.mid.attn1.processor.to_out_lora.up.weight", "mid.attn1.to_out.0"},
        Case{"transformer.transformer_blocks.0.q.lora_A.weight",
             "transformer.transformer_blocks.0.q.lora_B.weight", "transformer_blocks.0.q"},
        Case{"text_encoder.layers.0.q.lora.down.weight", "text_encoder.layers.0.q.lora.up.weight",
             "layers.0.q"}}) {
    SCOPED_TRACE(c.a);
    SafetensorsBuilder weights;
    weights.add(c.a, Dtype::F32, {kRank, kIn}, kA).add(c.b, Dtype::F32, {kOut, kRank}, kB);
    ByteDisk disk = disk_of(weights);
    const Folded folded(disk, "l.safetensors", {weight(std::string(c.model) + ".weight")});
    EXPECT_EQ(folded.adapter().family(), "LoRA");
    EXPECT_TRUE(folded.adapter().warnings().empty());
    EXPECT_EQ(folded.change(), product(1.0));  // no alpha: alpha is the rank
  }
}

TEST(Kohya, EveryModuleHasItsAlpha) {
  SafetensorsBuilder weights;
  const std::string q = "lora_te_layers_0_q";
  const std::string k = "lora_te_layers_10_q";
  for (const std::string& module : {q, k, std::string("lora_te_layers_1_q")}) {
    weights.add(module + ".lora_down.weight", Dtype::F32, {kRank, kIn}, kA);
    weights.add(module + ".lora_up.weight", Dtype::F32, {kOut, kRank}, kB);
  }
  weights.add(q + ".alpha", Dtype::F16, {}, {4});
  weights.add(k + ".alpha", Dtype::I64, {1}, {1});
  ByteDisk disk = disk_of(weights);
  const Folded folded(
      disk, "l.safetensors",
      {weight("layers.0.q.weight"), weight("layers.10.q.weight"), weight("layers.1.q.weight")});
  EXPECT_EQ(folded.change(0), product(2.0));
  EXPECT_EQ(folded.change(1), product(1.0));
  EXPECT_EQ(folded.change(2), product(0.5));
  EXPECT_TRUE(folded.adapter().warnings().empty());
}

TEST(Kohya, ANeighbouringConfigurationSaysWhatTheFileDoesNot) {
  SafetensorsBuilder weights;
  weights.add("q_proj.lora_down.weight", Dtype::F32, {kRank, kIn}, kA);
  weights.add("q_proj.lora_up.weight", Dtype::F32, {kOut, kRank}, kB);
  ByteDisk disk = disk_of(weights, "a/adapter_model.safetensors",
                          R"({"peft_type":"LORA","lora_alpha":6,"base_model_name_or_path":"b"})");
  const Folded folded(disk, "a", {weight("q_proj.weight")});
  EXPECT_EQ(folded.change(), product(3.0));
  EXPECT_EQ(folded.adapter().base_model(), "b");
}

TEST(Kohya, PeftsNamesWithAnAlphaAreReadToo) {
  SafetensorsBuilder weights;
  weights.add("model.q_proj.lora_A.weight", Dtype::F32, {kRank, kIn}, kA);
  weights.add("model.q_proj.lora_B.weight", Dtype::F32, {kOut, kRank}, kB);
  weights.add("model.q_proj.alpha", Dtype::F32, {}, {6});
  ByteDisk disk = disk_of(weights);
  EXPECT_EQ(Folded(disk, "l.safetensors", {weight("model.q_proj.weight")}).change(), product(3.0));
}

TEST(Kohya, DoraIsRecognised) {
  SafetensorsBuilder weights;
  weights.add("lora_te_q_proj.lora_down.weight", Dtype::F32, {kRank, kIn}, kA);
  weights.add("lora_te_q_proj.lora_up.weight", Dtype::F32, {kOut, kRank}, kB);
  SafetensorsBuilder inputs = weights;
  weights.add("lora_te_q_proj.dora_scale", Dtype::F32, {kOut, 1}, {1, 2, 3, 4});
  ByteDisk disk = disk_of(weights);
  const Folded folded(disk, "l.safetensors", {weight("q_proj.weight")});
  EXPECT_EQ(folded.adapter().family(), "DoRA");
  ASSERT_EQ(folded.all().size(), 2U);
  EXPECT_EQ(folded.all()[1].update->kind, UpdateKind::Normalise);

  inputs.add("lora_te_q_proj.dora_scale", Dtype::F32, {1, kIn}, {1, 2, 3});
  ByteDisk other = disk_of(inputs);
  const Error error = error_of([&] { open_adapter(other, "l.safetensors"); });
  EXPECT_NE(error.message().find("norms of inputs are not folded"), std::string::npos);
}

TEST(Lycoris, LohaAndLokrAreThoseOfPeft) {
  struct Case {
    std::vector<std::pair<const char*, std::vector<std::uint64_t>>> tensors;
    const char* family;
    double scale;
  };
  const Case cases[] = {
      {{{"hada_w1_a", {4, 2}}, {"hada_w1_b", {2, 6}}, {"hada_w2_a", {4, 2}}, {"hada_w2_b", {2, 6}}},
       "LoHa",
       1.5},
      {{{"lokr_w1", {2, 2}}, {"lokr_w2_a", {2, 1}}, {"lokr_w2_b", {1, 3}}}, "LoKr", 3.0},
      // Two whole factors are not scaled, whatever alpha says.
      {{{"lokr_w1", {2, 2}}, {"lokr_w2", {2, 3}}}, "LoKr", 1.0},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.family);
    SafetensorsBuilder weights;
    for (const auto& [name, shape] : c.tensors) {
      weights.add(std::string("lycoris_layers_0_q_proj.") + name, Dtype::F32, shape,
                  Numbers(shape[0] * shape[1], 0.5));
    }
    weights.add("lycoris_layers_0_q_proj.alpha", Dtype::F32, {}, {3});
    ByteDisk disk = disk_of(weights);
    const Folded folded(disk, "l.safetensors", {weight("model.layers.0.q_proj.weight", {4, 6})});
    EXPECT_EQ(folded.adapter().family(), c.family);
    EXPECT_TRUE(folded.adapter().warnings().empty());
    ASSERT_EQ(folded.all().size(), 1U);
    EXPECT_EQ(folded.all()[0].update->kind, UpdateKind::Generate);
    EXPECT_EQ(folded.all()[0].update->scale, c.scale);
  }
  SafetensorsBuilder conv;
  conv.add("lycoris_c.lokr_w1", Dtype::F32, {2, 2}, Numbers(4));
  conv.add("lycoris_c.lokr_w2", Dtype::F32, {2, 3, 3}, Numbers(18));
  ByteDisk disk = disk_of(conv);
  const Error error = error_of([&] { open_adapter(disk, "l.safetensors"); });
  EXPECT_NE(error.message().find("convolution in one dimension"), std::string::npos);
}

TEST(Kohya, PartsOfSeveralModelsAreLeftOutByAKeyMap) {
  SafetensorsBuilder weights;
  for (const std::string module : {"lora_te_layers_0_q", "lora_unet_mid_attn_q"}) {
    weights.add(module + ".lora_down.weight", Dtype::F32, {kRank, kIn}, kA);
    weights.add(module + ".lora_up.weight", Dtype::F32, {kOut, kRank}, kB);
  }
  ByteDisk disk = disk_of(weights);
  const std::vector<TensorInfo> model = {weight("layers.0.q.weight")};
  const Error error = error_of([&] { Folded(disk, "l.safetensors", model); });
  EXPECT_EQ(error.code(), ErrorCode::Mismatch);
  EXPECT_NE(error.hint().find("several models (lora_te_, lora_unet_)"), std::string::npos)
      << error.hint();
  const Folded folded(disk, "l.safetensors", model, {{"lora_unet_", std::nullopt}});
  EXPECT_EQ(folded.all().size(), 1U);
  EXPECT_NE(folded.adapter().warnings().at(0).find("1 of its 2 updates"), std::string::npos);
}

TEST(Kohya, DifferencesAreAddedAsTheyAre) {
  const Numbers bias = {1, -1, 2, -2};
  const Numbers norm = {5, 6, 7};
  SafetensorsBuilder weights;
  weights.add("lora_te_q.lora_down.weight", Dtype::F32, {kRank, kIn}, kA);
  weights.add("lora_te_q.lora_up.weight", Dtype::F32, {kOut, kRank}, kB);
  weights.add("lora_te_q.alpha", Dtype::F32, {}, {6});
  weights.add("lora_te_q.diff_b", Dtype::F32, {kOut}, bias);
  weights.add("lora_te_k.diff", Dtype::F32, {kOut, kIn}, product(1));
  weights.add("lora_te_norm.w_norm", Dtype::F32, {kIn}, norm);
  weights.add("lora_te_norm.b_norm", Dtype::F32, {kIn}, norm);
  ByteDisk disk = disk_of(weights);
  const Folded folded(disk, "l.safetensors",
                      {weight("k.weight"), weight("q.weight"), weight("q.bias", {kOut}),
                       weight("norm.weight", {kIn}), weight("norm.bias", {kIn})});
  std::vector<std::string> added;
  for (const ResolvedUpdate& one : folded.all()) {
    if (one.update->kind != UpdateKind::Add) continue;
    added.push_back(one.tensor);
    EXPECT_EQ(one.update->scale, 1.0) << one.tensor;
  }
  EXPECT_EQ(added, (std::vector<std::string>{"k.weight", "norm.bias", "norm.weight", "q.bias"}));
  EXPECT_EQ(folded.all().back().tensor, "q.weight");
  EXPECT_EQ(folded.change(4), product(3));
}

TEST(Kohya, WhatIsNotFoldedIsNamed) {
  struct Case {
    const char* tensor;
    const char* message;
  };
  const Case cases[] = {
      {"lora_te_q.oft_blocks", "side by side"},
      {"lora_te_q.oft_diag", "matrices of older LyCORIS (oft_diag)"},
      {"lora_te_q.something", "tensors of no known kind"},
      {"lora_te_k.lora_down.weight", "has no lora_B for `lora_te_k`"},
      {"lora_te_q.lora_A.weight", "under two names"},
      {"lora_te_q.hada_w1_b", "side by side"},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.tensor);
    SafetensorsBuilder weights;
    weights.add("lora_te_q.lora_down.weight", Dtype::F32, {kRank, kIn}, kA);
    weights.add("lora_te_q.lora_up.weight", Dtype::F32, {kOut, kRank}, kB);
    weights.add(c.tensor, Dtype::F32, {kRank, kIn}, kA);
    ByteDisk disk = disk_of(weights);
    const Error error = error_of([&] { open_adapter(disk, "l.safetensors"); });
    EXPECT_NE(error.message().find(c.message), std::string::npos) << error.message();
  }
  SafetensorsBuilder alpha;
  alpha.add("lora_te_q.alpha", Dtype::F32, {2}, {1, 2});
  ByteDisk disk = disk_of(alpha);
  EXPECT_NE(error_of([&] { open_adapter(disk, "l.safetensors"); })
                .message()
                .find("an alpha that is not one number"),
            std::string::npos);
}

// ---------------------------------------------------------------- files that say too little

TEST(LoneFile, WithoutAlphaIsRefusedWithTheWayOut) {
  SafetensorsBuilder peft;
  for (const char* prefix : {"base_model.model.", "transformer.h.0."}) {
    SafetensorsBuilder weights;
    weights.add(std::string(prefix) + "q.lora_A.weight", Dtype::F32, {kRank, kIn}, kA);
    weights.add(std::string(prefix) + "q.lora_B.weight", Dtype::F32, {kOut, kRank}, kB);
    ByteDisk disk = disk_of(weights);
    const Error error = error_of([&] { open_adapter(disk, "l.safetensors"); });
    EXPECT_EQ(error.code(), ErrorCode::NotFound);
    EXPECT_NE(error.message().find("does not say its alpha"), std::string::npos) << error.message();
    EXPECT_NE(error.hint().find(R"("lora_alpha": ALPHA)"), std::string::npos) << error.hint();
  }
  SafetensorsBuilder mlx;
  mlx.add("q.lora_a", Dtype::F32, {kIn, kRank}, kA).add("q.lora_b", Dtype::F32, {kRank, kOut}, kB);
  ByteDisk disk = disk_of(mlx);
  const Error error = error_of([&] { open_adapter(disk, "l.safetensors"); });
  EXPECT_NE(error.message().find("layout of MLX"), std::string::npos) << error.message();
}

TEST(LoneFile, OfDiffusersIsFoundInItsFolder) {
  SafetensorsBuilder weights;
  weights.add("unet.q.lora_A.weight", Dtype::F32, {kRank, kIn}, kA);
  weights.add("unet.q.lora_B.weight", Dtype::F32, {kOut, kRank}, kB);
  ByteDisk disk = disk_of(weights, "a/pytorch_lora_weights.safetensors");
  const Folded folded(disk, "a", {weight("q.weight")});
  EXPECT_EQ(folded.adapter().files().size(), 1U);
  EXPECT_EQ(folded.change(), product(1.0));
}

// ---------------------------------------------------------------- MLX

SafetensorsBuilder mlx_factors() {
  SafetensorsBuilder weights;
  weights.add("model.layers.0.q_proj.lora_a", Dtype::F32, {kIn, kRank}, turned(kA, kRank));
  weights.add("model.layers.0.q_proj.lora_b", Dtype::F32, {kRank, kOut}, turned(kB, kOut));
  return weights;
}

TEST(Mlx, FactorsAreTransposedAndTheScaleIsTakenAsItIs) {
  for (const char* config :
       {R"({"fine_tune_type":"lora","lora_parameters":{"rank":2,"scale":20.0},"model":"org/base"})",
        R"({"fine_tune_type":"lora","scale":20,"model":"org/base"})"}) {
    ByteDisk disk = disk_of(mlx_factors(), "a/adapters.safetensors", config);
    const Folded folded(disk, "a", {weight("model.layers.0.q_proj.weight")});
    EXPECT_EQ(folded.adapter().base_model(), "org/base");
    EXPECT_EQ(folded.adapter().files().size(), 2U);
    EXPECT_TRUE(folded.adapter().warnings().empty());
    EXPECT_EQ(folded.change(), product(20.0));
  }
}

TEST(Mlx, EmbeddingsAndDora) {
  SafetensorsBuilder weights = mlx_factors();
  weights.add("model.embed_tokens.lora_a", Dtype::F32, {kIn, kRank}, turned(kA, kRank));
  weights.add("model.embed_tokens.lora_b", Dtype::F32, {kRank, kOut}, turned(kB, kOut));
  const char* const config = R"({"fine_tune_type":"lora","lora_parameters":{"scale":2}})";
  ByteDisk disk = disk_of(weights, "a/adapters.safetensors", config);
  const Folded folded(
      disk, "a",
      {weight("model.layers.0.q_proj.weight"), weight("model.embed_tokens.weight", {kIn, kOut})});
  EXPECT_EQ(folded.change(0), turned(product(2.0), kOut));  // vocabulary x dimension

  SafetensorsBuilder dora = mlx_factors();
  dora.add("model.layers.0.q_proj.m", Dtype::F32, {kOut}, {1, 2, 3, 4});
  ByteDisk other = disk_of(dora, "a/adapters.safetensors",
                           R"({"fine_tune_type":"dora","lora_parameters":{"scale":2}})");
  EXPECT_EQ(Folded(other, "a", {weight("model.layers.0.q_proj.weight")}).adapter().family(),
            "DoRA");
}

TEST(Mlx, WhatIsNotFoldedIsRefused) {
  struct Case {
    const char* config;
    const char* extra;
    std::vector<std::uint64_t> shape;
    const char* message;
  };
  const Case cases[] = {
      {R"({"fine_tune_type":"full"})", "", {}, "of the type `full`"},
      {R"({"lora_parameters":{"rank":8}})", "", {}, "`lora_parameters.scale` is not a number"},
      {R"({"lora_parameters":{"scale":2}})", "model.norm.weight", {2}, "are no LoRA of MLX"},
      {R"({"lora_parameters":{"scale":2}})", "experts.lora_a", {2, 2, 2}, "expected a matrix"},
      {R"({"lora_parameters":{"scale":2}})", "k.lora_a", {3, 2}, "has no lora_B for"},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.message);
    SafetensorsBuilder weights = mlx_factors();
    std::size_t count = 1;
    for (const std::uint64_t dim : c.shape) count *= dim;
    if (*c.extra != '\0') weights.add(c.extra, Dtype::F32, c.shape, Numbers(count));
    ByteDisk disk = disk_of(weights, "a/adapters.safetensors", c.config);
    const Error error = error_of([&] { open_adapter(disk, "a"); });
    EXPECT_NE(error.message().find(c.message), std::string::npos) << error.message();
  }
}

// ---------------------------------------------------------------- llama.cpp

GgufBuilder gguf_lora(const std::string& architecture, float alpha) {
  GgufBuilder file;
  file.text("general.architecture", architecture).text("general.type", "adapter");
  file.text("adapter.type", "lora").real("adapter.lora.alpha", alpha);
  return file;
}

TEST(GgufLora, HasGgmlsNamesAndAnAlpha) {
  for (const float alpha : {4.0F, 0.0F}) {
    ByteDisk disk;
    disk.files["a/l.gguf"] = gguf_lora("qwen2", alpha)
                                 .text("general.base_model.0.name", "Base")
                                 .floats("blk.0.attn_q.weight.lora_a", {kRank, kIn}, kA)
                                 .floats("blk.0.attn_q.weight.lora_b", {kOut, kRank}, kB)
                                 .bytes();
    disk.files["a/adapter_config.json"] = R"({"peft_type":"IA3"})";  // belongs to another file
    const Folded folded(disk, "a/l.gguf", {weight("model.layers.0.self_attn.q_proj.weight")});
    EXPECT_EQ(folded.adapter().base_model(), "Base");
    EXPECT_EQ(folded.adapter().files().size(), 1U);
    EXPECT_EQ(folded.change(), product(alpha == 0.0F ? 1.0 : 2.0));
  }
}

TEST(GgufLora, OfAnEmbeddingIsTransposed) {
  ByteDisk disk;
  disk.files["l.gguf"] = gguf_lora("llama", 2)
                             .floats("token_embd.weight.lora_a", {kIn, kRank}, turned(kA, kRank))
                             .floats("token_embd.weight.lora_b", {kOut, kRank}, kB)
                             .bytes();
  const Folded folded(disk, "l.gguf", {weight("model.embed_tokens.weight", {kIn, kOut})});
  EXPECT_EQ(folded.change(), turned(product(1.0), kOut));
}

TEST(GgufLora, RowsOfQueriesAreTransformersAgain) {
  // One head of four rows: 0 1 2 3 are stored as 0 2 1 3.
  const Numbers stored = {kB[0], kB[1], kB[4], kB[5], kB[2], kB[3], kB[6], kB[7]};
  ByteDisk disk;
  disk.files["l.gguf"] = gguf_lora("llama", 2)
                             .floats("blk.0.attn_q.weight.lora_a", {kRank, kIn}, kA)
                             .floats("blk.0.attn_q.weight.lora_b", {kOut, kRank}, stored)
                             .bytes();
  const std::vector<TensorInfo> model = {weight("model.layers.0.self_attn.q_proj.weight")};
  std::unique_ptr<Adapter> adapter = open_adapter(disk, "l.gguf");
  EXPECT_TRUE(adapter->rotates_neighbours());
  FoldTarget target{model, "llama"};
  const Error error = error_of([&] { recut(adapter, target); });
  EXPECT_EQ(error.code(), ErrorCode::Mismatch);
  EXPECT_NE(error.hint().find("config.json"), std::string::npos);

  target.head_rows = 4;
  recut(adapter, target);
  recut(adapter, target);  // a second fold changes nothing
  const auto resolved = resolve(*adapter, target);
  std::vector<float> u(kOut * kRank);
  std::vector<float> v(kRank * kIn);
  load_factors(*adapter, *resolved.at(0).update, resolved.at(0).base, u, v);
  EXPECT_EQ(Numbers(u.begin(), u.end()), kB);
  EXPECT_EQ(Numbers(v.begin(), v.end()), kA);
}

TEST(GgufLora, WhatIsNoLoraIsRefused) {
  struct Case {
    GgufBuilder file;
    const char* message;
  };
  const Case cases[] = {
      {GgufBuilder().text("general.architecture", "llama"), "is no LoRA"},
      {GgufBuilder().text("general.type", "adapter").text("adapter.type", "control_vector"),
       "its type is `control_vector`"},
      {gguf_lora("phi3", 2), "for the architecture `phi3`"},
      {gguf_lora("llama", std::numeric_limits<float>::infinity()),
       "no number `adapter.lora.alpha`"},
      {gguf_lora("llama", 2).floats("blk.0.odd.weight.lora_a", {kRank, kIn}, kA),
       "`blk.0.odd.weight.lora_a`"},
      {gguf_lora("llama", 2).floats("blk.0.attn_q.weight", {kRank, kIn}, kA),
       "is no factor of a weight"},
      {gguf_lora("llama", 2).floats("blk.0.attn_q.weight.lora_a", {kRank, kIn}, kA),
       "has no lora_B"},
      {gguf_lora("llama", 2).tensor("blk.0.attn_q.weight.lora_a", {1, 256}, 16, std::string(66, 0)),
       "in IQ2_XXS, which is not read"},
      {gguf_lora("llama", 2), "holds no tensors"},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.message);
    ByteDisk disk;
    disk.files["l.gguf"] = c.file.bytes();
    const Error error = error_of([&] { open_adapter(disk, "l.gguf"); });
    EXPECT_NE(error.message().find(c.message), std::string::npos) << error.message();
  }
}

// ---------------------------------------------------------------- dumps of sharded training

TEST(Dump, WrappersAroundNamesAreTakenAway) {
  for (const std::string prefix :
       {"module.base_model.model.", "_fsdp_wrapped_module.base_model.model._fsdp_wrapped_module.",
        "base_model.model._orig_mod.", "module.module.base_model.model.",
        "_forward_module.base_model.model.", "base_model.model._checkpoint_wrapped_module."}) {
    SCOPED_TRACE(prefix);
    SafetensorsBuilder weights;
    weights.add(prefix + "model.q.lora_A.default.weight", Dtype::F32, {kRank, kIn}, kA);
    weights.add(prefix + "model.q.lora_B.default.weight", Dtype::F32, {kOut, kRank}, kB);
    ByteDisk disk = disk_of(weights, "a/adapter_model.safetensors",
                            R"({"peft_type":"LORA","r":2,"lora_alpha":4})");
    EXPECT_EQ(Folded(disk, "a", {weight("model.q.weight")}).change(), product(2.0));
  }
}

TEST(Dump, TensorsThatWereNotGatheredAreRefusedWithTheReason) {
  for (const bool flat : {true, false}) {
    SafetensorsBuilder weights;
    const std::vector<std::uint64_t> shape =
        flat ? std::vector<std::uint64_t>{0} : std::vector<std::uint64_t>{kRank, 0};
    weights.add("model.q.lora_A.weight", Dtype::F32, shape, {});
    weights.add("model.q.lora_B.weight", Dtype::F32, {0}, {});
    ByteDisk disk = disk_of(weights, "a/adapter_model.safetensors", R"({"peft_type":"LORA"})");
    const Error error = error_of([&] { open_adapter(disk, "a"); });
    EXPECT_EQ(error.code(), ErrorCode::Corrupt);
    EXPECT_NE(error.hint().find("unless they are gathered"), std::string::npos) << error.hint();
  }
}

}  // namespace
}  // namespace thorns
