// LoRA on the experts of tiny models, against what PEFT and transformers make of them
// (tests/fixtures/make_experts.py).
#include <gtest/gtest.h>

#include <string>

#include "checkpoint/weights_file.h"
#include "support/temp_folder.h"
#include "thorns/thorns.h"

namespace thorns {
namespace {

std::vector<float> floats_of(const TensorSource& source, std::size_t tensor) {
  std::vector<float> values(source.tensors()[tensor].elements);
  source.read(tensor, 0, std::as_writable_bytes(std::span(values)));
  return values;
}

class ExpertGolden : public testing::TestWithParam<const char*> {};

TEST_P(ExpertGolden, EqualsPeft) {
  const std::string folder = std::string(THORNS_TEST_DATA) + "/golden/experts/" + GetParam();
  const test::TempFolder out;
  MergeOptions options;
  options.recipe = "M[L]";
  options.inputs.models = {{"M", folder + "/base"}};
  options.inputs.adapters = {{"L", folder + "/adapter"}};
  options.output = out / "merged";
  Observer silent;
  merge(options, silent);
  const auto base = open_weights(real_disk(), folder + "/base/model.safetensors");
  const auto expected = open_weights(real_disk(), folder + "/expected.safetensors");
  const auto got = open_weights(real_disk(), out / "merged/model.safetensors");
  ASSERT_EQ(got->tensors().size(), expected->tensors().size());
  for (std::size_t i = 0; i < got->tensors().size(); ++i) {
    const TensorInfo& info = got->tensors()[i];
    ASSERT_EQ(info.name, expected->tensors()[i].name);
    const std::vector<float> right = floats_of(*expected, i);
    const std::vector<float> values = floats_of(*got, i);
    ASSERT_EQ(values.size(), right.size());
    for (std::size_t k = 0; k < right.size(); ++k) {
      ASSERT_NEAR(values[k], right[k], 2e-6) << info.name << " " << k;
    }
    const bool expert =
        info.name.find(".experts.") != info.name.npos && info.name.find("_bias") == info.name.npos;
    if (expert) {
      EXPECT_NE(values, floats_of(*base, i)) << info.name;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Peft, ExpertGolden, testing::Values("mixtral", "qwen3_moe", "gpt_oss"));

}  // namespace
}  // namespace thorns
