// Adapters of the LyCORIS library against its own merge (tests/fixtures/make_lycoris.py).
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "support/golden_fold.h"

namespace thorns {
namespace {

class LycorisGolden : public testing::TestWithParam<const char*> {};

TEST_P(LycorisGolden, EqualsItsOwnMerge) {
  const std::string folder = std::string(THORNS_TEST_DATA) + "/golden/lycoris/";
  const std::string name = folder + GetParam();
  const test::Numbers base = test::numbers_of(folder + "base.safetensors");
  const test::Numbers expected = test::numbers_of(name + "/expected.safetensors");
  const test::Numbers got =
      test::folded(folder + "base.safetensors", name + "/adapter.safetensors");
  ASSERT_EQ(got.size(), expected.size());
  for (const auto& [tensor, right] : expected) {
    const std::vector<double>& values = got.at(tensor);
    ASSERT_EQ(values.size(), right.size());
    for (std::size_t k = 0; k < right.size(); ++k) {
      ASSERT_NEAR(values[k], right[k], 2e-6) << tensor << " " << k;
    }
    EXPECT_EQ(values == base.at(tensor), tensor.ends_with("bias")) << tensor;
  }
}

INSTANTIATE_TEST_SUITE_P(Lycoris, LycorisGolden,
                         testing::Values("locon", "locon_dora", "loha", "lokr", "lokr_whole", "oft",
                                         "oft_bound", "boft", "boft_bound"));

}  // namespace
}  // namespace thorns
