// What families say of tensors that are not theirs, cut off, or for another layer.
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "adapter/adapter.h"
#include "support/byte_disk.h"
#include "support/error_of.h"
#include "support/safetensors_builder.h"

namespace thorns {
namespace {

using Shape = std::vector<std::uint64_t>;
using Tensors = std::vector<std::pair<std::string, Shape>>;  // by what follows "m."

// The adapter reads from `disk`.
std::unique_ptr<Adapter> opened(test::ByteDisk& disk, const std::string& config,
                                const Tensors& tensors) {
  test::SafetensorsBuilder builder;
  for (const auto& [name, shape] : tensors) {
    std::size_t count = 1;
    for (const std::uint64_t dimension : shape) count *= dimension;
    builder.add("base_model.model.m." + name, Dtype::F32, shape, std::vector<double>(count, 0.1));
  }
  disk.files["a/adapter_config.json"] = "{" + config + "}";
  disk.files["a/adapter_model.safetensors"] = builder.bytes();
  return open_adapter(disk, "a");
}

struct WrongCase {
  const char* config;
  Tensors tensors;
  const char* says;
};

TEST(FamilyErrors, AreOneClearSentence) {
  const WrongCase cases[] = {
      {R"("peft_type":"LOHA")",
       {{"hada_w1_a", {4, 2}}, {"hada_w1_b", {3, 6}}},
       "a hada_w1_a of shape [4, 2] and a hada_w1_b of shape [3, 6], which have no product"},
      {R"("peft_type":"LOHA")",
       {{"hada_w1_a", {4, 2}}, {"hada_w1_b", {2, 6}}, {"hada_w2_a", {4, 2}}, {"hada_w2_b", {2, 5}}},
       "two products of different shape for `m`: [4, 6] and [4, 5]"},
      {R"("peft_type":"LOHA")",
       {{"hada_w1_a", {2, 4}}, {"hada_w1_b", {2, 3}}, {"hada_t1", {2, 3, 3}}},
       "for a hada_t1 of shape [2, 3, 3], which have no product"},
      {R"("peft_type":"LOKR")",
       {{"lokr_w1", {2, 2}}, {"lokr_w1_a", {2, 1}}, {"lokr_w2", {3, 3}}},
       "have no part in the update of `m`: base_model.model.m.lokr_w1_a"},
      {R"("peft_type":"LOKR")", {{"lokr_w1", {2, 2}}}, "has no lokr_w2_a for `m`"},
      {R"("peft_type":"LOKR")",
       {{"lokr_w1", {2, 2, 2}}, {"lokr_w2", {3, 3}}},
       "a factor of shape [2, 2, 2], expected a matrix"},
      {R"("peft_type":"HIRA")",
       {{"hira_A", {3, 12}}, {"hira_B", {8, 4}}},
       "hira_A is [3, 12], hira_B is [8, 4]"},
      {R"("peft_type":"SHIRA")",
       {{"shira_weight", {4}}, {"shira_indices", {2, 5}}},
       "a shira_weight of shape [4] for shira_indices of shape [2, 5]"},
      {R"("peft_type":"VERA")",
       {{"vera_A", {2, 4}}, {"vera_lambda_b", {4}}, {"vera_lambda_d", {2}}},
       "holds no vera_B, which all its layers share"},
      {R"("peft_type":"RANDLORA")",
       {{"randlora_lambda", {2, 3}}, {"randlora_gamma", {3, 4}}},
       "holds no randlora_A, which all its layers share"},
      {R"("peft_type":"VERA","projection_prng_key":-1)",
       {{"vera_lambda_b", {4}}, {"vera_lambda_d", {2}}},
       "`projection_prng_key` in"},
      {R"("peft_type":"VERA")",
       {{"vera_A", {2, 4}}, {"vera_B", {3, 2}}, {"vera_lambda_b", {4}}, {"vera_lambda_d", {2}}},
       "too small or of another rank"},
      {R"("peft_type":"RANDLORA")",
       {{"randlora_A", {2, 1, 4}},
        {"randlora_B", {6, 2, 2}},
        {"randlora_lambda", {2, 3}},
        {"randlora_gamma", {3, 4}}},
       "too small or of another rank"},
      {R"("peft_type":"VBLORA","topk":4)",
       {{"vblora_vector_bank", {3, 2}}, {"vblora_logits_A", {1, 2, 3}}},
       "from which 4 cannot be chosen"},
      {R"("peft_type":"IA3")", {{"ia3_l", {1, 4, 1, 1}}}, "`feedforward_modules` in"},
      {R"("peft_type":"IA3")", {{"ia3_l", {2, 4}}}, "an ia3_l of shape [2, 4]"},
      {R"("peft_type":"MISS","init_weights":"bat")", {{"miss_block", {4, 8}}}, "none of init_we"},
      {R"("peft_type":"MISS")", {{"miss_block", {2, 4, 4}}}, "block of shape [2, 4, 4]"},
      {R"("peft_type":"MISS")", {{"bone_block", {4, 8}}}, "Bone in an adapter of type MiSS"},
      {R"("peft_type":"OFT")", {{"oft_R.weight", {3, 5}}}, "no square blocks"},
      {R"("peft_type":"OFT","block_share":true)", {{"oft_R.weight", {3, 6}}}, "no square blocks"},
      {R"("peft_type":"OFT")", {{"oft_r", {3, 4, 4}}}, "rotates the outputs"},
      {R"("peft_type":"OFT")", {{"oft_r", {3, 4, 3}}, {"oft_s", {8, 1}}}, "no square blocks"},
      {R"("peft_type":"FOURIERFT","random_loc_seed":"x")",
       {{"fourierft_spectrum", {9}}},
       "`random_loc_seed` in `a/adapter_config.json` is not a whole number"},
      {R"("peft_type":"HRA")", {{"hra_u", {12}}}, "expected a matrix"},
      {R"("peft_type":"TRAINABLE_TOKENS","token_indices":[1,2,3])",
       {{"trainable_tokens_delta", {2, 5}}},
       "has 2 trained tokens for `m`, and token_indices lists 3"},
      {R"("peft_type":"TRAINABLE_TOKENS","token_indices":[1,-2])",
       {{"trainable_tokens_delta", {2, 5}}},
       "is not a list of token numbers from 0"},
      {R"("peft_type":"LORA","trainable_token_indices":{"n":[1,2]})",
       {{"token_adapter.trainable_tokens_delta", {2, 5}}},
       "is not a list of token numbers for every trained embedding"},
      {R"("peft_type":"LORA","trainable_token_indices":[1,2])",
       {{"token_adapter.trainable_tokens_delta", {2, 5}},
        {"lora_embedding_A", {2, 9}},
        {"lora_embedding_B", {5, 2}}},
       "have no part in the update of `m`"},
      {R"("peft_type":"BOFT")",
       {{"boft_R", {2, 3, 4, 4}}, {"boft_s", {8, 1}}},
       "butterfly factors of shape [2, 3, 4, 4]"},
      {R"("peft_type":"BOFT")",
       {{"boft_R", {70, 2, 2, 2}}, {"boft_s", {8, 1}}},
       "butterfly factors of shape [70, 2, 2, 2]"},
      {R"("peft_type":"BOFT")", {{"boft_R", {1, 3, 4, 4}}}, "has no boft_s"},
      {R"("peft_type":"LORA","use_bdlora":{"nblocks":2,"target_modules_bd_b":["m"]})",
       {{"lora_A.weight", {2, 4}}, {"lora_B.weight", {3, 1}}},
       "a lora_A of [2, 4] and a lora_B of [3, 1], where one should be 2 blocks"},
      {R"("peft_type":"LORA","use_bdlora":{"nblocks":2,"target_modules_bd_b":["k"]})",
       {{"block.v.lora_A.weight", {2, 4}}, {"block.v.lora_B.weight", {3, 1}}},
       "where one should be 2 blocks"},
      {R"("peft_type":"LORA")",
       {{"lora_A.weight", {2, 4, 1}}, {"lora_B.weight", {3, 2, 1}}, {"lora_mid.weight", {2, 3, 5}}},
       "a core of shape [2, 3, 5] for a lora_A of shape [2, 4, 1]"},
      {R"("peft_type":"C3A")", {{"c3a_kernel", {2, 4}}}, "a c3a_kernel of shape [2, 4]"},
      {R"("peft_type":"ROAD","variant":"road_3")",
       {{"road_theta", {4}}, {"road_alpha", {4}}},
       "road_1, road_2 or road_4"},
      {R"("peft_type":"ROAD","variant":"road_2","group_size":4)",
       {{"road_theta", {6}}, {"road_alpha", {6}}},
       "angles of shape [6] and factors of shape [6] for road_2 in groups of 4"},
      {R"("peft_type":"ROAD","group_size":2)",
       {{"road_theta", {2}}, {"road_alpha", {3}}},
       "factors of shape [3]"},
      {R"("peft_type":"OFT")", {{"oft_blocks", {3, 2, 4}}}, "[3, 2, 4], which are no square"},
      {R"("peft_type":"OFT")", {{"oft_blocks", {3, 3, 2, 2}}}, "[3, 3, 2, 2], which are no butter"},
      {R"("peft_type":"OFT")",
       {{"oft_blocks", {3, 2, 2}}, {"rescale", {5}}},
       "factors of shape [5] for 6 outputs"},
      {R"("peft_type":"DELORA")",
       {{"delora_A", {2, 4}}, {"delora_B", {3, 2}}, {"delora_lambda", {1}}, {"delora_w_norm", {3}}},
       "a delora_w_norm of shape [3] for a delora_A of shape [2, 4]"},
      {R"("peft_type":"GRALORA")",
       {{"gralora_A", {2, 4, 3}}, {"gralora_B", {2, 3, 4}}},
       "a gralora_A of shape [2, 4, 3] and a gralora_B of shape [2, 3, 4]"},
      {R"("peft_type":"PVERA")",
       {{"pvera_lambda_b", {4}}, {"pvera_lambda_d", {3}}},
       "a vector of shape [3]"},
      {R"("peft_type":"PVERA")",
       {{"pvera_lambda_b", {4}}, {"pvera_lambda_d", {4}}},
       "holds no pvera_A, which all its layers share"},
  };
  for (const WrongCase& test : cases) {
    SCOPED_TRACE(test.says);
    test::ByteDisk disk;
    const Error error = test::error_of([&] { opened(disk, test.config, test.tensors); });
    EXPECT_NE(error.message().find(test.says), std::string::npos) << error.message();
  }
}

struct FitCase {
  const char* config;
  Tensors tensors;
  Shape model;
  bool fits;
  const char* expected;
};

TEST(FamilyErrors, OfAModelOfAnotherShape) {
  const FitCase cases[] = {
      {R"("peft_type":"LOHA")",
       {{"hada_w1_a", {4, 2}}, {"hada_w1_b", {2, 6}}, {"hada_w2_a", {4, 2}}, {"hada_w2_b", {2, 6}}},
       {6, 4},
       false,
       "is for [4, 6]"},
      {R"("peft_type":"LOKR")", {{"lokr_w1", {2, 2}}, {"lokr_w2", {3, 4}}}, {6, 8}, true, ""},
      {R"("peft_type":"LOKR")",
       {{"lokr_w1", {2, 2}}, {"lokr_w2", {3, 4}}},
       {8, 6},
       false,
       "is for [6, 8]"},
      {R"("peft_type":"HIRA")", {{"hira_A", {2, 6}}, {"hira_B", {4, 2}}}, {6, 4}, true, ""},
      {R"("peft_type":"HIRA")",
       {{"hira_embedding_A", {2, 6}}, {"hira_embedding_B", {4, 2}}},
       {4, 6},
       false,
       "is for [6, 4]"},
      {R"("peft_type":"SHIRA")",
       {{"shira_weight", {4}}, {"shira_indices", {2, 4}}},
       {4},
       false,
       "is for a matrix"},
      {R"("peft_type":"VERA")",
       {{"vera_A", {2, 4}}, {"vera_B", {4, 2}}, {"vera_lambda_b", {4}}, {"vera_lambda_d", {2}}},
       {4, 5},
       false,
       "4 outputs and at most 4 inputs"},
      {R"("peft_type":"RANDLORA")",
       {{"randlora_A", {2, 1, 4}},
        {"randlora_B", {6, 2, 2}},
        {"randlora_lambda", {2, 2}},
        {"randlora_gamma", {2, 4}}},
       {4, 7},
       false,
       "4 by at most 6"},
      {R"("peft_type":"MISS")", {{"miss_block", {4, 8}}}, {8, 6}, true, ""},
      {R"("peft_type":"BONE")", {{"bone_block", {4, 8}}}, {8, 6}, true, ""},
      {R"("peft_type":"MISS")",
       {{"miss_block", {4, 8}}},
       {6, 8},
       false,
       "8 outputs and at least 4"},
      {R"("peft_type":"MISS","init_weights":"mini")",
       {{"miss_block", {4, 2}}},
       {5, 8},
       false,
       "a multiple of 2 outputs"},
      {R"("peft_type":"MISS","init_weights":"bat")",
       {{"miss_block", {2, 4, 4}}},
       {8, 6},
       false,
       "8 outputs and a multiple of 4 inputs"},
      {R"("peft_type":"FOURIERFT")",
       {{"fourierft_spectrum", {9}}},
       {2, 4},
       false,
       "a matrix of at least 9 elements"},
      {R"("peft_type":"HRA","r":2)", {{"hra_u", {12, 2}}}, {8, 3, 2, 2}, true, ""},
      {R"("peft_type":"TRAINABLE_TOKENS","token_indices":[3,9])",
       {{"trainable_tokens_delta", {2, 5}}},
       {9, 5},
       false,
       "at least 10 rows of 5 elements"},
      {R"("peft_type":"HRA","r":2)", {{"hra_u", {12, 2}}}, {12, 8}, false, "for 12 inputs"},
      {R"("peft_type":"BOFT")",
       {{"boft_R", {2, 2, 4, 4}}, {"boft_s", {8, 1}}},
       {9, 8},
       false,
       "8 outputs and 8 inputs"},
      {R"("peft_type":"LORA","use_bdlora":{"nblocks":2,"target_modules_bd_a":["m"]})",
       {{"lora_A.weight", {2, 4}}, {"lora_B.weight", {3, 2}}},
       {3, 4},
       false,
       "is for [3, 8]"},
      {R"("peft_type":"LORA")",
       {{"lora_A.weight", {2, 4, 1}}, {"lora_B.weight", {3, 2, 1}}, {"lora_mid.weight", {2, 2, 5}}},
       {3, 4, 5},
       true,
       ""},
      {R"("peft_type":"ADALORA")",
       {{"lora_A", {2, 12}}, {"lora_B", {3, 2}}, {"lora_E", {2, 1}}},
       {3, 4, 3},
       true,
       ""},
      {R"("peft_type":"C3A")", {{"c3a_kernel", {2, 3, 4}}}, {12, 8}, false, "is for [8, 12]"},
      {R"("peft_type":"ROAD","group_size":4)",
       {{"road_theta", {4}}, {"road_alpha", {4}}},
       {12, 8},
       false,
       "is for 8 outputs"},
      {R"("peft_type":"GRALORA")",
       {{"gralora_A", {2, 4, 2}}, {"gralora_B", {2, 2, 3}}},
       {8, 6},
       true,  // of a Conv1D
       ""},
      {R"("peft_type":"BEFT")", {{"beft_bias", {1, 4}}}, {4, 6}, false, "m.bias"},
      {R"("peft_type":"OFT")", {{"oft_R.weight", {3, 6}}}, {8, 12}, true, ""},
      {R"("peft_type":"OFT")", {{"oft_R.weight", {3, 6}}}, {8, 3, 2, 2}, true, ""},
      {R"("peft_type":"OFT")", {{"oft_R.weight", {3, 6}}}, {12, 8}, false, "for 12 inputs"},
      {R"("peft_type":"OFT","block_share":true)",
       {{"oft_R.weight", {1, 6}}},
       {12, 10},
       false,
       "a multiple of 4 inputs"},
      {R"("peft_type":"OFT")",
       {{"oft_r", {3, 4, 4}}, {"oft_s", {8, 1}}},
       {9, 12},
       false,
       "8 outputs and 12 inputs"},
  };
  for (const FitCase& test : cases) {
    test::ByteDisk disk;
    const auto adapter = opened(disk, test.config, test.tensors);
    TensorInfo info{"m.weight", Dtype::BF16, test.model, 1};
    for (const std::uint64_t dimension : test.model) info.elements *= dimension;
    FoldTarget target;
    target.tensors = {&info, 1};
    if (test.fits) {
      EXPECT_EQ(resolve(*adapter, target).size(), adapter->updates().size());
      continue;
    }
    SCOPED_TRACE(test.expected);
    const Error error = test::error_of([&] { resolve(*adapter, target); });
    EXPECT_EQ(error.code(), ErrorCode::Mismatch);
    EXPECT_NE(error.message().find(test.expected), std::string::npos) << error.message();
  }
}

// What only the numbers show is said when they are loaded.
TEST(FamilyErrors, ReflectionsNeedAPlane) {
  const std::vector<double> pair = {1, 2, 2, 4, 3, 6};  // the second column is twice the first
  const std::vector<double> zero = {1, 0, 2, 0, 3, 0};
  const std::pair<std::vector<double>, const char*> cases[] = {{pair, "depends on those before it"},
                                                               {zero, "is zero"}};
  for (const auto& [numbers, says] : cases) {
    test::SafetensorsBuilder builder;
    builder.add("base_model.model.m.hra_u", Dtype::F32, {3, 2}, numbers);
    test::ByteDisk disk;
    disk.files["a/adapter_config.json"] = R"({"peft_type":"HRA","r":2,"apply_GS":true})";
    disk.files["a/adapter_model.safetensors"] = builder.bytes();
    const auto adapter = open_adapter(disk, "a");
    const auto& change = static_cast<const MapChange&>(*adapter->updates()[0].change);
    const Error error = test::error_of([&] { change.load(adapter->source(), {{2, 3}}); });
    EXPECT_EQ(error.code(), ErrorCode::Corrupt);
    EXPECT_NE(error.message().find("column 1 of `base_model.model.m.hra_u`"), std::string::npos);
    EXPECT_NE(error.message().find(says), std::string::npos) << error.message();
  }
}

// What only the numbers show, when the tensor's turn comes.
TEST(FamilyErrors, OfNumbersThatPointNowhere) {
  const auto message = [](const std::string& config, test::SafetensorsBuilder builder) {
    test::ByteDisk disk;
    disk.files["a/adapter_config.json"] = "{" + config + "}";
    disk.files["a/adapter_model.safetensors"] = builder.bytes();
    const auto adapter = open_adapter(disk, "a");
    const Update& update = adapter->updates().at(0);
    const BaseTensor base{{4, 6}};
    std::vector<float> u(4 * update.rank);
    std::vector<float> v(update.rank * 6);
    return test::error_of([&] {
             if (update.kind == UpdateKind::LowRank) {
               load_factors(*adapter, update, base, u, v);
             } else {
               dynamic_cast<const DeltaChange&>(*update.change).load(adapter->source(), base);
             }
           })
        .message();
  };
  const auto shira = [&](Dtype dtype, double row, double column) {
    test::SafetensorsBuilder builder;
    builder.add("m.shira_indices", dtype, {2, 2}, {3, row, 5, column})
        .add("m.shira_weight", Dtype::F32, {2}, {1, 1});
    return message(R"("peft_type":"SHIRA")", builder);
  };
  EXPECT_NE(shira(Dtype::I32, 4, 0).find("names the element (4, 0) of a weight of shape [4, 6]"),
            std::string::npos);
  EXPECT_NE(shira(Dtype::I64, 0, 6).find("(0, 6)"), std::string::npos);
  EXPECT_NE(shira(Dtype::I32, -1, 0).find("holds -1, which is no index"), std::string::npos);
  EXPECT_NE(shira(Dtype::F32, 0.5, 0).find("holds 0.5, which is no index"), std::string::npos);

  test::SafetensorsBuilder builder;
  builder.add("base_model.vblora_vector_bank", Dtype::F32, {3, 2}, {1, 2, 3, 4, 5, 6})
      .add("m.vblora_logits_A_topk_indices", Dtype::U8, {1, 3, 2}, {0, 1, 2, 0, 1, 3})
      .add("m.vblora_logits_A_topk_weights", Dtype::F32, {1, 3, 1}, {0.5, 0.5, 0.5})
      .add("m.vblora_logits_B", Dtype::F32, {2, 1, 3}, {1, 2, 3, 4, 5, 6});
  EXPECT_NE(message(R"("peft_type":"VBLORA")", builder).find("names vector 3 of a bank of 3"),
            std::string::npos);
}

}  // namespace
}  // namespace thorns
