#include "adapter/adapter.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "support/byte_disk.h"
#include "support/error_of.h"
#include "support/pytorch_builder.h"
#include "support/safetensors_builder.h"

namespace thorns {
namespace {

using test::ByteDisk;
using test::error_of;
using test::path_of;
using test::SafetensorsBuilder;

constexpr const char* kConfig = "a/adapter_config.json";
constexpr const char* kWeights = "a/adapter_model.safetensors";
const std::string kQ = "base_model.model.model.layers.0.q_proj";

std::vector<double> ones(std::size_t count) { return std::vector<double>(count, 1.0); }

// LoRA of rank 2 for q_proj (out 3, in 4).
SafetensorsBuilder q_factors() {
  SafetensorsBuilder builder;
  builder.add(kQ + ".lora_A.weight", Dtype::F32, {2, 4}, {1, 2, 3, 4, 5, 6, 7, 8})
      .add(kQ + ".lora_B.weight", Dtype::F32, {3, 2}, {1, 2, 3, 4, 5, 6});
  return builder;
}

// `fields` are put behind the type: ", \"r\": 2".
std::string lora_config(const std::string& fields = {}) {
  return R"({"peft_type":"LORA","r":2,"lora_alpha":6)" + fields + "}";
}

ByteDisk disk_of(const std::string& config, const SafetensorsBuilder& weights) {
  ByteDisk disk;
  disk.files[kConfig] = config;
  disk.files[kWeights] = weights.bytes();
  return disk;
}

TEST(Adapter, PlainLora) {
  ByteDisk disk =
      disk_of(lora_config(R"(,"base_model_name_or_path":"org/base","new_field":[1])"), q_factors());
  const auto adapter = open_adapter(disk, "a");
  EXPECT_EQ(adapter->path(), "a");
  EXPECT_EQ(adapter->family(), "LoRA");
  EXPECT_EQ(adapter->base_model(), "org/base");
  EXPECT_FALSE(adapter->fan_in_fan_out());
  EXPECT_TRUE(adapter->warnings().empty());
  ASSERT_EQ(adapter->files().size(), 2U);
  EXPECT_EQ(adapter->files()[1].path, kWeights);
  EXPECT_EQ(adapter->files()[1].size, disk.files[kWeights].size());
  ASSERT_EQ(adapter->updates().size(), 1U);
  const Update& update = adapter->updates()[0];
  EXPECT_EQ(update.kind, UpdateKind::LowRank);
  EXPECT_EQ(update.module, "model.layers.0.q_proj");
  EXPECT_EQ(update.parameter, "weight");
  EXPECT_EQ(update.scale, 3.0);
  EXPECT_EQ(update.rank, 2U);
  EXPECT_EQ(adapter->source().tensors()[update.first].name, kQ + ".lora_A.weight");
  EXPECT_EQ(adapter->source().tensors()[update.second].name, kQ + ".lora_B.weight");
}

TEST(Adapter, PyTorchFilesAreReadWhereThereAreNoSafetensors) {
  const auto tensor = [](const char* key, std::int64_t rows, std::int64_t columns) {
    return test::py_tensor(test::py_storage("FloatStorage", key, rows * columns), 0,
                           {rows, columns}, {columns, 1});
  };
  const std::string pickle = test::py_pickle(test::py_dict(
      {{kQ + ".lora_A.weight", tensor("0", 2, 4)}, {kQ + ".lora_B.weight", tensor("1", 3, 2)}}));
  ByteDisk disk;
  disk.files[kConfig] = lora_config();
  disk.files["a/adapter_model.bin"] =
      test::torch_zip(pickle, {std::string(32, '\0'), std::string(24, '\0')});
  for (const char* path : {"a", kConfig, "a/adapter_model.bin"}) {
    const auto adapter = open_adapter(disk, path);
    ASSERT_EQ(adapter->updates().size(), 1U);
    EXPECT_EQ(adapter->updates()[0].module, "model.layers.0.q_proj");
    EXPECT_EQ(adapter->files()[1].path, "a/adapter_model.bin");
  }
  disk.files[kWeights] = q_factors().bytes();
  EXPECT_EQ(open_adapter(disk, "a")->files()[1].path, kWeights);
}

TEST(Adapter, ScaleFollowsAlphaRankAndFamily) {
  struct Case {
    const char* config;
    double scale;
    const char* family;
  };
  const Case cases[] = {
      {R"({"peft_type":"LORA"})", 4.0, "LoRA"},  // alpha 8 by default, rank of the tensors 2
      {R"({"peft_type":"lora","r":2,"lora_alpha":2.5})", 1.25, "LoRA"},
      {R"({"peft_type":"LORA","r":2,"lora_alpha":3,"use_rslora":true})", 3 / std::sqrt(2.0),
       "rsLoRA"},
      {R"({"peft_type":"LORA","r":2,"alpha_pattern":{"k_proj":1,"q_proj":5,"layers.0.q_proj":7}})",
       2.5, "LoRA"},
      {R"({"peft_type":"LORA","r":9,"rank_pattern":{"q_proj":2},"lora_alpha":-1})", -0.5, "LoRA"},
      {R"({"peft_type":"LORA","r":2,"alpha_pattern":null,"rank_pattern":null})", 4.0, "LoRA"},
  };
  for (const Case& test : cases) {
    SCOPED_TRACE(test.config);
    ByteDisk disk = disk_of(test.config, q_factors());
    const auto adapter = open_adapter(disk, "a");
    EXPECT_EQ(adapter->updates().at(0).scale, test.scale);
    EXPECT_EQ(adapter->family(), test.family);
  }
}

// PEFT adapts the attention as a whole, and its out_proj with the attention's rank and alpha.
TEST(Adapter, PatternsKnowTheOutProjectionByItsAttention) {
  SafetensorsBuilder weights;
  for (const char* module : {"m.attn", "m.attn.base_layer.out_proj"}) {
    weights.add(std::string(module) + ".lora_A.weight", Dtype::F32, {2, 4}, ones(8))
        .add(std::string(module) + ".lora_B.weight", Dtype::F32, {4, 2}, ones(8));
  }
  ByteDisk disk = disk_of(lora_config(R"(,"alpha_pattern":{"attn":5,"out_proj":7})"), weights);
  const auto adapter = open_adapter(disk, "a");
  ASSERT_EQ(adapter->updates().size(), 2U);
  EXPECT_EQ(adapter->updates()[1].module, "m.attn.out_proj");
  for (const Update& update : adapter->updates()) EXPECT_EQ(update.scale, 2.5) << update.module;
}

TEST(Adapter, BiasesAndSavedModulesReplace) {
  SafetensorsBuilder weights = q_factors();
  weights.add(kQ + ".base_layer.bias", Dtype::F32, {3}, ones(3))
      .add(kQ + ".lora_B.bias", Dtype::F16, {3}, ones(3))
      .add("base_model.model.lm_head.modules_to_save.default.weight", Dtype::BF16, {5, 4}, ones(20))
      .add("base_model.model.lm_head.original_module.weight", Dtype::BF16, {5, 4}, ones(20));
  ByteDisk disk =
      disk_of(lora_config(R"(,"bias":"lora_only","lora_bias":true,"modules_to_save":["lm_head"])"),
              weights);
  const auto adapter = open_adapter(disk, "a");
  ASSERT_EQ(adapter->updates().size(), 4U);
  struct Expected {
    UpdateKind kind;
    const char* module;
    const char* parameter;
    double scale;
  };
  const Expected expected[] = {{UpdateKind::Replace, "lm_head", "weight", 1.0},
                               {UpdateKind::Replace, "model.layers.0.q_proj", "bias", 1.0},
                               {UpdateKind::LowRank, "model.layers.0.q_proj", "weight", 3.0},
                               {UpdateKind::Add, "model.layers.0.q_proj", "bias", 3.0}};
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(adapter->updates()[i].kind, expected[i].kind) << i;
    EXPECT_EQ(adapter->updates()[i].module, expected[i].module) << i;
    EXPECT_EQ(adapter->updates()[i].parameter, expected[i].parameter) << i;
    EXPECT_EQ(adapter->updates()[i].scale, expected[i].scale) << i;
  }
  ASSERT_EQ(adapter->warnings().size(), 1U);
  EXPECT_NE(adapter->warnings()[0].find("original_module"), std::string::npos);
}

TEST(Adapter, DoubtsAreWarnings) {
  struct Case {
    const char* fields;
    const char* warning;
  };
  const Case cases[] = {
      {R"(,"bias":"lora_only")", "trained biases are missing"},
      {R"(,"bias":"all")", "trained biases are missing"},
      {R"(,"lora_bias":true)", "no such bias is in the file"},
      {R"(,"modules_to_save":["lm_head"])", "modules_to_save names `lm_head`"},
      {R"(,"rank_pattern":{"k_proj":2})", "decide for no module: k_proj"},
      {R"(,"alpha_pattern":{"[k]_proj":2})", "decide for no module: [k]_proj"},
      {R"(,"rank_pattern":{"q_proj":5})", "model.layers.0.q_proj (2 instead of 5)"},
  };
  for (const Case& test : cases) {
    SCOPED_TRACE(test.fields);
    ByteDisk disk = disk_of(lora_config(test.fields), q_factors());
    const auto adapter = open_adapter(disk, "a");
    ASSERT_EQ(adapter->warnings().size(), 1U);
    EXPECT_NE(adapter->warnings()[0].find(test.warning), std::string::npos)
        << adapter->warnings()[0];
  }
  ByteDisk disk = disk_of(lora_config(R"(,"modules_to_save":["classifier","score"])"), q_factors());
  EXPECT_TRUE(open_adapter(disk, "a")->warnings().empty());
}

TEST(Adapter, IsFoundWhereTrainersPutIt) {
  const std::string config = lora_config();
  const std::string weights = q_factors().bytes();
  struct Case {
    const char* what;
    const char* folder;
    const char* weights;
    const char* opened;
  };
  const Case cases[] = {
      {"folder", "a", kWeights, "a"},
      {"folder with a slash", "a", kWeights, "a/"},
      {"named adapter", "a/kimiko", "a/kimiko/adapter_model.safetensors", "a"},
      {"file beside its config", "a", "a/other.safetensors", "a/other.safetensors"},
      {"the config itself", "a", kWeights, kConfig},
  };
  for (const Case& test : cases) {
    SCOPED_TRACE(test.what);
    ByteDisk disk;
    disk.files[std::string(test.folder) + "/adapter_config.json"] = config;
    disk.files[test.weights] = weights;
    // A trailing slash is the real disk's business; this one knows exact paths only.
    const std::string opened = test.opened == std::string("a/") ? "a" : test.opened;
    const auto adapter = open_adapter(disk, opened);
    EXPECT_EQ(adapter->updates().size(), 1U);
    EXPECT_EQ(adapter->files()[1].path, test.weights);
  }
}

struct Refusal {
  const char* what;
  std::map<std::string, std::string> files;
  ErrorCode code;
  const char* message;
  const char* hint;
  const char* opened = "a";
};

TEST(Adapter, FoldersThatHoldNoneAreRefused) {
  const std::string weights = q_factors().bytes();
  const Refusal cases[] = {
      {"nothing",
       {{"x/y", ""}},
       ErrorCode::NotFound,
       "there is no adapter at `a`",
       "adapter folder"},
      {"no config",
       {{kWeights, weights}},
       ErrorCode::NotFound,
       "no adapter_config.json in `a`",
       "beside its weights"},
      {"no config beside the file",
       {{kWeights, weights}},
       ErrorCode::NotFound,
       "no adapter_config.json beside",
       "fetch that file, too",
       kWeights},
      {"two inside",
       {{"a/x/adapter_config.json", "{}"}, {"a/y/adapter_config.json", "{}"}},
       ErrorCode::Mismatch,
       "`a` holds 2 adapters: x, y",
       "name the one"},
      {"no weights",
       {{kConfig, lora_config()}},
       ErrorCode::NotFound,
       "no adapter_model.safetensors in `a`",
       "fetch the adapter's weights"},
      {"an empty PyTorch file",
       {{kConfig, lora_config()}, {"a/adapter_model.bin", ""}},
       ErrorCode::Corrupt,
       "`a/adapter_model.bin` is not a PyTorch checkpoint",
       "fetch it again"},
      {"LFS pointer",
       {{kConfig, lora_config()}, {kWeights, "version https://git-lfs.github.com/"}},
       ErrorCode::Corrupt,
       "Git-LFS pointer",
       "git lfs pull"},
      {"config is a pointer",
       {{kConfig, "version https://git-lfs.github.com/"}, {kWeights, weights}},
       ErrorCode::Corrupt,
       "Git-LFS pointer",
       "git lfs pull"},
      {"config is a list",
       {{kConfig, "[]"}, {kWeights, weights}},
       ErrorCode::Corrupt,
       "is not a JSON object",
       ""},
      {"config is broken",
       {{kConfig, "{"}, {kWeights, weights}},
       ErrorCode::Corrupt,
       "not valid JSON",
       ""},
      {"no tensors",
       {{kConfig, lora_config()}, {kWeights, test::raw_safetensors("{}")}},
       ErrorCode::Corrupt,
       "holds no tensors",
       "before training"},
  };
  for (const Refusal& refusal : cases) {
    SCOPED_TRACE(refusal.what);
    ByteDisk disk;
    disk.files = refusal.files;
    const Error error = error_of([&] { open_adapter(disk, refusal.opened); });
    EXPECT_EQ(error.code(), refusal.code) << to_string(error);
    EXPECT_NE(error.message().find(refusal.message), std::string::npos) << error.message();
    EXPECT_NE(error.hint().find(refusal.hint), std::string::npos) << error.hint();
    EXPECT_FALSE(path_of(error).empty());
  }
}

struct BadConfig {
  std::string config;
  ErrorCode code;
  const char* message;
};

TEST(Adapter, ConfigsThatAreNoPlainLoraAreRefusedByName) {
  constexpr ErrorCode kNo = ErrorCode::Unsupported;
  constexpr ErrorCode kBad = ErrorCode::Corrupt;
  const BadConfig cases[] = {
      {R"({})", kBad, "`peft_type` in `a/adapter_config.json` is not given"},
      {R"({"peft_type":7})", kBad, "`peft_type` in `a/adapter_config.json` is not text"},
      {R"({"lora_parameters":{"rank":8}})", kBad, "`lora_parameters.scale` is not a number"},
      {R"({"peft_type":"XLORA"})", kNo, "of type XLORA: its gates depend on the input"},
      {R"({"peft_type":"ADALORA","init_r":0})", kBad, "`init_r` in"},
      {R"({"peft_type":"WAVEFT"})", kNo,
       "of type WAVEFT, which is not folded; folded are AdaLoRA, "},
      {R"({"peft_type":"DEFT"})", kNo, "each output of all outputs of its base"},
      {R"({"peft_type":"SOMETHING_NEW"})", kNo, "of type SOMETHING_NEW, which is not folded"},
      {R"({"peft_type":"PROMPT_TUNING"})", kNo, "PROMPT_TUNING: it acts on activations"},
      {R"({"peft_type":"OSF"})", kNo, "needs a decomposition of its base"},
      {lora_config(R"(,"layer_replication":[[2,2]])"), kBad, "a list of ranges of layers"},
      {lora_config(R"(,"layer_replication":[0,2])"), kBad, "a list of ranges of layers"},
      {lora_config(R"(,"alora_invocation_tokens":[5])"), kNo, "sets `alora_invocation_tokens`"},
      {lora_config(R"(,"arrow_config":{"top_k":2})"), kNo, "sets `arrow_config`"},
      {lora_config(R"(,"use_qalora":true)"), kNo, "sets `use_qalora`"},
      {lora_config(R"(,"use_bdlora":true)"), kBad, "`use_bdlora` in"},
      {lora_config(R"(,"kasa_config":{"beta":1})"), kNo, "sets `kasa_config`"},
      {lora_config(R"(,"megatron_config":{"x":1})"), kNo, "sets `megatron_config`"},
      {lora_config(R"(,"init_lora_weights":"pissa")"), kNo, "`pissa`, which changes the base"},
      {lora_config(R"(,"init_lora_weights":"pissa_niter_16")"), kNo, "which changes the base"},
      {lora_config(R"(,"init_lora_weights":"OLoRA")"), kNo, "`OLoRA`, which changes the base"},
      {lora_config(R"(,"init_lora_weights":"corda")"), kNo, "`corda`"},
      {lora_config(R"(,"init_lora_weights":"lora_ga")"), kNo, "`lora_ga`"},
      {lora_config(R"(,"init_lora_weights":"loftq")"), kNo, "`loftq`"},
      {lora_config(R"(,"init_lora_weights":"tomorrow")"), kNo, "which may have changed the base"},
      {lora_config(R"(,"bias":"some")"), kNo, "`bias` is `some`"},
      {R"({"peft_type":"LORA","r":"8"})", kBad, "`r` in"},
      {R"({"peft_type":"LORA","r":0})", kBad, "a whole number from 1"},
      {R"({"peft_type":"LORA","r":-1})", kBad, "a whole number from 1"},
      {R"({"peft_type":"LORA","lora_alpha":"16"})", kBad, "`lora_alpha` in"},
      {R"({"peft_type":"LORA","use_rslora":1})", kBad, "is not true or false"},
      {R"({"peft_type":"LORA","fan_in_fan_out":"yes"})", kBad, "is not true or false"},
      {R"({"peft_type":"LORA","rank_pattern":[1]})", kBad, "`rank_pattern` in"},
      {R"({"peft_type":"LORA","rank_pattern":{"q":1.5}})", kBad, "`rank_pattern.q` in"},
      {R"({"peft_type":"LORA","alpha_pattern":{"q":"x"}})", kBad, "`alpha_pattern.q` in"},
      {R"({"peft_type":"LORA","modules_to_save":[1]})", kBad, "is not a list of names"},
      {R"({"peft_type":"LORA","modules_to_save":{}})", kBad, "is not a list of names"},
      {R"({"peft_type":"LORA","base_model_name_or_path":4})", kBad, "is not text"},
      {R"({"peft_type":"LORA","init_lora_weights":4})", kBad, "`init_lora_weights` in"},
      {R"({"peft_type":"LORA","alpha_pattern":{"(q":2}})", kNo,
       "the key `(q` in the alpha_pattern"},
  };
  for (const BadConfig& bad : cases) {
    SCOPED_TRACE(bad.config);
    ByteDisk disk = disk_of(bad.config, q_factors());
    const Error error = error_of([&] { open_adapter(disk, "a"); });
    EXPECT_EQ(error.code(), bad.code);
    EXPECT_NE(error.message().find(bad.message), std::string::npos) << error.message();
    EXPECT_NE(error.message().find(kConfig), std::string::npos) << error.message();
  }
}

SafetensorsBuilder tensors(
    const std::vector<std::pair<std::string, std::vector<std::uint64_t>>>& shapes,
    Dtype dtype = Dtype::F32) {
  SafetensorsBuilder builder;
  for (const auto& [name, shape] : shapes) {
    std::size_t count = 1;
    for (const std::uint64_t dim : shape) count *= dim;
    builder.add(name, dtype, shape, ones(count));
  }
  return builder;
}

// PEFT writes this where bias=all meets modules_to_save.
TEST(Adapter, OneReplacementUnderTwoNamesIsTakenWhereBothAreEqual) {
  const std::size_t count = 20'000;  // compared in two pieces
  const char* const names[] = {"m.n.bias", "m.n.modules_to_save.bias"};
  for (const double last : {1.0, 2.0}) {
    SafetensorsBuilder weights;
    weights.add(names[0], Dtype::F16, {count}, ones(count));
    std::vector<double> values = ones(count);
    values.back() = last;
    weights.add(names[1], Dtype::F16, {count}, values);
    ByteDisk disk = disk_of(lora_config(R"(,"bias":"all","modules_to_save":["n"])"), weights);
    if (last == 1.0) {
      const auto adapter = open_adapter(disk, "a");
      ASSERT_EQ(adapter->updates().size(), 1U);
      EXPECT_TRUE(adapter->warnings().empty());
      continue;
    }
    const Error error = error_of([&] { open_adapter(disk, "a"); });
    EXPECT_EQ(error.code(), ErrorCode::Corrupt);
    EXPECT_NE(error.message().find("under two names, `m.n.bias` and `m.n.modules_to_save.bias`"),
              std::string::npos)
        << error.message();
  }
}

TEST(Adapter, TunedNormsReplace) {
  const char* const config = R"({"peft_type":"LN_TUNING"})";
  ByteDisk disk = disk_of(
      config, tensors({{"m.n.ln_tuning_layers.weight", {4}}, {"m.n.ln_tuning_layers.bias", {4}}}));
  const auto adapter = open_adapter(disk, "a");
  EXPECT_EQ(adapter->family(), "LN tuning");
  ASSERT_EQ(adapter->updates().size(), 2U);
  for (const Update& update : adapter->updates()) {
    EXPECT_EQ(update.kind, UpdateKind::Replace);
    EXPECT_EQ(update.module, "m.n");
  }
  ByteDisk mixed = disk_of(config, q_factors());
  const Error error = error_of([&] { open_adapter(mixed, "a"); });
  EXPECT_EQ(error.code(), ErrorCode::Unsupported);
  EXPECT_NE(error.message().find("LoRA in an adapter of type LN tuning"), std::string::npos)
      << error.message();
}

TEST(Adapter, SingularValuesScaleTheRowsOfA) {
  const std::size_t columns = 20'001;  // read in several pieces that end within rows
  std::vector<double> values(3 * columns);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<double>(i % 251);
  for (const Dtype dtype : {Dtype::F32, Dtype::BF16, Dtype::F16}) {
    SCOPED_TRACE(to_string(dtype));
    SafetensorsBuilder weights;
    weights.add("m.q.lora_A", dtype, {3, columns}, values)
        .add("m.q.lora_B", dtype, {1, 3}, {1, 2, 3})
        .add("m.q.lora_E", Dtype::F32, {3, 1}, {0.5, -3, 1.0 / 3});
    ByteDisk disk = disk_of(
        R"({"peft_type":"ADALORA","init_r":5,"lora_alpha":10,"r":8,"rank_pattern":{"m.q":[true]}})",
        weights);
    const auto adapter = open_adapter(disk, "a");
    EXPECT_EQ(adapter->family(), "AdaLoRA");
    EXPECT_TRUE(adapter->warnings().empty());
    ASSERT_EQ(adapter->updates().size(), 1U);
    EXPECT_EQ(adapter->updates()[0].scale, 10 / (5 + 1e-5));
    std::vector<float> u(3);
    std::vector<float> v(3 * columns);
    load_factors(*adapter, adapter->updates()[0], {{}, false}, u, v);
    EXPECT_EQ(u, (std::vector<float>{1, 2, 3}));
    const float singular[] = {0.5F, -3.0F, 1.0F / 3};
    for (std::size_t i = 0; i < v.size(); ++i) {
      ASSERT_EQ(v[i], static_cast<float>(values[i]) * singular[i / columns]) << i;
    }
  }
}

TEST(Adapter, SingularValuesThatDoNotFitAreRefused) {
  const char* const config = R"({"peft_type":"ADALORA"})";
  const std::pair<SafetensorsBuilder, const char*> cases[] = {
      {tensors({{"m.q.lora_A", {2, 4}}, {"m.q.lora_B", {3, 2}}}), "has no lora_E for `m.q`"},
      {tensors({{"m.q.lora_B", {3, 2}}, {"m.q.lora_E", {2, 1}}}), "has no lora_A for `m.q`"},
      {tensors({{"m.q.lora_A", {2, 4}}, {"m.q.lora_B", {3, 2}}, {"m.q.lora_E", {3, 1}}}),
       "singular values of shape [3, 1] for a lora_A of shape [2, 4]"},
      {tensors({{"m.q.lora_A", {0, 4}}, {"m.q.lora_B", {3, 2}}, {"m.q.lora_E", {0, 1}}}),
       "a factor of shape [0, 4], expected a matrix"},
      {tensors({{"m.q.lora_A", {0, 4}}, {"m.q.lora_B", {3, 0}}, {"m.q.lora_E", {0, 1}}}),
       "changes nothing"},
      {tensors({{"m.e.lora_embedding_A", {2, 4}}, {"m.e.lora_embedding_B", {3, 2}}}),
       "LoRA in an adapter of type AdaLoRA"},
  };
  for (const auto& [weights, message] : cases) {
    ByteDisk disk = disk_of(config, weights);
    const Error error = error_of([&] { open_adapter(disk, "a"); });
    EXPECT_NE(error.message().find(message), std::string::npos) << error.message();
  }
  ByteDisk lora =
      disk_of(lora_config(),
              tensors({{"m.q.lora_A", {2, 4}}, {"m.q.lora_B", {3, 2}}, {"m.q.lora_E", {2, 1}}}));
  const Error error = error_of([&] { open_adapter(lora, "a"); });
  EXPECT_EQ(error.code(), ErrorCode::Unsupported);
  EXPECT_NE(error.message().find("AdaLoRA in an adapter of type LoRA"), std::string::npos);
}

TEST(Adapter, OptionsThatAreOffDoNoHarm) {
  for (const char* fields :
       {R"(,"use_dora":false,"target_parameters":null,"trainable_token_indices":[])",
        R"(,"layer_replication":null,"megatron_core":"megatron.core","loftq_config":{})",
        R"(,"init_lora_weights":true)", R"(,"init_lora_weights":false)",
        R"(,"init_lora_weights":"gaussian")", R"(,"init_lora_weights":"MiCA")",
        R"(,"init_lora_weights":"eva","eva_config":{"a":1})",
        R"(,"init_lora_weights":null,"modules_to_save":null,"base_model_name_or_path":null)"}) {
    ByteDisk disk = disk_of(lora_config(fields), q_factors());
    EXPECT_EQ(open_adapter(disk, "a")->updates().size(), 1U) << fields;
  }
}

struct BadTensors {
  const char* what;
  SafetensorsBuilder weights;
  ErrorCode code;
  const char* message;
  const char* tensor;  // the place; empty: the file
  const char* hint = "";
};

TEST(Adapter, TensorsThatDoNotBelongTogetherAreRefused) {
  const BadTensors cases[] = {
      {"no B", tensors({{"m.q.lora_A.weight", {2, 4}}}), ErrorCode::Corrupt,
       "has no lora_B for `m.q`", "m.q", "saved incompletely"},
      {"no A", tensors({{"m.q.lora_B.weight", {3, 2}}}), ErrorCode::Corrupt,
       "has no lora_A for `m.q`", "m.q"},
      {"only a bias", tensors({{"m.q.lora_B.bias", {3}}}), ErrorCode::Corrupt,
       "has no lora_A for `m.q`", "m.q"},
      {"ranks differ", tensors({{"m.q.lora_A.weight", {2, 4}}, {"m.q.lora_B.weight", {3, 4}}}),
       ErrorCode::Corrupt, "different rank for `m.q`: lora_A is [2, 4], lora_B is [3, 4]",
       "m.q.lora_B.weight"},
      {"a convolution of two groups",
       tensors({{"m.c.lora_A.weight", {2, 4, 3, 3}}, {"m.c.lora_B.weight", {4, 1, 1, 1}}}),
       ErrorCode::Corrupt, "lora_A is [2, 4, 3, 3], lora_B is [4, 1, 1, 1]", "m.c.lora_B.weight",
       "several groups"},
      {"a convolution with a kernel in B",
       tensors({{"m.c.lora_A.weight", {2, 4, 3, 3}}, {"m.c.lora_B.weight", {3, 2, 3, 3}}}),
       ErrorCode::Unsupported, "a lora_B of shape [3, 2, 3, 3] on a convolution",
       "m.c.lora_B.weight"},
      {"emptied by a sharded run",
       tensors({{"m.q.lora_A.weight", {0}}, {"m.q.lora_B.weight", {0}}}), ErrorCode::Corrupt,
       "a factor of shape [0], expected a matrix", "m.q.lora_A.weight", "gathered"},
      {"rank 0", tensors({{"m.q.lora_A.weight", {0, 4}}, {"m.q.lora_B.weight", {3, 0}}}),
       ErrorCode::Corrupt, "a factor of shape [0, 4]", "m.q.lora_A.weight"},
      {"bias of another size",
       tensors({{"m.q.lora_A.weight", {2, 4}},
                {"m.q.lora_B.weight", {3, 2}},
                {"m.q.lora_B.bias", {4}}}),
       ErrorCode::Corrupt, "a bias of shape [4] for a lora_B of shape [3, 2]", "m.q.lora_B.bias"},
      {"one tensor, two names",
       tensors({{"m.q.lora_A.weight", {2, 4}},
                {"base_model.model.m.q.lora_A.weight", {2, 4}},
                {"m.q.lora_B.weight", {3, 2}}}),
       ErrorCode::Corrupt, "the same tensor under two names", "m.q.lora_A.weight"},
      {"one replacement, two names", tensors({{"m.q.base_layer.bias", {2}}, {"m.q.bias", {3}}}),
       ErrorCode::Corrupt, "under two names, `m.q.base_layer.bias` and `m.q.bias`", "m.q.bias"},
      {"two adapters",
       tensors({{"m.q.lora_A.one.weight", {2, 4}},
                {"m.q.lora_B.one.weight", {3, 2}},
                {"m.k.lora_A.two.weight", {2, 4}},
                {"m.k.lora_B.two.weight", {3, 2}}}),
       ErrorCode::Unsupported, "several adapters in one file: one, two", "", "alone"},
      {"DoRA without the flag",
       tensors({{"m.q.lora_A.weight", {2, 4}},
                {"m.q.lora_B.weight", {3, 2}},
                {"m.q.lora_magnitude_vector", {3}}}),
       ErrorCode::Corrupt, "has a lora_magnitude_vector for `m.q`, but", "m.q"},
      {"nested LoRA",
       tensors({{"m.e.lora_A.weight", {2, 4}},
                {"m.e.lora_B.weight", {3, 2}},
                {"m.e.base_layer.lora_A.weight", {2, 4}}}),
       ErrorCode::Corrupt, "no part in the update of `m.e`", "m.e.base_layer.lora_A.weight"},
      {"half an embedding", tensors({{"m.e.lora_embedding_A", {2, 4}}}), ErrorCode::Corrupt,
       "has no lora_embedding_B for `m.e`", "m.e", "saved incompletely"},
      {"an embedding with a kernel",
       tensors({{"m.e.lora_embedding_A", {2, 4, 1}}, {"m.e.lora_embedding_B", {3, 2, 1}}}),
       ErrorCode::Corrupt, "a factor of shape [2, 4, 1], expected a matrix",
       "m.e.lora_embedding_A"},
      {"a tuned norm", tensors({{"m.n.ln_tuning_layers.weight", {4}}}), ErrorCode::Unsupported,
       "holds LN tuning in an adapter of type LoRA", "m.n.ln_tuning_layers.weight"},
      {"integer factors",
       tensors({{"m.q.lora_A.weight", {2, 4}}, {"m.q.lora_B.weight", {3, 2}}}, Dtype::I32),
       ErrorCode::Unsupported, "a tensor of type I32", "m.q.lora_A.weight", "floating"},
      {"integer replacement", tensors({{"m.q.bias", {2}}}, Dtype::U8), ErrorCode::Unsupported,
       "a tensor of type U8", "m.q.bias"},
      {"nothing but copies", tensors({{"m.q.original_module.weight", {2}}}), ErrorCode::Corrupt,
       "changes nothing", ""},
  };
  for (const BadTensors& bad : cases) {
    SCOPED_TRACE(bad.what);
    ByteDisk disk = disk_of(lora_config(), bad.weights);
    const Error error = error_of([&] { open_adapter(disk, "a"); });
    EXPECT_EQ(error.code(), bad.code);
    EXPECT_NE(error.message().find(bad.message), std::string::npos) << error.message();
    EXPECT_NE(error.hint().find(bad.hint), std::string::npos) << error.hint();
    const auto* place = std::get_if<TensorPlace>(&error.where());
    EXPECT_EQ(place != nullptr ? place->tensor : "", bad.tensor);
    EXPECT_EQ(place != nullptr ? place->source : path_of(error), kWeights);
  }
}

TEST(Adapter, FactorsAreReadInTheBasesOrientation) {
  for (const Dtype dtype : {Dtype::F64, Dtype::F32, Dtype::F16, Dtype::BF16}) {
    SCOPED_TRACE(to_string(dtype));
    SafetensorsBuilder weights;
    weights.add("m.q.lora_A.weight", dtype, {2, 3}, {1, 2, 3, 4, 5, -6})
        .add("m.q.lora_B.weight", dtype, {4, 2}, {0.5, 2, 3, 4, 5, 6, 7, 8});
    ByteDisk disk = disk_of(lora_config(), weights);
    const auto adapter = open_adapter(disk, "a");
    std::vector<float> u(8);
    std::vector<float> v(6);
    load_factors(*adapter, adapter->updates()[0], {{}, false}, u, v);
    EXPECT_EQ(u, (std::vector<float>{0.5, 2, 3, 4, 5, 6, 7, 8}));
    EXPECT_EQ(v, (std::vector<float>{1, 2, 3, 4, 5, -6}));
    std::vector<float> ut(6);
    std::vector<float> vt(8);
    load_factors(*adapter, adapter->updates()[0], {{}, true}, ut, vt);
    EXPECT_EQ(ut, (std::vector<float>{1, 4, 2, 5, 3, -6}));
    EXPECT_EQ(vt, (std::vector<float>{0.5, 3, 5, 7, 2, 4, 6, 8}));
  }
}

TEST(Adapter, LargeFactorsAreReadInPieces) {
  const std::size_t columns = 30'001;
  std::vector<double> values(2 * columns);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<double>(i % 4099);
  SafetensorsBuilder weights;
  weights.add("m.q.lora_A.weight", Dtype::F32, {2, columns}, values)
      .add("m.q.lora_B.weight", Dtype::F32, {1, 2}, {1, 2});
  ByteDisk disk = disk_of(lora_config(), weights);
  const auto adapter = open_adapter(disk, "a");
  std::vector<float> u(2 * columns);
  std::vector<float> v(2);
  load_factors(*adapter, adapter->updates()[0], {{}, true}, u, v);
  for (std::size_t i = 0; i < values.size(); ++i) {
    ASSERT_EQ(u[i % columns * 2 + i / columns], static_cast<float>(values[i])) << i;
  }
}

TEST(Adapter, NonFiniteFactorsPassThrough) {
  SafetensorsBuilder weights;
  weights.add("m.q.lora_A.weight", Dtype::F16, {1, 2}, {std::nan(""), INFINITY})
      .add("m.q.lora_B.weight", Dtype::BF16, {1, 1}, {-INFINITY});
  ByteDisk disk = disk_of(lora_config(), weights);
  const auto adapter = open_adapter(disk, "a");
  std::vector<float> u(1);
  std::vector<float> v(2);
  load_factors(*adapter, adapter->updates()[0], {{}, false}, u, v);
  EXPECT_EQ(u[0], -INFINITY);
  EXPECT_TRUE(std::isnan(v[0]));
  EXPECT_EQ(v[1], INFINITY);
}

TEST(Adapter, WrongSizesAreInternalErrors) {
  SafetensorsBuilder weights = q_factors();
  weights.add("m.k.bias", Dtype::F32, {2}, {1, 2});
  ByteDisk disk = disk_of(lora_config(), weights);
  const auto adapter = open_adapter(disk, "a");
  std::vector<float> six(6);
  std::vector<float> eight(8);
  const Update& replaced = adapter->updates()[0];
  const Update& low_rank = adapter->updates()[1];
  ASSERT_EQ(low_rank.kind, UpdateKind::LowRank);
  const auto code = [&](const Update& update, bool transposed, std::span<float> u,
                        std::span<float> v) {
    return error_of([&] { load_factors(*adapter, update, {{}, transposed}, u, v); }).code();
  };
  EXPECT_EQ(code(low_rank, false, eight, six), ErrorCode::Internal);
  EXPECT_EQ(code(low_rank, true, six, eight), ErrorCode::Internal);
  EXPECT_EQ(code(replaced, false, six, eight), ErrorCode::Internal);
}

}  // namespace
}  // namespace thorns
