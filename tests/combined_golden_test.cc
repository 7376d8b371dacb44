// Several adapters as one, against what PEFT's add_weighted_adapter makes of them
// (tests/fixtures/combine_adapters.py).
#include <gtest/gtest.h>

#include <string>

#include "adapter/numbers.h"
#include "base/disk.h"
#include "checkpoint/config.h"
#include "checkpoint/weights_file.h"
#include "support/error_of.h"
#include "support/safetensors_builder.h"
#include "support/temp_folder.h"
#include "thorns/thorns.h"

namespace thorns {
namespace {

const std::string kFolder = std::string(THORNS_TEST_DATA) + "/golden/combined";
const std::string kPeft = std::string(THORNS_TEST_DATA) + "/golden/peft/folded/";

void merge_key(const std::string& key, const std::string& output) {
  MergeOptions options;
  options.recipe = key;
  options.inputs.models = {{"M", kFolder + "/base"}};
  options.inputs.paths = {kFolder, kPeft};
  options.output = output;
  Observer silent;
  merge(options, silent);
}

std::vector<std::vector<double>> merged(const std::string& key) {
  const test::TempFolder out;
  merge_key(key, out / "merged");
  const auto source = open_weights(real_disk(), out / "merged/model.safetensors");
  std::vector<std::vector<double>> tensors;
  for (std::size_t i = 0; i < source->tensors().size(); ++i) {
    tensors.push_back(read_numbers(*source, i));
  }
  return tensors;
}

TEST(CombinedGolden, EqualsPeft) {
  const Json keys = read_json_file(real_disk(), kFolder + "/keys.json");
  EXPECT_EQ(keys.size(), 11U);
  for (const auto& [name, key] : keys.items()) {
    SCOPED_TRACE(name);
    const auto expected = open_weights(real_disk(), kFolder + "/" + name + ".safetensors");
    const auto got = merged(key.get<std::string>());
    ASSERT_EQ(got.size(), expected->tensors().size());
    for (std::size_t i = 0; i < got.size(); ++i) {
      const std::vector<double> right = read_numbers(*expected, i);
      ASSERT_EQ(got[i].size(), right.size());
      for (std::size_t k = 0; k < right.size(); ++k) {
        ASSERT_NEAR(got[i][k], right[k], 2e-6) << expected->tensors()[i].name << " " << k;
      }
    }
  }
}

TEST(CombinedGolden, CatIsTheFoldOfOneAfterTheOther) {
  const auto one = merged("M[0.7*L+-0.3*K+J; cat]");
  const auto other = merged("M[0.7*L+-0.3*K+J]");
  for (std::size_t i = 0; i < one.size(); ++i) {
    for (std::size_t k = 0; k < one[i].size(); ++k) ASSERT_NEAR(one[i][k], other[i][k], 1e-6);
  }
}

TEST(CombinedGolden, RandomPruningFollowsTheSeed) {
  for (const std::string method : {"dare_linear", "dare_ties", "dare_linear_svd"}) {
    SCOPED_TRACE(method);
    const auto key = [&](const std::string& rest) {
      return "M[L+K; " + method + ", " + rest + "]";
    };
    const auto first = merged(key("density=0.5"));
    EXPECT_EQ(first, merged(key("density=0.5, seed=0")));
    EXPECT_NE(first, merged(key("density=0.5, seed=1")));
  }
  EXPECT_EQ(merged("M[L+K; dare_linear, density=1]"), merged("M[L+K; linear]"));
}

TEST(CombinedGolden, InARecipeFileAndUnderAMerge) {
  const test::TempFolder out;
  test::write_file(out / "r.yaml",
                   "models:\n  M: " + kFolder + "/base\nadapters:\n  L: " + kFolder +
                       "/L\n  K: " + kFolder +
                       "/K\nlet:\n  Both: \"M[L+0.5*K; ties, density=0.5]\"\nkey: \"{Both+M}\"\n");
  MergeOptions options;
  options.recipe = out / "r.yaml";
  options.output = out / "merged";
  Observer silent;
  merge(options, silent);
  const auto source = open_weights(real_disk(), out / "merged/model.safetensors");
  const auto other = merged("{M[1*L+0.5*K;ties,density=0.5]+M}");
  for (std::size_t i = 0; i < other.size(); ++i) EXPECT_EQ(read_numbers(*source, i), other[i]);
}

TEST(CombinedGolden, WhatCannotBeCombinedIsSaid) {
  struct Case {
    const char* key;
    ErrorCode code;
    const char* message;
    const char* hint;
  };
  const Case cases[] = {
      {"M[L+J; linear]", ErrorCode::Mismatch,
       "linear needs factors of one rank: that of `emb` is 4 in `L` and 2 in `J`",
       "`cat` and `svd`"},
      {"M[L+J; ties, density=1]", ErrorCode::Mismatch, "ties needs factors of one rank",
       "`ties_svd`"},
      {"M[L+dora_linear/adapter; cat]", ErrorCode::Unsupported,
       "`dora_linear/adapter` is DoRA, and cat combines the factors of plain LoRA alone",
       "one after the other"},
      {"M[L+ia3_out_lin/adapter; svd]", ErrorCode::Unsupported, "is IA3", "one after the other"},
      {"M[L+lora_modules_to_save/adapter; cat]", ErrorCode::Unsupported,
       "`lora_modules_to_save/adapter` does more to", "one after the other"},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.key);
    const test::TempFolder out;
    const Error error = test::error_of([&] { merge_key(c.key, out / "merged"); });
    EXPECT_EQ(error.code(), c.code);
    EXPECT_NE(error.message().find(c.message), std::string::npos) << error.message();
    EXPECT_NE(error.hint().find(c.hint), std::string::npos) << error.hint();
  }
}

TEST(CombinedGolden, AModuleHasOneShape) {
  const test::TempFolder place;
  test::SafetensorsBuilder narrow;
  narrow.add_bytes("base_model.model.lin.lora_A.weight", Dtype::F32, {4, 5}, std::string(80, '\0'));
  narrow.add_bytes("base_model.model.lin.lora_B.weight", Dtype::F32, {8, 4},
                   std::string(128, '\0'));
  narrow.write(place / "adapter_model.safetensors");
  test::write_file(place / "adapter_config.json", R"({"peft_type": "LORA", "r": 4})");
  const Error error =
      test::error_of([&] { merge_key("M[L+\"" + place.path() + "\"; cat]", place / "merged"); });
  EXPECT_EQ(error.code(), ErrorCode::Mismatch);
  EXPECT_NE(error.message().find("`lin` is [8, 12] in one and [8, 5] in the other"),
            std::string::npos)
      << error.message();
}

}  // namespace
}  // namespace thorns
