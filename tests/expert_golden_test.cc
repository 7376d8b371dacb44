// LoRA on the experts of tiny models, against what PEFT and transformers make of them
// (tests/fixtures/make_experts.py).
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "support/golden_fold.h"

namespace thorns {
namespace {

class ExpertGolden : public testing::TestWithParam<const char*> {};

TEST_P(ExpertGolden, EqualsPeft) {
  const std::string folder = std::string(THORNS_TEST_DATA) + "/golden/experts/" + GetParam();
  const test::Numbers base = test::numbers_of(folder + "/base/model.safetensors");
  const test::Numbers expected = test::numbers_of(folder + "/expected.safetensors");
  const test::Numbers got = test::folded(folder + "/base", folder + "/adapter");
  test::expect_near(got, expected, 2e-6);
  for (const auto& [name, values] : got) {
    const bool expert = name.find(".experts.") != name.npos && name.find("_bias") == name.npos;
    if (expert) {
      EXPECT_NE(values, base.at(name)) << name;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Peft, ExpertGolden,
                         testing::Values("mixtral", "mixtral_all", "qwen3_moe", "qwen3_moe_all",
                                         "gpt_oss"));

}  // namespace
}  // namespace thorns
