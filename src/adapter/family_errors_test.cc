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
      {R"("peft_type":"MISS","init_weights":"bat")", {{"miss_block", {4, 8}}}, "none of init_we"},
      {R"("peft_type":"MISS")", {{"miss_block", {2, 4, 4}}}, "block of shape [2, 4, 4]"},
      {R"("peft_type":"MISS")", {{"bone_block", {4, 8}}}, "Bone in an adapter of type MiSS"},
      {R"("peft_type":"OFT")", {{"oft_R.weight", {3, 5}}}, "no square blocks"},
      {R"("peft_type":"OFT","block_share":true)", {{"oft_R.weight", {3, 6}}}, "no square blocks"},
      {R"("peft_type":"OFT")", {{"oft_r", {3, 4, 4}}}, "rotates the outputs"},
      {R"("peft_type":"OFT")", {{"oft_r", {3, 4, 3}}, {"oft_s", {8, 1}}}, "no square blocks"},
      {R"("peft_type":"HRA")", {{"hra_u", {12}}}, "expected a matrix"},
      {R"("peft_type":"BOFT")",
       {{"boft_R", {2, 3, 4, 4}}, {"boft_s", {8, 1}}},
       "butterfly factors of shape [2, 3, 4, 4]"},
      {R"("peft_type":"BOFT")",
       {{"boft_R", {70, 2, 2, 2}}, {"boft_s", {8, 1}}},
       "butterfly factors of shape [70, 2, 2, 2]"},
      {R"("peft_type":"BOFT")", {{"boft_R", {1, 3, 4, 4}}}, "has no boft_s"},
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
      {R"("peft_type":"HRA","r":2)", {{"hra_u", {12, 2}}}, {8, 3, 2, 2}, true, ""},
      {R"("peft_type":"HRA","r":2)", {{"hra_u", {12, 2}}}, {12, 8}, false, "for 12 inputs"},
      {R"("peft_type":"BOFT")",
       {{"boft_R", {2, 2, 4, 4}}, {"boft_s", {8, 1}}},
       {9, 8},
       false,
       "8 outputs and 8 inputs"},
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

}  // namespace
}  // namespace thorns
