#include "output/safetensors_header.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "support/output_plan.h"

namespace thorns {
namespace {

std::uint64_t length_of(const std::string& header) {
  std::uint64_t length = 0;
  for (std::size_t i = 8; i-- > 0;) length = length << 8 | static_cast<unsigned char>(header[i]);
  return length;
}

// From the reference implementation's own tests.
TEST(SafetensorsHeader, WithoutPadding) {
  const HeaderEntry entry{"attn.0", Dtype::F32, {1, 2, 3}};
  const std::string header = safetensors_header({&entry, 1}, {});
  EXPECT_EQ(length_of(header), 64U);
  EXPECT_EQ(header.substr(8),
            R"({"attn.0":{"dtype":"F32","shape":[1,2,3],"data_offsets":[0,24]}})");
}

TEST(SafetensorsHeader, WithPadding) {
  const HeaderEntry entry{"attn0", Dtype::F32, {1, 1, 2, 3}};
  const std::string header = safetensors_header({&entry, 1}, {});
  EXPECT_EQ(length_of(header), 72U);
  EXPECT_EQ(header.substr(8), R"({"attn0":{"dtype":"F32","shape":[1,1,2,3],"data_offsets":[0,24]}})"
                              "       ");
}

// Written by the Python package safetensors 0.8.0: every type, a scalar, an empty tensor, and names
// that need escapes. The order is the reference's, so the test holds layout_rank to it too.
TEST(SafetensorsHeader, EqualsTheReferenceWriter) {
  std::vector<HeaderEntry> entries = {
      {"b.bool", Dtype::Bool, {3}},
      {"u8", Dtype::U8, {2}},
      {"i8", Dtype::I8, {1}},
      {"e5m2", Dtype::F8E5M2, {2}},
      {"e4m3", Dtype::F8E4M3, {2}},
      {"i16", Dtype::I16, {1}},
      {"u16", Dtype::U16, {1}},
      {"half.2", Dtype::F16, {1}},
      {"half.10", Dtype::F16, {2, 3}},
      {"bf", Dtype::BF16, {0, 4}},
      {"i32", Dtype::I32, {1}},
      {"u32", Dtype::U32, {1}},
      {"f32", Dtype::F32, {}},
      {"f64", Dtype::F64, {1}},
      {"i64", Dtype::I64, {1}},
      {"u64", Dtype::U64, {1}},
      {"quote\"back\\slash/", Dtype::F32, {1}},
      {"tab\tnl\nbell\adel\x7f", Dtype::F32, {1}},
      {"r\xc3\xb6se", Dtype::F32, {1}},
  };
  std::sort(entries.begin(), entries.end(), [](const HeaderEntry& a, const HeaderEntry& b) {
    const int rank_a = layout_rank(a.dtype);
    const int rank_b = layout_rank(b.dtype);
    return rank_a != rank_b ? rank_a > rank_b : a.name < b.name;
  });
  const std::string expected =
      R"({"__metadata__":{"format":"pt"},)"
      R"("u64":{"dtype":"U64","shape":[1],"data_offsets":[0,8]},)"
      R"("i64":{"dtype":"I64","shape":[1],"data_offsets":[8,16]},)"
      R"("f64":{"dtype":"F64","shape":[1],"data_offsets":[16,24]},)"
      R"("f32":{"dtype":"F32","shape":[],"data_offsets":[24,28]},)"
      R"("quote\"back\\slash/":{"dtype":"F32","shape":[1],"data_offsets":[28,32]},)"
      "\"r\xc3\xb6se\":"
      R"({"dtype":"F32","shape":[1],"data_offsets":[32,36]},)"
      "\"tab\\tnl\\nbell\\u0007del\x7f\":"
      R"({"dtype":"F32","shape":[1],"data_offsets":[36,40]},)"
      R"("u32":{"dtype":"U32","shape":[1],"data_offsets":[40,44]},)"
      R"("i32":{"dtype":"I32","shape":[1],"data_offsets":[44,48]},)"
      R"("bf":{"dtype":"BF16","shape":[0,4],"data_offsets":[48,48]},)"
      R"("half.10":{"dtype":"F16","shape":[2,3],"data_offsets":[48,60]},)"
      R"("half.2":{"dtype":"F16","shape":[1],"data_offsets":[60,62]},)"
      R"("u16":{"dtype":"U16","shape":[1],"data_offsets":[62,64]},)"
      R"("i16":{"dtype":"I16","shape":[1],"data_offsets":[64,66]},)"
      R"("e4m3":{"dtype":"F8_E4M3","shape":[2],"data_offsets":[66,68]},)"
      R"("e5m2":{"dtype":"F8_E5M2","shape":[2],"data_offsets":[68,70]},)"
      R"("i8":{"dtype":"I8","shape":[1],"data_offsets":[70,71]},)"
      R"("u8":{"dtype":"U8","shape":[2],"data_offsets":[71,73]},)"
      R"("b.bool":{"dtype":"BOOL","shape":[3],"data_offsets":[73,76]}})"
      "      ";
  const std::string header = safetensors_header(entries, {{"format", "pt"}});
  EXPECT_EQ(length_of(header), 1176U);
  EXPECT_EQ(header.substr(8), expected);
}

TEST(SafetensorsHeader, OffsetsBeginAnewInEveryShard) {
  const Plan plan = test::small_plan("/models", 2);
  EXPECT_EQ(shard_header(plan, plan.shards[1]).substr(8),
            R"({"__metadata__":{"format":"pt"},"model.embed_tokens.weight":)"
            R"({"dtype":"BF16","shape":[3,2],"data_offsets":[0,12]}}       )");
}

TEST(SafetensorsHeader, EmptyShard) {
  Plan plan;
  EXPECT_EQ(shard_header(plan, {"model.safetensors", 0, 0, 0}).substr(8),
            R"({"__metadata__":{"format":"pt"}})");  // 32 bytes: no padding
}

TEST(SafetensorsIndex, IsSortedAndCountsTensorBytes) {
  const Plan plan = test::small_plan("/models", 2);
  std::string text;
  write_index(plan, [&](std::string_view piece) { text += piece; });
  EXPECT_EQ(text, R"({
  "metadata": {
    "total_size": 40
  },
  "weight_map": {
    "ids": "model-00001-of-00002.safetensors",
    "lm_head.weight": "model-00001-of-00002.safetensors",
    "model.embed_tokens.weight": "model-00002-of-00002.safetensors",
    "model.norm.weight": "model-00001-of-00002.safetensors"
  }
}
)");
}

}  // namespace
}  // namespace thorns
