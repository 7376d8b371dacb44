#include "output/manifest_reader.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "output/manifest.h"
#include "support/error_of.h"
#include "support/output_plan.h"
#include "support/temp_folder_out.h"

namespace thorns {
namespace {

using test::error_of;

std::string written(const Plan& plan) {
  std::string text;
  ManifestWriter writer(plan, [&](std::string_view piece) { text += piece; });
  writer.begin();
  for (std::size_t i = 0; i < plan.programs.size(); ++i) {
    writer.tensor(i, test::fake_facts(plan.programs[i]));
  }
  std::vector<WrittenFile> files = {{"config.json", 12, std::string(64, 'a')}};
  for (const Shard& shard : plan.shards) files.push_back({shard.file, 99, std::string(64, '0')});
  writer.end(files);
  return text;
}

TEST(ManifestReader, ReadsSeveralAdaptersAsOne) {
  Plan plan = test::small_plan("/home/me", 2);
  Combination how;
  how.rule = *find_combination_rule("dare_ties");
  how.density = 0.25;
  how.by_frequency = true;
  how.seed = 7;
  plan.recipe.nodes[1].node = FoldNode{0, {{0, 0.5}, {0, 1.0}}, how};
  const Manifest manifest = parse_manifest(written(plan), "thorns.json");
  const ManifestNode& node = manifest.nodes[1];
  EXPECT_EQ(node.kind, ManifestNodeKind::CombinedFold);
  EXPECT_EQ(node.models, std::vector<std::size_t>{0});
  EXPECT_EQ(node.adapters, (std::vector<std::size_t>{0, 0}));
  EXPECT_EQ(node.weights, (std::vector<double>{0.5, 1}));
  EXPECT_EQ(node.label, "0.5*Dew+Dew; dare_ties");
  EXPECT_EQ(node.method, "dare_ties");
  EXPECT_EQ(node.majority_sign_method, "frequency");
  ASSERT_EQ(node.settings.size(), 2U);
  EXPECT_EQ(node.settings[0].parameter, "density");
  EXPECT_EQ(node.settings[0].values, std::vector<double>{0.25});
  EXPECT_EQ(node.settings[1].parameter, "seed");
  EXPECT_EQ(node.settings[1].values, std::vector<double>{7});
}

TEST(ManifestReader, ReadsWhatTheWriterWrote) {
  Plan plan = test::small_plan("/home/me", 2);
  plan.recipe.settings.shard_size = 1000;
  plan.recipe.settings.prompt = "alpaca";
  plan.has_tokenizer = true;
  const Manifest manifest = parse_manifest(written(plan), "thorns.json");
  EXPECT_EQ(manifest.key, plan.recipe.key);
  EXPECT_EQ(manifest.published, plan.recipe.published);
  EXPECT_EQ(manifest.settings.shard_size, 1000U);
  EXPECT_EQ(manifest.settings.prompt, "alpaca");
  EXPECT_EQ(manifest.settings.license, "");
  EXPECT_EQ(manifest.root, 3U);
  ASSERT_EQ(manifest.nodes.size(), 4U);
  EXPECT_EQ(manifest.nodes[1].kind, ManifestNodeKind::Fold);
  EXPECT_EQ(manifest.nodes[1].models, std::vector<std::size_t>{0});
  EXPECT_EQ(manifest.nodes[1].weight, 0.5);
  EXPECT_EQ(manifest.nodes[3].method, "slerp");
  EXPECT_EQ(manifest.nodes[3].settings[0].filter, "attn");
  EXPECT_EQ(manifest.nodes[3].settings[0].values, (std::vector<double>{0.25, 0.75}));
  EXPECT_EQ(manifest.leaves[0].architecture, "LlamaForCausalLM");
  EXPECT_EQ(manifest.adapters[0].base_model, "rose");
  EXPECT_EQ(manifest.tokenizer, "Rose");
  EXPECT_EQ(manifest.bytes, 40U);
  ASSERT_EQ(manifest.tensors.size(), 4U);
  const ManifestTensor& last = manifest.tensors[3];
  EXPECT_EQ(last.name, "model.embed_tokens.weight");
  EXPECT_EQ(last.elements, 6U);
  EXPECT_EQ(last.dtype, Dtype::BF16);
  EXPECT_EQ(last.norm, 0.30000000000000004);
  EXPECT_EQ(last.sources[2].label, "Dew: lora_B * lora_A");
  EXPECT_EQ(last.sources[2].coefficient, 0.1);
  EXPECT_EQ(last.sources[1].distance, 0.5);
  EXPECT_EQ(last.sources[2].distance, std::nullopt);
  EXPECT_EQ(last.nodes[0].angle, 1.5707963267948966);
  EXPECT_EQ(last.sampled, 6U);
  EXPECT_EQ(last.changed, 1U);
  EXPECT_EQ(manifest.tensors[0].norm, std::nullopt);
  EXPECT_EQ(manifest.files.size(), 3U);
}

// Every field at its place, once wrong and once missing: always Corrupt, and named.
TEST(ManifestReader, NamesTheFieldThatIsWrong) {
  const Json good = Json::parse(written(test::small_plan("/home/me")));
  const std::vector<std::pair<const char*, Json>> edits = {
      {"/schema", 1},
      {"/program/version", 1},
      {"/recipe/key", nullptr},
      {"/recipe/root", 4},
      {"/recipe/root", -1},
      {"/recipe/settings/shard_size", "5GB"},
      {"/recipe/nodes/0/kind", "bush"},
      {"/recipe/nodes/0/leaf", 2},
      {"/recipe/nodes/1/model", 1},
      {"/recipe/nodes/1/adapter", 1},
      {"/recipe/nodes/3/models", {1, 3}},
      {"/recipe/nodes/3/weights", {1}},
      {"/leaves/0/files/0/name", "../secret"},
      {"/leaves/0/files/0/size", 1.5},
      {"/output/tied", "no"},
      {"/dropped/0/reason", false},
      {"/warnings/0", 7},
      {"/files/0/name", "/etc/passwd"},
      {"/files/1/name", "config.json"},
      {"/files/0/sha256", "abc"},
      {"/tensors/1/name", "ids"},
      {"/tensors/0/kind", "bush"},
      {"/tensors/0/dtype", "F17"},
      {"/tensors/0/file", "model-00009.safetensors"},
      {"/tensors/3/shape", {18446744073709551615U, 2}},
      {"/tensors/3/rounded", 7},
      {"/tensors/3/extra_step/sampled", 7},
      {"/tensors/3/extra_step/changed", 7},
      {"/tensors/3/norm", -1},
      {"/tensors/3/sources/0/norm", "1"},
      {"/tensors/3/nodes/0/node", "{A+B}"},
      {"/tensors/3/nodes/0/angle", "pi"},
      {"/tensors/3/nodes/0/fell_back", 0},
  };
  for (const auto& [place, value] : edits) {
    Json bad = good;
    bad[Json::json_pointer(place)] = value;
    const Error error = error_of([&] { parse_manifest(bad.dump(), "thorns.json"); });
    EXPECT_EQ(error.code(), ErrorCode::Corrupt) << place;
    const std::string last = Json::json_pointer(place).back();
    const bool is_index = last.find_first_not_of("0123456789") == std::string::npos;
    EXPECT_NE(error.message().find(is_index ? "[" + last + "]" : last), std::string::npos)
        << place << ": " << error.message();
    if (is_index) continue;
    bad[Json::json_pointer(place).parent_pointer()].erase(last);
    EXPECT_EQ(error_of([&] { parse_manifest(bad.dump(), "thorns.json"); }).code(),
              ErrorCode::Corrupt)
        << place;
  }
}

TEST(ManifestReader, PassesOverFieldsOfLaterVersions) {
  Json later = Json::parse(written(test::small_plan("/home/me")));
  later["weather"] = "fine";
  later["tensors"][0]["colour"] = {1, 2};
  EXPECT_EQ(parse_manifest(later.dump(), "thorns.json").tensors.size(), 4U);
}

TEST(ManifestReader, RefusesAnotherSchema) {
  Json later = Json::parse(written(test::small_plan("/home/me")));
  later["schema"] = "thorns/manifest/2";
  const Error error = error_of([&] { parse_manifest(later.dump(), "thorns.json"); });
  EXPECT_EQ(error.code(), ErrorCode::Unsupported);
  EXPECT_NE(error.message().find("thorns/manifest/2"), std::string::npos);
}

TEST(ManifestReader, Blocks) {
  Json document = Json::parse(written(test::small_plan("/home/me")));
  Json& tensor = document["tensors"][3];
  tensor["blocks"] = Json::parse(R"([{"rows": [0, 1], "coefficients": [0.5, 0.5, null]},
                                     {"rows": [2, 2], "coefficients": [1, 0, 0]}])");
  const Manifest manifest = parse_manifest(document.dump(), "thorns.json");
  ASSERT_EQ(manifest.tensors[3].blocks.size(), 2U);
  EXPECT_EQ(manifest.tensors[3].blocks[0].coefficients[2], std::nullopt);
  EXPECT_EQ(manifest.tensors[3].blocks[1].last_row, 2U);
  for (const char* wrong : {"[2, 3]", "[1, 0]", "[0]", "[0, 1, 2]"}) {
    tensor["blocks"][1]["rows"] = Json::parse(wrong);
    EXPECT_EQ(error_of([&] { parse_manifest(document.dump(), "thorns.json"); }).code(),
              ErrorCode::Corrupt)
        << wrong;
  }
}

TEST(ManifestReader, FindsTheFolder) {
  const test::OutFolder folder;
  EXPECT_EQ(error_of([&] { read_manifest(real_disk(), folder / "none"); }).code(),
            ErrorCode::NotFound);
  const Error missing = error_of([&] { read_manifest(real_disk(), folder.path()); });
  EXPECT_EQ(missing.code(), ErrorCode::NotFound);
  EXPECT_NE(missing.hint().find("thorns merge"), std::string::npos);
  test::spill(folder / kManifestFile, written(test::small_plan("/home/me")));
  EXPECT_EQ(read_manifest(real_disk(), folder.path()).leaves.size(), 2U);
  test::spill(folder / kManifestFile, "{\"schema\": ");
  EXPECT_EQ(error_of([&] { read_manifest(real_disk(), folder.path()); }).code(),
            ErrorCode::Corrupt);
}

}  // namespace
}  // namespace thorns
