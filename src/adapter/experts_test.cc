#include "adapter/experts.h"

#include <gtest/gtest.h>

#include <string>

#include "support/byte_disk.h"
#include "support/error_of.h"
#include "support/safetensors_builder.h"
#include "thorns/error.h"

namespace thorns {
namespace {

using test::ByteDisk;
using test::error_of;
using test::SafetensorsBuilder;

TEST(Experts, TheVersionOfPeftSaysHowSquareParametersAreStored) {
  const auto of = [](const char* version, const char* model) {
    ExpertFactors factors;
    factors.peft_version = version;
    return factors.orientation(model);
  };
  EXPECT_EQ(of("", "mixtral"), Orientation::Transposed);
  EXPECT_EQ(of("0.18.1", "mixtral"), Orientation::Transposed);
  EXPECT_EQ(of("0.18.1.dev0@abc", ""), Orientation::Transposed);
  EXPECT_EQ(of("0.19.0", "mixtral"), Orientation::Transposed);
  EXPECT_EQ(of("0.19.0", "gpt_oss"), Orientation::Straight);
  EXPECT_EQ(of("0.19.1", "mixtral"), Orientation::Straight);
  EXPECT_EQ(of("0.19.1", "gpt_oss"), Orientation::Transposed);
  EXPECT_EQ(of("0.21.0", "gpt_oss"), Orientation::Transposed);
  EXPECT_EQ(of("1.0", "mixtral"), Orientation::Straight);
  EXPECT_EQ(of("0.19.1", ""), Orientation::Unknown);
}

ByteDisk experts(const std::string& config, std::vector<std::uint64_t> a = {6, 4},
                 std::vector<std::uint64_t> b = {4, 6}) {
  SafetensorsBuilder weights;
  weights.add_bytes("m.experts.lora_A.weight", Dtype::F32, a, std::string(a[0] * a[1] * 4, '\0'));
  weights.add_bytes("m.experts.lora_B.weight", Dtype::F32, b, std::string(b[0] * b[1] * 4, '\0'));
  ByteDisk disk;
  disk.files["a/adapter_config.json"] =
      R"({"peft_type":"LORA","r":2,"target_parameters":["experts.gate_up_proj")" + config;
  disk.files["a/adapter_model.safetensors"] = weights.bytes();
  return disk;
}

TensorInfo info(const char* name, std::vector<std::uint64_t> shape) {
  std::uint64_t elements = 1;
  for (const std::uint64_t dimension : shape) elements *= dimension;
  return {name, Dtype::F32, std::move(shape), elements};
}

TEST(Experts, TheStackGoesBeforeItsParts) {
  ByteDisk disk = experts(R"(],"peft_version":"0.21.0"})");
  const auto adapter = open_adapter(disk, "a");
  const std::vector<TensorInfo> stacked = {info("m.experts.gate_up_proj", {3, 4, 4})};
  FoldTarget target{stacked, "mixtral"};
  const auto whole = resolve(*adapter, target);
  ASSERT_EQ(whole.size(), 1U);
  EXPECT_EQ(whole[0].update->kind, UpdateKind::Generate);
  EXPECT_FALSE(whole[0].base.transposed);

  std::vector<TensorInfo> parts;
  for (const char* name :
       {"m.experts.0.w1.weight", "m.experts.0.w3.weight", "m.experts.1.w1.weight",
        "m.experts.1.w3.weight", "m.experts.2.w1.weight", "m.experts.2.w3.weight"}) {
    parts.push_back(info(name, {2, 4}));
  }
  target.tensors = parts;
  const auto sliced = resolve(*adapter, target);
  ASSERT_EQ(sliced.size(), 6U);
  EXPECT_EQ(sliced[3].tensor, "m.experts.1.w3.weight");
  EXPECT_EQ(sliced[3].update->kind, UpdateKind::LowRank);
  EXPECT_EQ(sliced[3].update->rank, 2U);

  parts.pop_back();
  target.tensors = parts;
  const Error missing = error_of([&] { resolve(*adapter, target); });
  EXPECT_NE(missing.message().find("m.experts.2.w3.weight"), std::string::npos)
      << missing.message();
}

TEST(Experts, ASquareStackNeedsAModelType) {
  ByteDisk disk = experts(R"(],"peft_version":"0.21.0"})");
  const auto adapter = open_adapter(disk, "a");
  const std::vector<TensorInfo> stacked = {info("m.experts.gate_up_proj", {3, 4, 4})};
  const FoldTarget target{stacked, ""};
  const Error error = error_of([&] { resolve(*adapter, target); });
  EXPECT_EQ(error.code(), ErrorCode::Mismatch);
  EXPECT_NE(error.message().find("the model has no model_type"), std::string::npos)
      << error.message();
}

TEST(Experts, WhatDoesNotBelongTogetherIsRefused) {
  ByteDisk two = experts(R"(,"experts.down_proj"]})");
  EXPECT_NE(error_of([&] { open_adapter(two, "a"); })
                .message()
                .find("factors for 1 parameters of `m.experts`, but its target_parameters name 2"),
            std::string::npos);
  ByteDisk odd = experts("]}", {5, 4}, {4, 5});
  EXPECT_NE(error_of([&] { open_adapter(odd, "a"); }).message().find("its rank 2 for every expert"),
            std::string::npos);
}

}  // namespace
}  // namespace thorns
